//! Finds out whether a user can become root, in which case root's files are not protected from its jobs.
//!
//! It reads files and runs no program. In doubt the answer is "yes": a sudo rule for some commands counts, and so does
//! one that a later rule revokes. It does not see access control lists, rules in LDAP, and setuid programs.

use super::{Account, Group, group_file, group_name, groups};
use crate::host::Root;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Groups whose members can become root. What `root` can write is taken for root's own, here and elsewhere; `sudo`, `wheel` and `admin` are the administrators of the distributions; the
/// others give access to a daemon that runs anything as root, or to the raw disks. Not listed, because they do not give
/// root: `adm`, `kvm`, `incus` (confined to a project), `systemd-journal`.
const GROUPS: [&str; 12] = [
    "root",
    "docker",
    "lxd",
    "incus-admin",
    "libvirt",
    "libvirtd",
    "microk8s",
    "disk",
    "sudo",
    "wheel",
    "admin",
    "kmem",
];

/// Sockets of container engines that run as root. libvirt's is open to all users and asks polkit, so only its group
/// counts.
#[cfg(unix)]
const SOCKETS: [&str; 10] = [
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/run/incus/unix.socket",
    "/run/buildkit/buildkitd.sock",
];

/// How many files of sudoers(5) are read, included ones counted, because a file can include itself.
const MOST_FILES: usize = 128;

/// Why the account can become root, one short phrase per way: `member of the group docker`, `password-less sudo
/// (/etc/sudoers.d/ci)`. Its processes also have the groups `more`. Empty if no way was found. It takes milliseconds.
#[must_use]
pub fn ways_to_root(root: &Root, account: &Account, more: &[u32]) -> Vec<String> {
    if account.uid == 0 {
        return vec!["it is root".into()];
    }
    let mut gids = groups(root, account);
    gids.extend(more);
    let names = names_of(root, account, &gids);
    let mut ways: Vec<String> = names
        .iter()
        .filter(|name| GROUPS.contains(&name.as_str()))
        .map(|name| format!("member of the group {name}"))
        .collect();
    let who = Who { account, gids: &gids, groups: &names };
    if installed(root, "sudo") {
        let mut sudoers = Sudoers::default();
        sudoers.read(root, Path::new("/etc/sudoers"));
        ways.extend(sudoers.ways(&who));
    }
    if installed(root, "doas") {
        ways.extend(doas(root, &who));
    }
    ways.extend(sockets(root, &who));
    ways.dedup();
    ways
}

/// The programs of container engines, and of their clients.
const ENGINES: [&str; 5] = ["docker", "podman", "nerdctl", "dockerd-rootless.sh", "buildah"];

/// Whether a container engine is installed, of root's or of a user's own.
#[must_use]
pub fn has_engine(root: &Root) -> bool {
    ENGINES.iter().any(|program| installed(root, program))
        || root.resolve(Path::new("/snap/bin/docker")).is_some()
}

struct Who<'a> {
    account: &'a Account,
    gids: &'a [u32],
    groups: &'a [String],
}

/// The names of those groups that have one.
fn names_of(root: &Root, account: &Account, gids: &[u32]) -> Vec<String> {
    let known = group_file(root);
    let name = |gid: &u32| {
        if let Some(group) = known.iter().find(|group: &&Group| group.gid == *gid) {
            return Some(group.name.clone());
        }
        group_name(root, *gid)
    };
    let mut names: Vec<String> = gids.iter().filter_map(name).collect();
    // Two names can share an id.
    names.extend(known.iter().filter(|group| group.has(&account.name)).map(|group| group.name.clone()));
    names.sort();
    names.dedup();
    names
}

fn installed(root: &Root, program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"]
        .iter()
        .any(|directory| root.resolve(&Path::new(directory).join(program)).is_some())
}

