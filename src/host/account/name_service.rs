//! The users and groups that the machine has besides those of its files: of SSSD, LDAP, Active Directory.
//!
//! A static program sees the files only. Linux's C library comes with a program that asks the sources of
//! `/etc/nsswitch.conf`, and it is asked for what the files do not have.

use super::{Account, Group};
use crate::host::Root;
use std::io;
use std::path::Path;

/// The sources that are on every machine: no directory service is behind them.
const LOCAL: [&str; 3] = ["files", "compat", "systemd"];

/// What a user or group is looked up by.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    Name(&'a str),
    Id(u32),
}

impl Key<'_> {
    /// The word for `getent`, which takes digits for an id; `None` if it would take a name for something else.
    #[cfg(target_os = "linux")]
    fn word(self) -> Option<String> {
        match self {
            Self::Id(id) => Some(id.to_string()),
            Self::Name(name) => {
                let plain = !name.starts_with(['-', '+'])
                    && !name.contains([':', '\0', '\n'])
                    && name.bytes().any(|byte| !byte.is_ascii_digit());
                plain.then(|| name.to_owned())
            }
        }
    }
}

/// The sources of users besides those that every machine has; empty if `/etc/nsswitch.conf` names none.
#[must_use]
pub fn directory_services(root: &Root) -> Vec<String> {
    foreign(root, "passwd")
}

fn foreign(root: &Root, database: &str) -> Vec<String> {
    let mut sources = sources(root, database);
    sources.retain(|source| !LOCAL.contains(&source.as_str()));
    sources
}

/// The sources of a database, in their order.
fn sources(root: &Root, database: &str) -> Vec<String> {
    let text = root
        .resolve(Path::new("/etc/nsswitch.conf"))
        .and_then(|path| fs_err::read_to_string(path).ok())
        .unwrap_or_default();
    parse_sources(&text, database)
}

/// A line of nsswitch.conf(5), without the actions in brackets.
fn parse_sources(text: &str, database: &str) -> Vec<String> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((name, list)) = line.split_once(':') else { continue };
        if name.trim() != database {
            continue;
        }
        let mut in_action = false;
        for part in list.split_inclusive(['[', ']']) {
            let words = part.trim_end_matches(['[', ']']);
            if !in_action {
                sources.extend(words.split_whitespace().map(str::to_owned));
            }
            in_action = part.ends_with('[');
        }
    }
    sources
}

/// The user, from the sources of this machine besides its files.
#[cfg(target_os = "linux")]
pub fn user(key: Key<'_>) -> io::Result<Option<Account>> {
    let found = entry("passwd", key)?.as_deref().and_then(super::parse_passwd);
    Ok(found.map(|account| match key {
        // A directory service may ignore case, or shorten the name; the journal and the unit have this one.
        Key::Name(name) => Account { name: name.to_owned(), ..account },
        Key::Id(_) => account,
    }))
}

/// The group, from the sources of this machine besides its files.
#[cfg(target_os = "linux")]
pub fn group(key: Key<'_>) -> io::Result<Option<Group>> {
    Ok(entry("group", key)?.as_deref().and_then(super::parse_group))
}

/// The supplementary groups that a directory service has for the user.
#[cfg(target_os = "linux")]
pub fn groups_of(user: &str) -> io::Result<Vec<u32>> {
    let root = Root::host();
    if foreign(&root, "group").is_empty() && foreign(&root, "initgroups").is_empty() {
        return Ok(Vec::new());
    }
    ask("initgroups", Key::Name(user)).map(|line| line.as_deref().map(parse_initgroups).unwrap_or_default())
}

/// There, the C library asks all sources itself.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn user(key: Key<'_>) -> io::Result<Option<Account>> {
    use nix::unistd::User;
    let found = match key {
        Key::Name(name) => User::from_name(name),
        Key::Id(uid) => User::from_uid(uid.into()),
    };
    let account = |user: User| Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
    };
    match found {
        Ok(user) => Ok(user.map(account)),
        // The errors that getpwnam(3) may return if the user does not exist.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// There, the C library asks all sources itself.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn group(key: Key<'_>) -> io::Result<Option<Group>> {
    use nix::unistd::Group as Found;
    let found = match key {
        Key::Name(name) => Found::from_name(name),
        Key::Id(gid) => Found::from_gid(gid.into()),
    }?;
    Ok(found.map(|group| Group { name: group.name, gid: group.gid.as_raw(), members: group.mem }))
}

/// Windows has no such users.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub fn user(_: Key<'_>) -> io::Result<Option<Account>> {
    Ok(None)
}

/// Windows has no such groups.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub fn group(_: Key<'_>) -> io::Result<Option<Group>> {
    Ok(None)
}

/// Only Linux has programs that the C library keeps from them.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub fn groups_of(_: &str) -> io::Result<Vec<u32>> {
    Ok(Vec::new())
}

/// `NAME GID GID…`; a name may contain a blank.
#[cfg(any(target_os = "linux", test))]
fn parse_initgroups(line: &str) -> Vec<u32> {
    line.split_whitespace().rev().map_while(|word| word.parse().ok()).collect()
}

/// The first line for the key; `None` if no source has it.
#[cfg(target_os = "linux")]
fn entry(database: &str, key: Key<'_>) -> io::Result<Option<String>> {
    if sources(&Root::host(), database).iter().all(|source| source == "files") {
        return Ok(None);
    }
    ask(database, key)
}

