//! Files to which lines are appended for another program: the file can be a FIFO, and its reader slow or gone.

use super::Error;
use std::fs::File;
use std::path::Path;

/// The most bytes of a line that a pipe takes whole or not at all: `PIPE_BUF` on Linux.
pub const MOST_BYTES: usize = 4096;

/// Opens the file at `path` for appending, and creates it with the mode 0600 if it does not exist. `None` for a FIFO that
/// nobody reads. Neither this nor a write to it waits.
///
/// A symbolic link is not followed. The file must belong to root or the current user, and if another user can change a
/// directory above it, it is refused.
pub fn open(path: &Path) -> Result<Option<File>, Error> {
    unix_or_windows::open(path)
}

/// Opens the descriptor of this number, which the caller has left open: a pipe or a file. A write to it does not wait,
/// which does not change the caller's own descriptor.
pub fn open_descriptor(number: u32) -> Result<File, Error> {
    unix_or_windows::open_descriptor(number)
}

/// Whether `file` is still the one at `path`: a program that rotates logs moves it away.
#[must_use]
pub fn is_at(path: &Path, file: &File) -> bool {
    unix_or_windows::is_at(path, file)
}

#[cfg(unix)]
mod unix_or_windows {
    use super::Error;
    use crate::host::account;
    use crate::host::owner::{Intrusion, who_else_can_change};
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    use std::fs::{File, Metadata};
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::path::{Path, PathBuf};

    const APPEND: OFlags = OFlags::WRONLY
        .union(OFlags::APPEND)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY)
        .union(OFlags::CLOEXEC);

    pub fn open(path: &Path) -> Result<Option<File>, Error> {
        let failed = |source| Error::Path { doing: "open", path: path.to_owned(), source };
        check_above(path)?;
        let flags = APPEND.union(OFlags::CREATE).union(OFlags::NOFOLLOW);
        let file: File = match rustix::fs::open(path, flags, Mode::RUSR.union(Mode::WUSR)) {
            Ok(file) => file.into(),
            Err(Errno::LOOP) => {
                return Err(Error::NotOurs { path: path.to_owned(), why: "it is a symbolic link".into() });
            }
            Err(Errno::NXIO) if std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_fifo()) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error.into())),
        };
        let why = unfit(&file.metadata().map_err(failed)?);
        why.map_or(Ok(Some(file)), |why| Err(Error::NotOurs { path: path.to_owned(), why: why.into() }))
    }

    /// Why this file is none to append to.
    fn unfit(meta: &Metadata) -> Option<&'static str> {
        if meta.uid() != 0 && meta.uid() != account::current().uid {
            Some("it belongs to another user")
        } else if meta.is_file() && meta.nlink() > 1 {
            Some("it has another name as well")
        } else if meta.is_file() || meta.file_type().is_fifo() || meta.file_type().is_char_device() {
            None
        } else {
            Some("it is neither a file nor a FIFO")
        }
    }

    /// Refuses a directory that another user can change: what is at the path by now could be theirs.
    fn check_above(path: &Path) -> Result<(), Error> {
        let absolute = std::path::absolute(path)?;
        let dir = absolute.parent().unwrap_or(Path::new("/"));
        let opened = fs_err::File::open(dir)?.into_parts().0;
        let found = if account::is_root() { who_else_can_change(dir, &opened)? } else { stranger(dir)? };
        found.map_or(Ok(()), |found| Err(Error::NotOurs { path: path.to_owned(), why: said(&found) }))
    }

    fn said(found: &Intrusion) -> String {
        format!("{} {}", found.path.display(), found.why)
    }

    /// The same for an ordinary user: what belongs to root or to him, and other users cannot write to.
    fn stranger(dir: &Path) -> Result<Option<Intrusion>, Error> {
        let uid = account::current().uid;
        let real = fs_err::canonicalize(dir)?;
        let all = dir.ancestors().chain(real.ancestors()).map(PathBuf::from);
        for path in all {
            let meta = fs_err::symlink_metadata(&path)?;
            let is_open = meta.is_dir() && meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0;
            let why = match meta.uid() {
                owner if owner != 0 && owner != uid => "belongs to another user",
                _ if is_open => "can be written by every user",
                _ => continue,
            };
            return Ok(Some(Intrusion { path, why: why.into() }));
        }
        Ok(None)
    }

    pub fn open_descriptor(number: u32) -> Result<File, Error> {
        let dir = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
        let path = Path::new(dir).join(number.to_string());
        let failed = |source| Error::Path { doing: "open", path: path.clone(), source };
        // Opened once more: the flags of the caller's own descriptor stay as they are.
        rustix::fs::open(&path, APPEND, Mode::empty()).map(File::from).map_err(|error| failed(error.into()))
    }

    pub fn is_at(path: &Path, file: &File) -> bool {
        let (there, here) = (std::fs::symlink_metadata(path), file.metadata());
        there.is_ok_and(|there| here.is_ok_and(|here| (there.dev(), there.ino()) == (here.dev(), here.ino())))
    }
}

