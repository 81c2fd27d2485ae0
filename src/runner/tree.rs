//! Whether a directory holds GitHub's runner, and of which version: by looking, never by running it.
//!
//! Asking `bin/Runner.Listener --version` would make log files as whoever asks, which the runner's user could not write
//! afterwards; and as root it would run what a job may have put there.

use super::error::Error;
use super::version::{REGISTRATION_FLOOR, RunnerVersion};
use crate::host::file::read_untrusted_in;
use crate::host::{self, Arch, Os, Platform};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The real one has some hundred kilobytes.
const MANIFEST_LIMIT: u64 = 2 * 1024 * 1024;
/// The real one has one kilobyte.
const SCRIPT_LIMIT: u64 = 64 * 1024;

/// What was found in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeReport {
    /// What a runner cannot do without and is not there, relative to the directory.
    pub missing: Vec<String>,
    /// What is there but cannot be executed.
    pub not_executable: Vec<String>,
    /// The version, by the dependency manifest; `None` if there is none that says so.
    pub version: Option<RunnerVersion>,
    /// Whether the runner has updated itself: `bin` and `externals` are links then, and the tree cannot be moved.
    pub self_updated: bool,
}

impl TreeReport {
    /// Whether this is a runner, complete as far as can be seen.
    #[must_use]
    pub fn is_runner(&self) -> bool {
        self.missing.is_empty() && self.not_executable.is_empty()
    }
}

impl TreeReport {
    /// What is wrong with it, in words.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|path| format!("no {path}"));
        missing.chain(self.not_executable.iter().map(|path| format!("{path} not executable"))).collect()
    }
}

/// Looks at the directory `dir` for a runner of `platform`. An empty or absent directory is a report, not an error.
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
    /// As the runner's own update leaves it: a link to `bin.2.336.0` beside it.
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

/// Where `dir/name` really is. A link must lead to a real directory beside it that is named like the runner's own
/// update names it; any other is refused.
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
    /// `bin`, `externals`, or the root.
    dir: &'static str,
    path: String,
    runs: bool,
}

/// What a runner cannot do without.
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
    // The versions that may register all have it, but for 32-bit ARM. An official image once lacked it.
    if version.is_some_and(|version| version >= REGISTRATION_FLOOR) && platform.arch != Arch::Arm {
        let node = if platform.os == Os::Win { "node24/bin/node.exe" } else { "node24/bin/node" };
        list.push(one("externals", node, platform.os != Os::Win));
    }
    list
}

/// The Node that `runsvc.sh` starts the service with: `node20`. It is written into the script and differs by version.
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

/// The version that the runner's own dependency manifest names.
fn version(bin: &Path) -> Result<Option<RunnerVersion>, Error> {
    let Some(manifest) = read_optional(bin, "Runner.Listener.deps.json", MANIFEST_LIMIT)? else {
        return Ok(None);
    };
    // Searched, not parsed: the key stands under the platform's name, and there is no other need for the document.
    let manifest = String::from_utf8_lossy(&manifest);
    Ok(manifest
        .split("\"Runner.Listener/")
        .skip(1)
        .find_map(|after| after.split_once('"'))
        .and_then(|(version, _)| version.parse().ok()))
}

/// A file that a job may have replaced: what is not a plain file counts as absent.
fn read_optional(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match read_untrusted_in(dir, name, limit) {
        Err(
            host::Error::SymbolicLink { .. } | host::Error::NotAFile { .. } | host::Error::TooLarge { .. },
        ) => Ok(None),
        other => Ok(other?),
    }
}

/// What a runner's directory has by itself: from the archive, and from its own scripts.
const OWN: [&str; 12] = [
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
];

/// The names in the directory of a runner that are no part of a runner; `work` is the name of its work directory.
pub fn others(dir: &Path, work: Option<&str>) -> Result<Vec<String>, Error> {
    let mut others = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let own = OWN.contains(&&*name)
            || super::state::personal_files().any(|own| own == name)
            || work == Some(&*name)
            // Of its updates, and the archive that it was unpacked from by hand.
            || ["bin.", "externals.", "actions-runner-"].iter().any(|start| name.starts_with(start));
        if !own {
            others.push(name.chars().filter(|c| !c.is_control()).collect());
        }
    }
    others.sort();
    Ok(others)
}

/// What `config.sh` runs or reads in the directory, if others than root can write it: the first such thing.
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
