//! Selects the archive for this machine from those that GitHub offers.

use super::error::Error;
use super::version::RunnerVersion;
use crate::github::Application;
use crate::host::{Arch, Os, Platform};

/// The archive to take.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The archive. Its format is determined by its `filename` and not by its URL.
    pub application: Application,
    /// Its version; `None` if it is neither in its name nor in its URL.
    pub version: Option<RunnerVersion>,
    /// A note for the user.
    pub note: Option<&'static str>,
}

/// Selects the archive with exactly this operating system and architecture: the newest, or the `requested` version.
pub fn choose(
    offered: &[Application],
    platform: Platform,
    requested: Option<&RunnerVersion>,
) -> Result<Choice, Error> {
    let (os, architecture) = (platform.os.to_string(), platform.arch.to_string());
    let mut fitting: Vec<(Option<RunnerVersion>, &Application)> = offered
        .iter()
        .filter(|one| one.os == os && one.architecture == architecture)
        .map(|one| (version_of(one), one))
        .collect();
    if fitting.is_empty() {
        let mut offered: Vec<String> = offered.iter().map(described).collect();
        offered.sort();
        return Err(Error::NotOffered { platform: platform.to_string(), offered });
    }
    // The newest is last, and of equal versions the one with a checksum.
    fitting.sort_by_key(|(version, one)| (*version, one.sha256_checksum.is_some()));
    let chosen = match requested {
        None => fitting.last(),
        Some(requested) => fitting.iter().rfind(|(version, _)| version.as_ref() == Some(requested)),
    };
    match (chosen, requested) {
        (Some((version, application)), _) => {
            Ok(Choice { application: (*application).clone(), version: *version, note: note(platform) })
        }
        (None, Some(requested)) => Err(Error::VersionNotOffered {
            requested: *requested,
            platform: platform.to_string(),
            offered: fitting.iter().rev().map(|(version, one)| shown(*version, one)).collect(),
        }),
        (None, None) => Err(Error::NotOffered { platform: platform.to_string(), offered: Vec::new() }),
    }
}

/// The version of an archive, from its name, or from its URL if the name has none.
#[must_use]
pub fn version_of(application: &Application) -> Option<RunnerVersion> {
    RunnerVersion::find_in(&application.filename)
        .or_else(|| RunnerVersion::find_in(application.download_url.path()))
}

/// The name of the archive of a version; without one, what it would begin with.
#[must_use]
pub fn file_name(platform: Platform, version: Option<RunnerVersion>) -> String {
    let form = if platform.os == Os::Win { "zip" } else { "tar.gz" };
    let version = version.map(|version| format!("-{version}.{form}")).unwrap_or_default();
    format!("actions-runner-{platform}{version}")
}

fn shown(version: Option<RunnerVersion>, application: &Application) -> String {
    version.map_or_else(|| application.filename.clone(), |version| version.to_string())
}

fn described(application: &Application) -> String {
    let version = shown(version_of(application), application);
    format!("{}-{} {version}", application.os, application.architecture)
}

fn note(platform: Platform) -> Option<&'static str> {
    (platform == Platform { os: Os::Linux, arch: Arch::Arm })
        .then_some("GitHub has deprecated runners for 32-bit ARM and will end their support")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Failure};

    const LINUX: Platform = Platform { os: Os::Linux, arch: Arch::X64 };

    fn documented() -> Vec<Application> {
        serde_json::from_str(include_str!("../../tests/fixtures/downloads.json")).unwrap()
    }

    fn offer(os: &str, architecture: &str, path: &str, filename: &str, sha256: &str) -> Application {
        serde_json::from_value(serde_json::json!({
            "os": os, "architecture": architecture, "filename": filename,
            "download_url": format!("https://10.1.2.3/{path}"), "sha256_checksum": sha256,
        }))
        .unwrap()
    }

    #[test]
    fn every_documented_platform_is_found_wherever_it_stands() {
        let mut list = documented();
        for _ in 0..list.len() {
            list.rotate_left(1);
            for (os, arch, name) in [
                (Os::Linux, Arch::X64, "actions-runner-linux-x64-2.277.1.tar.gz"),
                (Os::Linux, Arch::Arm64, "actions-runner-linux-arm64-2.277.1.tar.gz"),
                (Os::Linux, Arch::Arm, "actions-runner-linux-arm-2.277.1.tar.gz"),
                (Os::Osx, Arch::X64, "actions-runner-osx-x64-2.277.1.tar.gz"),
                (Os::Win, Arch::X64, "actions-runner-win-x64-2.277.1.zip"),
            ] {
                let choice = choose(&list, Platform { os, arch }, None).unwrap();
                assert_eq!(choice.application.filename, name);
                assert_eq!(choice.version, Some(RunnerVersion::new(2, 277, 1)));
                assert_eq!(choice.note.is_some(), arch == Arch::Arm);
            }
        }
    }

    #[test]
    fn the_newest_is_taken_unless_one_is_requested() {
        let list = [
            offer("linux", "x64", "agent/linux-x64/2.317.0", "runner.tar.gz", ""),
            offer("linux", "x64", "x", "runner.tar.gz", ""),
            offer("linux", "x64", "x", "r-2.99.9.tar.gz", ""),
            offer("linux", "x64", "mirror", "r-2.317.0.tar.gz", "00"),
            offer("haiku", "x64", "x", "r-3.0.0.tar.gz", ""),
        ];
        let choice = choose(&list, LINUX, None).unwrap();
        assert_eq!(choice.version, Some(RunnerVersion::new(2, 317, 0)));
        assert_eq!(choice.application.sha256_checksum.as_deref(), Some("00"));
        let pinned = choose(&list, LINUX, Some(&RunnerVersion::new(2, 99, 9))).unwrap();
        assert_eq!(pinned.application.filename, "r-2.99.9.tar.gz");

        let error = choose(&list, LINUX, Some(&RunnerVersion::new(2, 1, 0))).unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        assert_eq!(
            error.to_string(),
            "GitHub offers no runner 2.1.0 for linux-x64, only 2.317.0, 2.317.0, 2.99.9, runner.tar.gz"
        );
    }

    #[test]
    fn what_was_on_offer_is_said() {
        let error = choose(&documented(), Platform { os: Os::Osx, arch: Arch::Arm64 }, None).unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        assert_eq!(
            error.to_string(),
            "GitHub offers no runner for osx-arm64, only linux-arm 2.277.1, linux-arm64 2.277.1, linux-x64 2.277.1, \
             osx-x64 2.277.1, win-x64 2.277.1"
        );
        let error = choose(&[], LINUX, None).unwrap_err();
        assert_eq!(error.to_string(), "GitHub offers no runner for linux-x64, or for any other platform");
    }
}
