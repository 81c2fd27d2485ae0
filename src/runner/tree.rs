//! Detects GitHub's runner in a directory, and its version, without running it.
//!
//! `bin/Runner.Listener --version` would create log files as the current user, which the runner's user could not write
//! afterwards; and as root it would run a program that a job may have replaced.

use super::error::Error;
use super::version::{REGISTRATION_FLOOR, RunnerVersion};
use crate::host::delete::LOST_AND_FOUND;
use crate::host::file::read_untrusted_in;
use crate::host::{self, Arch, Os, Platform};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The most that is read; the real file has a few hundred kilobytes.
const MANIFEST_LIMIT: u64 = 2 * 1024 * 1024;
/// The most that is read; the real file has one kilobyte.
const SCRIPT_LIMIT: u64 = 64 * 1024;

/// The result of inspecting a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeReport {
    /// Required files that are missing, relative to the directory.
    pub missing: Vec<String>,
    /// Required programs that are not executable.
    pub not_executable: Vec<String>,
    /// The version in the dependency manifest; `None` if it is missing or has none.
    pub version: Option<RunnerVersion>,
    /// Whether the runner has updated itself: then `bin` and `externals` are links, and the tree cannot be moved.
    pub self_updated: bool,
}

impl TreeReport {
    /// Whether this is a complete runner.
    #[must_use]
    pub fn is_runner(&self) -> bool {
        self.missing.is_empty() && self.not_executable.is_empty()
    }
}

impl TreeReport {
    /// What is wrong with it, as short phrases.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|path| format!("no {path}"));
        missing.chain(self.not_executable.iter().map(|path| format!("{path} not executable"))).collect()
    }
}

/// Inspects the directory `dir` for a runner of `platform`. An empty or missing directory is a report, not an error.
pub fn inspect(dir: &Path, platform: Platform) -> Result<TreeReport, Error> {
    let parts = [
        ("bin", resolve(dir, "bin")?),
        ("externals", resolve(dir, "externals")?),
        ("", Directory::Real(dir.into())),
    ];
    let path_of =
        |name: &str| parts.iter().find(|(known, _)| *known == name).and_then(|(_, found)| found.path());
    let version = path_of("bin").map(version).transpose()?.flatten();

    let mut report = TreeReport {
        missing: Vec::new(),
        not_executable: Vec::new(),
        version,
        self_updated: parts.iter().any(|(_, part)| matches!(part, Directory::Linked(_))),
    };
    let mut required = required(platform, version);
    if platform.os != Os::Win
        && let Some(node) = path_of("bin").map(node_of_the_service).transpose()?.flatten()
    {
        let node = Required { dir: "externals", path: format!("{node}/bin/node"), runs: true };
        if !required.contains(&node) {
            required.push(node);
        }
    }
    for one in required {
        let shown = if one.dir.is_empty() { one.path.clone() } else { format!("{}/{}", one.dir, one.path) };
        let found = path_of(one.dir).map(|dir| regular(&dir.join(&one.path))).transpose()?.flatten();
        match found {
            None => report.missing.push(shown),
            Some(meta) if one.runs && !is_executable(&meta) => report.not_executable.push(shown),
            Some(_) => {}
        }
    }
    Ok(report)
}

enum Directory {
    Missing,
    Real(PathBuf),
    /// A link to `bin.2.336.0` next to it, as after the runner's self-update.
    Linked(PathBuf),
}

impl Directory {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Missing => None,
            Self::Real(path) | Self::Linked(path) => Some(path),
        }
    }
}

/// Resolves `dir/name`. A link must lead to a real directory next to it with a name that the runner's self-update uses;
/// any other is refused.
fn resolve(dir: &Path, name: &str) -> Result<Directory, Error> {
    let path = dir.join(name);
    let Some(meta) = look(&path)? else { return Ok(Directory::Missing) };
    if !meta.is_symlink() {
        return Ok(if meta.is_dir() { Directory::Real(path) } else { Directory::Missing });
    }
    let target = fs_err::read_link(&path)?;
    let beside = match (target.parent(), target.is_absolute()) {
        (Some(parent), true) => parent == dir || fs_err::canonicalize(dir)? == parent,
        (Some(parent), false) => parent.as_os_str().is_empty(),
        (None, _) => false,
    };
    let version = target.file_name().and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('.'));
    if let (true, Some(_)) = (beside, version)
        && let Some(file) = target.file_name()
    {
        let real = dir.join(file);
        if look(&real)?.is_some_and(|meta| meta.is_dir()) {
            return Ok(Directory::Linked(real));
        }
    }
    Err(Error::LinkedOut { path, target })
}

#[derive(Debug, PartialEq, Eq)]
struct Required {
    /// `bin`, `externals`, or empty for the runner's directory.
    dir: &'static str,
    path: String,
    runs: bool,
}

