//! Finds programs and dynamic libraries on this machine.

use super::platform::Arch;
use super::{Root, detect, elf};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The file that would be run for `name` with this PATH; a name with a slash is used as it is. `None` if there is no
/// executable file.
#[must_use]
pub fn find_program(name: &str, path_list: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| is_program(file));
    }
    std::env::split_paths(path_list)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let Ok(meta) = fs_err::metadata(file) else { return false };
    #[cfg(unix)]
    let executable = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let executable = true;
    meta.is_file() && executable
}

/// The directories in which distributions have their programs.
const PROGRAM_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Whether the system under the root has this program.
#[must_use]
pub fn has_program(root: &Root, name: &str) -> bool {
    PROGRAM_FOLDERS
        .iter()
        .filter_map(|dir| root.resolve(&Path::new(dir).join(name)))
        .any(|file| is_program(&file))
}

/// Whether there is a library under the root whose file name is `prefix`, or continues with a digit or a dot, and that
/// is built for this architecture: a machine can also have libraries of others.
#[must_use]
pub fn has_library(root: &Root, prefix: &str, arch: Arch) -> bool {
    let expected = match arch {
        Arch::X64 => (elf::X86_64, 64),
        Arch::Arm64 => (elf::AARCH64, 64),
        Arch::Arm => (elf::ARM, 32),
    };
    find_libraries(root, prefix).into_iter().any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        // SUSE has an ICU for its own programs under another name (`libicuuc.so.suse65.1`), which others do not find.
        let is_it = rest.chars().next().is_none_or(|next| next == '.' || next.is_ascii_digit());
        let file = root.strip(&path).and_then(|path| root.resolve(&path)).filter(|_| is_it);
        let facts = file.and_then(|file| detect::beginning(&file)).and_then(|bytes| elf::parse(&bytes));
        facts.is_some_and(|facts| (facts.machine, facts.bits) == expected)
    })
}

/// Directories that every dynamic loader searches.
const LIBRARY_FOLDERS: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

/// The dynamic libraries under the root whose file name begins with `prefix` (`libicuuc.so`), in the directories that
/// `ldconfig` looks at: the loader's own and those of `/etc/ld.so.conf`. Sorted, each once; empty if there is none.
fn find_libraries(root: &Root, prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in library_dirs(root) {
        let Some(entries) = root.resolve(&dir).and_then(|path| fs_err::read_dir(path).ok()) else {
            continue;
        };
        found.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path()),
        );
    }
    found.sort();
    found.dedup();
    found
}

/// The directories that `ldconfig` searches, as seen inside the root.
fn library_dirs(root: &Root) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = LIBRARY_FOLDERS.iter().map(PathBuf::from).collect();
    // Debian's loader always searches its multiarch directory, even without the configuration in a minimal image.
    if let Some(entries) = root.resolve(Path::new("/usr/lib")).and_then(|path| fs_err::read_dir(path).ok()) {
        let multiarch = entries
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().contains("-linux-gnu"));
        dirs.extend(multiarch.map(|name| Path::new("/usr/lib").join(name)));
    }
    let mut confs = vec![PathBuf::from("/etc/ld.so.conf")];
    // A file may include itself, so each is read once.
    let mut read = BTreeSet::new();
    while let Some(conf) = confs.pop() {
        let Some(file) = root.resolve(&conf).filter(|file| read.insert(file.clone())) else { continue };
        let Ok(text) = fs_err::read_to_string(file) else { continue };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(pattern) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
                confs.extend(included(root, &conf, pattern.trim()));
            } else if line.starts_with('/') {
                dirs.push(line.into());
            }
        }
    }
    dirs
}

