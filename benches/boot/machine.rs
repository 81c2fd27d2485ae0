//! An image, and the machines that are made from it: directories.

use crate::Outcome;
use runup::sandbox::{Background, Options, spawn_in_thread};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The user of the jobs, which exists only below the root of the image.
pub const USER: &str = "runner";

/// A root file system with a baked runner.
pub struct Image {
    root: PathBuf,
}

/// A machine that has just been created from the image, with a server of its own. It is deleted when this is dropped.
pub struct Machine {
    pub sandbox: Background,
    pub root: PathBuf,
}

impl Image {
    /// Makes it in this directory.
    pub fn bake(directory: &Path) -> Outcome<Self> {
        // The runner's user must be able to read its way down, as GitHub's runner demands.
        allow(directory, 0o755)?;
        let sandbox = spawn_in_thread(Options::default())?;
        let image = Self { root: directory.join("image") };
        bare(&image.root)?;
        bake(&sandbox, &image.root, &[])?;
        let Some(real) = std::env::var_os("RUNUP_BENCH_ARCHIVE") else { return Ok(image) };
        let archive = directory.join("archive.tar.gz");
        let sha256 = join(&image, Path::new(&real), &archive)?;
        std::fs::remove_dir_all(&image.root)?;
        bare(&image.root)?;
        bake(&sandbox, &image.root, &["--archive", path(&archive)?, "--sha256", &sha256])?;
        std::fs::remove_file(archive)?;
        Ok(image)
    }

    /// How many files and directories the runner has.
    pub fn entries(&self) -> Outcome<usize> {
        let (mut count, mut dirs) = (0, vec![self.root.join("opt/actions-runner")]);
        while let Some(next) = dirs.pop() {
            for entry in std::fs::read_dir(next)? {
                let entry = entry?;
                count += 1;
                if entry.file_type()?.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(count)
    }

    /// Where the machines are.
    pub fn directory(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// A machine that boots for the first time.
    pub fn machine(&self) -> Outcome<Machine> {
        let root = self.root.with_file_name("machine");
        let machine = Machine { sandbox: spawn_in_thread(Options::default())?, root };
        // What an image has is on the disk: nobody waits for it to be written.
        sh(r#"cp -a "$1" "$2" && sync -f "$2""#, &[&self.root, &machine.root])?;
        std::fs::write(machine.root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n")?;
        Ok(machine)
    }
}

impl Machine {
    /// A command about the machine, which writes its events and its log to files in the root.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Outcome<Command> {
        let mut command = runup(&self.sandbox, &self.root, arguments);
        command.arg("--events").arg(self.events(name));
        command.stderr(std::fs::File::create(self.root.join(format!("{name}.log")))?);
        Ok(command)
    }

    /// The events of the command of that name.
    pub fn events(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.events"))
    }

    /// The log of that command, for an error.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.root.join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The directory above it is deleted in the end.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn runup(sandbox: &Background, root: &Path, arguments: &[&str]) -> Command {
    let built = std::env::var_os("RUNUP_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_runup").into());
    let mut command = Command::new(built);
    command.args(arguments).arg("--url").arg(format!("{}octo-org", sandbox.base_url()));
    command.arg("--root").arg(root).args(["--user", USER]);
    command.env_clear().env("PATH", PATH).env("HOME", root).env("RUNUP_TOKEN", sandbox.token().expose());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A root without a runner.
fn bare(root: &Path) -> Outcome<()> {
    for shared in ["tmp", "var/tmp"] {
        std::fs::create_dir_all(root.join(shared))?;
        allow(&root.join(shared), 0o1777)?;
    }
    std::fs::create_dir(root.join("etc"))?;
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    std::fs::write(root.join("etc/machine-id"), "")?;
    Ok(())
}

fn bake(sandbox: &Background, root: &Path, arguments: &[&str]) -> Outcome<()> {
    let mut command = runup(sandbox, root, &[&["bake", "--quiet"], arguments].concat());
    let output = command.stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("the image could not be baked: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Makes an archive of the files of `real` and, instead of those of the same names, the sandbox's runner, whose scripts can
/// register. Returns its digest.
fn join(image: &Image, real: &Path, archive: &Path) -> Outcome<String> {
    let script = r#"set -e
        trap 'rm -rf "$3.tree"' EXIT
        mkdir "$3.tree"
        tar -xzf "$2" -C "$3.tree"
        cp -a "$1"/opt/.runup-store/*/tree/. "$3.tree"
        tar -C "$3.tree" -c . | gzip -1 >"$3"
        sha256sum <"$3""#;
    let printed = sh(script, &[&image.root, real, archive])?;
    Ok(printed.split(' ').next().unwrap_or_default().to_owned())
}

/// Runs a shell script with these arguments, and returns what it prints.
pub fn sh(script: &str, arguments: &[&Path]) -> Outcome<String> {
    let output = Command::new("sh").args(["-c", script, "sh"]).args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("a script failed: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn allow(path: &Path, mode: u32) -> Outcome<()> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn path(path: &Path) -> Outcome<&str> {
    Ok(path.to_str().ok_or("TMPDIR is not text")?)
}