/// The relevant rules of sudoers(5).
#[derive(Default)]
struct Sudoers {
    aliases: BTreeMap<String, String>,
    /// The list of users, what they may run, and the file of the rule.
    rules: Vec<(String, String, PathBuf)>,
    /// The lists of users who need no password.
    trusted: Vec<String>,
    files: usize,
}

impl Sudoers {
    fn read(&mut self, root: &Root, path: &Path) {
        self.files += 1;
        if self.files > MOST_FILES {
            return;
        }
        let Some(text) = root.resolve(path).and_then(|real| fs_err::read_to_string(real).ok()) else {
            return;
        };
        for line in text.replace("\\\n", " ").lines() {
            let line = line.trim();
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim().trim_matches('"');
            match word {
                "@include" | "#include" => self.read(root, &beside(path, rest)),
                "@includedir" | "#includedir" => self.read_all(root, &beside(path, rest)),
                "User_Alias" => {
                    for definition in rest.split(':') {
                        if let Some((name, list)) = definition.split_once('=') {
                            self.aliases.insert(name.trim().to_owned(), list.to_owned());
                        }
                    }
                }
                "Host_Alias" | "Cmnd_Alias" | "Cmd_Alias" | "Runas_Alias" => {}
                _ if word.starts_with("Defaults") => {
                    if rest.split(',').any(|option| option.trim() == "!authenticate") {
                        match word.split_at("Defaults".len()).1.strip_prefix(':') {
                            Some(list) => self.trusted.push(list.to_owned()),
                            None if word == "Defaults" => self.trusted.push("ALL".to_owned()),
                            None => {}
                        }
                    }
                }
                _ => self.rule(line, path),
            }
        }
    }

    fn read_all(&mut self, root: &Root, directory: &Path) {
        let Some(entries) = root.resolve(directory).and_then(|real| fs_err::read_dir(real).ok()) else {
            return;
        };
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        // Like sudo, files left by an editor or a package manager are ignored.
        for name in names.iter().filter(|name| !name.contains('.') && !name.ends_with('~')) {
            self.read(root, &directory.join(name));
        }
    }

    /// `USERS HOSTS = WHAT`.
    fn rule(&mut self, line: &str, path: &Path) {
        let line = without_comment(line);
        if let Some((left, what)) = line.split_once('=') {
            let left = without_blanks_at_commas(left);
            if let Some(users) = left.split_whitespace().next() {
                self.rules.push((users.to_owned(), what.to_owned(), path.to_owned()));
            }
        }
    }

    fn ways(&self, who: &Who<'_>) -> Vec<String> {
        let trusted = self.trusted.iter().any(|list| self.means(list, who, 0));
        let mut ways = Vec::new();
        for (_, what, path) in self.rules.iter().filter(|(users, ..)| self.means(users, who, 0)) {
            let path = path.display();
            match without_password(what, trusted) {
                Some(true) => ways.push(format!("password-less sudo ({path})")),
                Some(false) => ways.push(format!("password-less sudo for some commands ({path})")),
                None => {}
            }
        }
        ways
    }

    /// Whether the list of users includes this user; the last matching item decides.
    fn means(&self, list: &str, who: &Who<'_>, depth: usize) -> bool {
        let mut meant = false;
        for item in list.split(',') {
            let item = item.trim().trim_matches('"');
            let (negated, item) = item.strip_prefix('!').map_or((false, item), |item| (true, item));
            let fits = if let Some(id) = item.strip_prefix("%#") {
                id.parse().is_ok_and(|id| who.gids.contains(&id))
            } else if let Some(name) = item.strip_prefix('%') {
                who.groups.iter().any(|group| group == name.trim_start_matches(':'))
            } else if let Some(id) = item.strip_prefix('#') {
                id.parse() == Ok(who.account.uid)
            } else if let Some(list) = self.aliases.get(item).filter(|_| depth < 8) {
                self.means(list, who, depth + 1)
            } else {
                item == "ALL" || item == who.account.name
            };
            if fits {
                meant = !negated;
            }
        }
        meant
    }
}