/// The files of an `include` line: a path whose last component may have one `*`.
fn included(root: &Root, conf: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = conf.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let Some((start, end)) = name.split_once('*') else { return vec![pattern.clone()] };
    let Some(entries) = root.resolve(dir).and_then(|path| fs_err::read_dir(path).ok()) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|file| {
            let file = file.to_string_lossy();
            file.len() >= start.len() + end.len() && file.starts_with(start) && file.ends_with(end)
        })
        .map(|file| dir.join(file))
        .collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_an_executable_file_in_an_absolute_directory_of_the_path() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        for place in [&first, &second] {
            fs_err::create_dir(place).unwrap();
            fs_err::write(place.join("tool"), "").unwrap();
        }
        fs_err::set_permissions(second.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        fs_err::create_dir(first.join("dir")).unwrap();
        let path = format!("relative::{}:{}", first.display(), second.display());
        assert_eq!(find_program("tool", &path), Some(second.join("tool")));
        assert_eq!(find_program("dir", &path), None);
        assert_eq!(find_program("missing", &path), None);
        assert_eq!(find_program("tool", ""), None);
        let whole = second.join("tool");
        assert_eq!(find_program(whole.to_str().unwrap(), ""), Some(whole));
    }

    #[test]
    fn libraries_are_found_where_the_loader_would_look() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let at = |path: &str| root.join(Path::new(path));
        for place in
            ["/usr/lib/x86_64-linux-gnu", "/opt/icu", "/opt/other", "/etc/ld.so.conf.d", "/usr/lib64"]
        {
            fs_err::create_dir_all(at(place)).unwrap();
            fs_err::write(at(place).join("libicuuc.so.72"), "").unwrap();
        }
        fs_err::write(at("/etc/ld.so.conf"), "include ld.so.conf.d/*.conf\ninclude ld.so.conf\n").unwrap();
        fs_err::write(at("/etc/ld.so.conf.d/icu.conf"), "# ours\n/opt/icu # here\n").unwrap();
        fs_err::write(at("/etc/ld.so.conf.d/unused"), "/opt/other\n").unwrap();
        let found = find_libraries(&root, "libicuuc.so");
        let places: Vec<_> = ["/opt/icu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
            .iter()
            .map(|place| at(place).join("libicuuc.so.72"))
            .collect();
        assert_eq!(found, places);
        assert!(find_libraries(&root, "libssl.so").is_empty());
    }

    #[test]
    fn a_library_counts_if_programs_of_this_architecture_can_load_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let lib = dir.path().join("usr/lib");
        fs_err::create_dir_all(&lib).unwrap();
        let has = |prefix| has_library(&root, prefix, Arch::X64);
        fs_err::write(lib.join("libicuuc.so.72"), elf::fixture(32, elf::I386, 0, None)).unwrap();
        assert!(!has("libicuuc.so."), "of a 32-bit system");
        fs_err::write(lib.join("libicuuc.so.suse65.1"), elf::fixture(64, elf::X86_64, 0, None)).unwrap();
        assert!(!has("libicuuc.so."), "of another name");
        std::os::unix::fs::symlink("libicuuc.so.74.2", lib.join("libicuuc.so.74")).unwrap();
        assert!(!has("libicuuc.so."), "a link to nothing");
        fs_err::write(lib.join("libicuuc.so.74.2"), elf::fixture(64, elf::X86_64, 0, None)).unwrap();
        assert!(has("libicuuc.so.") && has("libicuuc.so.74"));
        assert!(!has_library(&root, "libicuuc.so.", Arch::Arm64));
    }

    #[test]
    fn a_program_of_an_image_is_found_through_the_images_own_links() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        fs_err::create_dir_all(dir.path().join("usr/bin")).unwrap();
        symlink("/usr/bin/dnf-3", dir.path().join("usr/bin/dnf")).unwrap();
        assert!(!has_program(&root, "dnf"));
        fs_err::write(dir.path().join("usr/bin/dnf-3"), "").unwrap();
        assert!(!has_program(&root, "dnf"), "it is not executable");
        fs_err::set_permissions(dir.path().join("usr/bin/dnf-3"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(has_program(&root, "dnf"));
    }
}
