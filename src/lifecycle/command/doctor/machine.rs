//! What the machine must have.

use crate::deadline::Deadline;
use crate::error::situation;
use crate::host::{self, Os, account, systemd};
use crate::lifecycle::command::doctor::umask::umask;
use crate::lifecycle::command::doctor::{Check, Verdict, jobs};
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::runner::{libraries, preflight};
use crate::transfer;

/// An installation is refused with less: half of what a runner takes by the size of its archive.
const LEAST: u64 = 250_000_000;
/// What a runner takes while it is installed.
const SPACE: u64 = 700_000_000;
/// A runner has about 6,000 files.
const FILES: u64 = 10_000;
/// What GitHub's runner needs for itself.
const MEMORY: u64 = 512 << 20;

pub(super) async fn checks(site: &Site<'_>, limit: Deadline) -> Vec<Check> {
    let mut checks = vec![platform(site), user(site), directory(site), disk(site), memory(site)];
    if site.platform().os == Os::Linux {
        checks.push(needs(site).await);
        checks.extend(init(site));
        checks.push(journals(site));
        checks.push(selinux(site));
        checks.push(jobs::engine(site));
        let (umask, synchronized, store) =
            tokio::join!(umask(site, limit), jobs::time_sync(site), jobs::store(site, limit));
        checks.extend([umask, synchronized]);
        // Journals that cannot be read are told once.
        checks.extend(store.filter(|store| checks.iter().all(|check| check.detail != store.detail)));
    }
    checks
}

fn platform(site: &Site<'_>) -> Check {
    let machine = &site.machine;
    let found =
        preflight::libc(machine).map(|()| format!("{} on {}", machine.platform, machine.distribution.pretty));
    Check::of("platform", found)
}

fn user(site: &Site<'_>) -> Check {
    match site.account() {
        Err(error) => Check::fails("user", &error),
        Ok(Some(user)) => Check::fine("user", format!("{} (uid {}) exists", user.name, user.uid)),
        Ok(None) if account::is_root() => {
            let name = site.user.as_deref().unwrap_or("the runner's user");
            Check::fine("user", format!("{name} does not exist yet, and can be created"))
        }
        Ok(None) => {
            let name = site.user.clone().unwrap_or_default();
            Check::fails("user", &host::Error::NeedsRoot { name })
        }
    }
}

fn directory(site: &Site<'_>) -> Check {
    let dir = site.request.dir.display();
    if let Err(error) = site.check_parents() {
        return Check::fails("directory", &error);
    }
    let here = site.dir();
    let existing = here.ancestors().find(|path| path.exists()).unwrap_or(&here);
    if host::forbids_programs(existing) {
        let detail = format!("no program in {dir} can be started: its filesystem is mounted with noexec");
        let check = Check::new("directory", Verdict::Fails, detail).named(&situation::PROGRAM_MISSING);
        return Check { fix: Some("Pass another --dir, or mount it without noexec.".into()), ..check };
    }
    if let Err(error) = host::check_writable(existing) {
        return Check::fails("directory", &error);
    }
    Check::fine("directory", format!("{dir} {}", if here.exists() { "exists" } else { "can be created" }))
}

fn disk(site: &Site<'_>) -> Check {
    let dir = site.dir();
    let free = match host::free_space(&dir) {
        Ok(free) => free,
        Err(error) => return Check::unknown("disk", crate::error::chain(&error)),
    };
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(&dir).to_owned();
    let files = host::free_inodes(&existing);
    let megabytes = free / 1_000_000;
    let shown = site.request.root.strip(&existing).unwrap_or_else(|| existing.clone());
    // A runner that is there needs no more.
    if dir.join("config.sh").exists() {
        return Check::fine("disk", format!("{megabytes} MB are free in {}", shown.display()));
    }
    if free < LEAST {
        return Check::fails(
            "disk",
            &transfer::Error::DiskFull { path: shown, free, needed: SPACE, source: None },
        );
    }
    match files {
        _ if free < SPACE => {
            Check::unknown("disk", format!("{megabytes} MB in {} may not be enough", shown.display()))
        }
        Some(files) if files < FILES => Check::unknown(
            "disk",
            format!("room for {files} more files in {} may not be enough", shown.display()),
        ),
        _ => Check::fine("disk", format!("{megabytes} MB are free in {}", shown.display())),
    }
}

fn memory(site: &Site<'_>) -> Check {
    match host::memory() {
        0 => Check::unknown("memory", "the size of the memory could not be read"),
        memory if memory < MEMORY && site.request.root.is_host() => {
            Check::unknown("memory", format!("{} MB may not be enough for jobs", memory / 1_000_000))
        }
        memory => Check::fine("memory", format!("{} MB", memory / 1_000_000)),
    }
}

/// The libraries and programs.
async fn needs(site: &Site<'_>) -> Check {
    let root = &site.request.root;
    if !root.is_host() {
        return Check::unknown("libraries", "those of an image are looked for where it is booted");
    }
    let needs = libraries::missing(root, &site.machine);
    if let Err(error @ libraries::Error::TooOld { .. }) = libraries::check(root, &site.machine, &needs) {
        return Check::fails("libraries", &error);
    }
    if needs.is_empty() {
        return Check::fine("libraries", "all that the runner needs are installed");
    }
    if site.request.deps {
        let missing = libraries::words(&needs).join(", ");
        return Check::unknown("libraries", format!("--deps would install what is missing: {missing}"));
    }
    let missing: Vec<String> = libraries::words(&needs).into_iter().map(str::to_owned).collect();
    let command = libraries::command(root, &site.machine.distribution, &needs, &site.stop).await;
    let install = match command {
        Ok(command) => format!("Run: {command}; or pass --deps to `runup install`."),
        Err(_) => "Install what provides them with the distribution's package manager.".to_owned(),
    };
    Check::fails("libraries", &preflight::Error::LibrariesMissing { missing, install })
}

fn init(site: &Site<'_>) -> Option<Check> {
    site.request.service.as_ref()?;
    Some(if systemd::is_running() || !site.request.root.is_host() {
        Check::fine("init", "systemd runs this machine")
    } else {
        Check::fails("init", &Error::from(ServiceError::NoSystemd))
    })
}

/// Whether what was done can be recorded.
fn journals(site: &Site<'_>) -> Check {
    let state = site.request.state.display();
    match crate::lifecycle::state::journal::Journal::all(&site.state) {
        Err(error) => Check::fails("journal", &error),
        Ok(journals) => Check::fine("journal", format!("{} runners are recorded in {state}", journals.len())),
    }
}

/// Whether the files of the service can get the labels without which systemd may not read them.
fn selinux(site: &Site<'_>) -> Check {
    const ID: &str = "selinux";
    let root = &site.request.root;
    if !root.is_host() || !systemd::selinux_is_enforcing() {
        return Check::fine(ID, "SELinux does not enforce a policy here");
    }
    if host::has_program(root, "restorecon") {
        return Check::fine(ID, "SELinux enforces a policy, and restorecon gives files its labels");
    }
    let detail = "SELinux enforces a policy, and without restorecon files do not get its labels";
    let fix = Some("Install policycoreutils, which has restorecon.".to_owned());
    Check { fix, ..Check::unknown(ID, detail) }
}