#[cfg(not(unix))]
mod unix_or_windows {
    use super::Error;
    use std::fs::File;
    use std::path::Path;

    pub fn open(path: &Path) -> Result<Option<File>, Error> {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
        opened.map(Some).map_err(|source| Error::Path { doing: "open", path: path.to_owned(), source })
    }

    pub fn open_descriptor(number: u32) -> Result<File, Error> {
        let path = format!("fd:{number}").into();
        Err(Error::Path { doing: "open", path, source: std::io::ErrorKind::Unsupported.into() })
    }

    pub fn is_at(_: &Path, _: &File) -> bool {
        true
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn fifo(path: &Path) {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a FIFO can be created");
    }

    #[test]
    fn a_file_is_created_for_its_owner_alone_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        for _ in 0..2 {
            open(&path).unwrap().unwrap().write_all(b"line\n").unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"line\nline\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let file = open(&path).unwrap().unwrap();
        assert!(is_at(&path, &file));
        std::fs::rename(&path, dir.path().join("events.1")).unwrap();
        assert!(!is_at(&path, &file));
    }

    #[test]
    fn a_link_another_name_and_a_directory_of_all_users_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("precious"), "").unwrap();
        symlink("precious", at("link")).unwrap();
        symlink("nothing", at("dangling")).unwrap();
        std::fs::hard_link(at("precious"), at("second")).unwrap();
        for name in ["link", "dangling"] {
            assert!(matches!(open(&at(name)), Err(Error::NotOurs { .. })), "{name}");
        }
        assert!(!at("nothing").exists());
        assert!(matches!(open(&at("second")), Err(Error::NotOurs { .. })));
        assert!(matches!(open(&at("missing/events")), Err(Error::File(_))));
        let open_dir = at("open");
        std::fs::create_dir(&open_dir).unwrap();
        let mode = |mode| std::fs::set_permissions(&open_dir, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o777);
        assert!(matches!(open(&open_dir.join("events")), Err(Error::NotOurs { .. })));
        assert!(!open_dir.join("events").exists());
        mode(0o1777);
        assert!(open(&open_dir.join("events")).unwrap().is_some());
    }

    #[test]
    fn a_fifo_and_a_pipe_are_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        fifo(&path);
        assert!(open(&path).unwrap().is_none(), "nobody reads it");
        let (mut reader, writer) = std::io::pipe().unwrap();
        let number = u32::try_from(writer.as_raw_fd()).unwrap();
        let mut again = open_descriptor(number).unwrap();
        let line = [b'x'; MOST_BYTES];
        let full = loop {
            if let Err(error) = again.write(&line) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "the caller's own descriptor is as it was");
        reader.read_exact(&mut [0; 2 * MOST_BYTES]).unwrap();
        assert_eq!(again.write(&line).unwrap(), MOST_BYTES);
        drop(reader);
        assert_eq!(again.write(&line).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(open_descriptor(4_000_000).is_err());
    }
}