/// The path of an include can be relative to the including file.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(path)
}

/// A comment begins with `#`, but `#1000` is a user.
fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| !line[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let end = line.match_indices('#').map(|(at, _)| at).find(is_comment);
    &line[..end.unwrap_or(line.len())]
}

fn without_blanks_at_commas(text: &str) -> String {
    text.split(',').map(str::trim).collect::<Vec<_>>().join(",")
}

/// Whether the commands of a rule can be run as root without a password: `Some(true)` for all commands. The user to run
/// as and the tags hold for the commands that follow as well.
fn without_password(what: &str, trusted: bool) -> Option<bool> {
    let (mut as_root, mut free, mut found) = (true, trusted, None);
    for part in split_outside_parentheses(what) {
        let mut part = part.trim();
        if let Some((targets, rest)) = part.strip_prefix('(').and_then(|part| part.split_once(')')) {
            let users = targets.split(':').next().unwrap_or_default();
            as_root = users.split(',').map(str::trim).any(|user| matches!(user, "ALL" | "root" | "#0"));
            part = rest.trim();
        }
        while let Some((tag, rest)) = part.split_once(':').filter(|(tag, _)| is_tag(tag)) {
            free = match tag.trim() {
                "NOPASSWD" => true,
                "PASSWD" => false,
                _ => free,
            };
            part = rest.trim();
        }
        if as_root && free && !part.starts_with('!') && !part.is_empty() {
            found = Some(found.unwrap_or(false) || part == "ALL");
        }
    }
    found
}

fn is_tag(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_u32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// `permit nopass WHO [as TARGET] …` of doas.conf(5).
fn doas(root: &Root, who: &Who<'_>) -> Vec<String> {
    let mut ways = Vec::new();
    for path in ["/etc/doas.conf", "/usr/local/etc/doas.conf"] {
        let text = root.resolve(Path::new(path)).and_then(|real| fs_err::read_to_string(real).ok());
        for line in text.unwrap_or_default().lines() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let meant = words.iter().any(|word| match word.strip_prefix(':') {
                Some(group) => who.groups.iter().any(|name| name == group),
                None => *word == who.account.name,
            });
            let target = words.iter().position(|word| *word == "as").and_then(|at| words.get(at + 1));
            let as_root = target.is_none_or(|target| *target == "root");
            if words.first() == Some(&"permit") && words.contains(&"nopass") && meant && as_root {
                ways.push(format!("password-less doas ({path})"));
            }
        }
    }
    ways
}

#[cfg(unix)]
fn sockets(root: &Root, who: &Who<'_>) -> Vec<String> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let class = |meta: &std::fs::Metadata| {
        if meta.uid() == who.account.uid {
            6
        } else if who.gids.contains(&meta.gid()) {
            3
        } else {
            0
        }
    };
    let may = |meta: &std::fs::Metadata, bit: u32| (meta.mode() >> class(meta)) & bit != 0;
    let known = group_file(root);
    let mut ways = Vec::new();
    for path in SOCKETS {
        let Some(real) = root.resolve(Path::new(path)) else { continue };
        let Ok(meta) = fs_err::symlink_metadata(&real) else { continue };
        let reachable = real
            .ancestors()
            .skip(1)
            .take_while(|directory| directory.starts_with(root.path()))
            .all(|directory| fs_err::metadata(directory).is_ok_and(|meta| may(&meta, 0o1)));
        // Not reported if access comes from a group that is already reported.
        let named = class(&meta) == 3
            && known.iter().any(|group| group.gid == meta.gid() && GROUPS.contains(&group.name.as_str()));
        if meta.file_type().is_socket() && may(&meta, 0o2) && reachable && !named {
            ways.push(format!("may use the socket {path}"));
        }
    }
    ways
}

#[cfg(not(unix))]
fn sockets(_: &Root, _: &Who<'_>) -> Vec<String> {
    Vec::new()
}