/// The files that a runner needs.
fn required(platform: Platform, version: Option<RunnerVersion>) -> Vec<Required> {
    let one = |dir, path: &str, runs| Required { dir, path: path.to_owned(), runs };
    let mut list = if platform.os == Os::Win {
        vec![
            one("", "config.cmd", false),
            one("", "run.cmd", false),
            one("bin", "Runner.Listener.exe", false),
            one("bin", "Runner.Worker.exe", false),
        ]
    } else {
        vec![
            one("", "config.sh", true),
            one("", "run.sh", true),
            one("bin", "Runner.Listener", true),
            one("bin", "Runner.Worker", true),
            one("bin", "runsvc.sh", true),
        ]
    };
    // All versions that can register have it, except for 32-bit ARM. It was once missing in an official image.
    if version.is_some_and(|version| version >= REGISTRATION_FLOOR) && platform.arch != Arch::Arm {
        let node = if platform.os == Os::Win { "node24/bin/node.exe" } else { "node24/bin/node" };
        list.push(one("externals", node, platform.os != Os::Win));
    }
    list
}

/// The Node.js with which `runsvc.sh` starts the service: `node20`. Its name is in the script and differs by version.
fn node_of_the_service(bin: &Path) -> Result<Option<String>, Error> {
    let Some(script) = read_optional(bin, "runsvc.sh", SCRIPT_LIMIT)? else { return Ok(None) };
    let script = String::from_utf8_lossy(&script);
    let node = script
        .split("externals/")
        .skip(1)
        .find_map(|after| after.split_once("/bin/node"))
        .map(|(node, _)| node);
    Ok(node.filter(|node| node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).map(str::to_owned))
}

/// The version in the runner's own dependency manifest.
fn version(bin: &Path) -> Result<Option<RunnerVersion>, Error> {
    let Some(manifest) = read_optional(bin, "Runner.Listener.deps.json", MANIFEST_LIMIT)? else {
        return Ok(None);
    };
    // The text is searched and not parsed, because the key is below the name of the platform.
    let manifest = String::from_utf8_lossy(&manifest);
    Ok(manifest
        .split("\"Runner.Listener/")
        .skip(1)
        .find_map(|after| after.split_once('"'))
        .and_then(|(version, _)| version.parse().ok()))
}

/// The metadata of a file that a job may have replaced: anything but a regular file counts as missing.
fn read_optional(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match read_untrusted_in(dir, name, limit) {
        Err(
            host::Error::SymbolicLink { .. } | host::Error::NotAFile { .. } | host::Error::TooLarge { .. },
        ) => Ok(None),
        other => Ok(other?),
    }
}

/// The files of a runner's directory from the archive, and from its own scripts.
const OWN: [&str; 14] = [
    LOST_AND_FOUND,
    "bin",
    "externals",
    "config.sh",
    "config.cmd",
    "run.sh",
    "run.cmd",
    "env.sh",
    "safe_sleep.sh",
    "run-helper.sh.template",
    "run-helper.cmd.template",
    ".credential_store",
    ".proxy",
    super::environment::CA_BUNDLE,
];

/// The names in the directory of a runner that are not part of a runner; `work` is the name of its work directory.
pub fn others(dir: &Path, work: Option<&str>) -> Result<Vec<String>, Error> {
    let mut others = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let own = OWN.contains(&&*name)
            || super::state::personal_files().any(|own| own == name)
            || work == Some(&*name)
            // Files of its updates, and the archive from which it was unpacked by hand.
            || ["bin.", "externals.", "actions-runner-"].iter().any(|start| name.starts_with(start));
        if !own {
            others.push(name.chars().filter(|c| !c.is_control()).collect());
        }
    }
    others.sort();
    Ok(others)
}

/// The first of the files that `config.sh` runs or reads in the directory that users other than root can write to.
#[cfg(unix)]
pub fn writable_by_others(dir: &Path) -> Result<Option<PathBuf>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    let bin = match resolve(dir, "bin")? {
        Directory::Missing => Vec::new(),
        Directory::Real(path) | Directory::Linked(path) => {
            let inside: Result<Vec<_>, _> =
                fs_err::read_dir(&path)?.map(|one| one.map(|one| one.path())).collect();
            let mut inside = inside?;
            inside.push(path);
            inside
        }
    };
    let root = ["", "config.sh", "env.sh", "bin", ".env", ".path"].iter().map(|name| dir.join(name));
    for path in root.chain(bin) {
        let Some(meta) = look(&path)? else { continue };
        // In a sticky directory, only the owner of a file can rename or delete it.
        let closed = meta.is_symlink() || (path == dir.join("") && meta.mode() & 0o1000 != 0);
        if meta.uid() != 0 || (!closed && meta.mode() & 0o022 != 0) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn look(path: &Path) -> Result<Option<std::fs::Metadata>, Error> {
    match fs_err::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn regular(path: &Path) -> Result<Option<std::fs::Metadata>, Error> {
    Ok(look(path)?.filter(std::fs::Metadata::is_file))
}

#[cfg(unix)]
fn is_executable(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    true
}

#[cfg(test)]
#[cfg(unix)]
#[path = "tree_tests.rs"]
mod tests;