#[cfg(target_os = "linux")]
fn ask(database: &str, key: Key<'_>) -> io::Result<Option<String>> {
    let program = ["/usr/bin/getent", "/bin/getent"].into_iter().map(Path::new).find(|path| path.exists());
    let (Some(program), Some(word)) = (program, key.word()) else { return Ok(None) };
    getent::ask(program, database, &word)
}

/// The program itself. It is run without the machinery of other commands because users are looked up everywhere, also
/// where nothing can be awaited: as a call of the C library would, this blocks.
#[cfg(target_os = "linux")]
mod getent {
    use std::io::{self, Read as _};
    use std::path::Path;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    /// How long a directory service may take.
    const TIME: Duration = Duration::from_secs(10);

    /// The most that is read: a group can have thousands of members.
    const LIMIT: u64 = 1 << 20;

    /// The exit code for a key that no source has.
    const NOT_FOUND: i32 = 2;

    pub fn ask(program: &Path, database: &str, word: &str) -> io::Result<Option<String>> {
        ask_within(program, database, word, TIME)
    }

    fn ask_within(program: &Path, database: &str, word: &str, time: Duration) -> io::Result<Option<String>> {
        let end = Instant::now() + time;
        let child = Command::new(program)
            .args([database, word])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut child = Killed(child);
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = child.0.stdout.take() {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let read = stdout.take(LIMIT).read_to_end(&mut bytes);
                let _ = sender.send(read.map(|_| bytes));
            });
        }
        let hung = || {
            let what = format!("`getent {database} {word}` did not answer within {} s", time.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, what)
        };
        let bytes = receiver.recv_timeout(time).map_err(|_| hung())??;
        let line = String::from_utf8_lossy(&bytes).lines().next().map(str::to_owned);
        if u64::try_from(bytes.len()).is_ok_and(|length| length == LIMIT) {
            return Ok(line);
        }
        let status = child.wait(end)?.ok_or_else(hung)?;
        match status.code() {
            Some(0) => Ok(line),
            Some(NOT_FOUND) => Ok(None),
            _ => Err(io::Error::other(format!("`getent {database} {word}` failed with {status}"))),
        }
    }

    /// A child that does not outlive this value.
    struct Killed(Child);

    impl Killed {
        fn wait(&mut self, end: Instant) -> io::Result<Option<ExitStatus>> {
            loop {
                if let Some(status) = self.0.try_wait()? {
                    return Ok(Some(status));
                }
                if Instant::now() > end {
                    return Ok(None);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_answer_none_a_failure_and_silence_are_told_apart() {
            // A shell takes two words as well.
            let ask = |script: &str, time| ask_within(Path::new("/bin/sh"), "-c", script, time);
            let long = Duration::from_secs(60);
            let line = ask("echo ci:x:5:6::/home/ci:/bin/sh; echo more", long).unwrap();
            assert_eq!(line.as_deref(), Some("ci:x:5:6::/home/ci:/bin/sh"));
            assert_eq!(ask("exit 2", long).unwrap(), None);
            assert!(ask("echo half; exit 1", long).is_err());
            assert_eq!(
                ask("[ $(env | wc -l) -le 3 ] && [ $PWD = / ] && echo clean", long).unwrap().as_deref(),
                Some("clean")
            );
            // Without end: it is cut off, and killed.
            assert_eq!(ask("yes", long).unwrap().as_deref(), Some("y"));
            let hung = ask("exec sleep 60", Duration::from_millis(50)).unwrap_err();
            assert_eq!(hung.kind(), io::ErrorKind::TimedOut);
            let closed = ask("exec >/dev/null; exec sleep 60", Duration::from_millis(50)).unwrap_err();
            assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_the_line_of_the_database_has() {
        let text = "# passwd: nis\npasswd:  files [!NOTFOUND=return success=continue] sss # x\n\
                    group: compat\n group:systemd ldap [NOTFOUND=return]\n";
        assert_eq!(parse_sources(text, "passwd"), ["files", "sss"]);
        assert_eq!(parse_sources(text, "group"), ["compat", "systemd", "ldap"]);
        assert_eq!(parse_sources(text, "initgroups"), [] as [&str; 0]);
    }

    #[test]
    fn a_directory_service_is_what_not_every_machine_has() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let with = |line: &str| {
            std::fs::create_dir_all(dir.path().join("etc")).unwrap();
            std::fs::write(dir.path().join("etc/nsswitch.conf"), line).unwrap();
            directory_services(&root)
        };
        assert_eq!(directory_services(&root), [] as [&str; 0]);
        assert_eq!(with("passwd: compat systemd\n"), [] as [&str; 0]);
        assert_eq!(with("passwd: files sss winbind systemd\n"), ["sss", "winbind"]);
    }

    #[test]
    fn groups_follow_the_name() {
        assert_eq!(parse_initgroups("ci                    20 44"), [44, 20]);
        assert_eq!(parse_initgroups("domain users 20"), [20]);
        assert_eq!(parse_initgroups("ci"), [] as [u32; 0]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_is_never_taken_for_an_id_or_an_option() {
        for name in ["1000", "-s", "+x", "a:b", "a\nb", ""] {
            assert_eq!(Key::Name(name).word(), None, "{name:?}");
        }
        for name in ["ci", "ci@corp.test", "CORP\\ci", "7zip"] {
            assert_eq!(Key::Name(name).word().as_deref(), Some(name));
        }
        assert_eq!(Key::Id(7).word().as_deref(), Some("7"));
    }
}
