//! The content of an archive: the names and modes of GitHub's runner, with small fake programs.

use super::archive::Platform;

/// One member.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative, without `./`.
    pub path: String,
    pub kind: Kind,
    pub executable: bool,
}

/// What a member is.
#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    File(Vec<u8>),
    Link(&'static str),
}

/// An embedded script of the fake runner; `@VERSION@` and the like are replaced when the archive is built.
macro_rules! script {
    ($name:literal) => {
        include_str!(concat!("runner/", $name))
    };
}

/// Path, text and executable bit of the files in every Unix archive.
const UNIX: [(&str, &str, bool); 27] = [
    ("config.sh", script!("config.sh"), true),
    ("env.sh", script!("env.sh"), true),
    ("run.sh", script!("run.sh"), true),
    ("run-helper.sh.template", script!("run-helper.sh.template"), true),
    ("run-helper.cmd.template", script!("run-helper.cmd.template"), false),
    ("safe_sleep.sh", script!("safe_sleep.sh"), true),
    ("bin/Runner.Listener", script!("Runner.Listener"), true),
    ("bin/Runner.PluginHost", script!("program"), true),
    ("bin/Runner.Worker", script!("worker.sh"), true),
    ("bin/RunnerService.js", script!("RunnerService.js"), false),
    ("bin/actions.runner.service.template", script!("actions.runner.service.template"), false),
    ("bin/checkScripts/makeWebRequest.js", "// A stand-in: it checks nothing.\n", false),
    ("bin/hashFiles/index.js", "// A stand-in: it hashes nothing.\n", false),
    ("bin/installdependencies.sh", script!("installdependencies.sh"), true),
    ("bin/runsvc.sh", script!("runsvc.sh"), true),
    ("bin/standin/arguments.sh", script!("arguments.sh"), false),
    ("bin/standin/configure.sh", script!("configure.sh"), false),
    ("bin/standin/files.sh", script!("files.sh"), false),
    ("bin/standin/http.sh", script!("http.sh"), false),
    ("bin/standin/listen.sh", script!("listen.sh"), false),
    ("bin/standin/remove.sh", script!("remove.sh"), false),
    ("bin/standin/update.sh", script!("update.sh"), false),
    ("bin/systemd.svc.sh.template", script!("systemd.svc.sh.template"), false),
    ("bin/update.sh.template", script!("update.sh.template"), true),
    ("externals/node20/LICENSE", NODE_NOTE, false),
    ("externals/node20/bin/node", script!("node"), true),
    ("externals/node20/lib/node_modules/npm/bin/npm-cli.js", NPM_NOTE, true),
];

/// The same under the newer Node, which linux-arm does not have.
const NODE24: [(&str, &str, bool); 3] = [
    ("externals/node24/LICENSE", NODE_NOTE, false),
    ("externals/node24/bin/node", script!("node"), true),
    ("externals/node24/lib/node_modules/npm/bin/npm-cli.js", NPM_NOTE, true),
];

const WINDOWS: [(&str, &str, bool); 12] = [
    ("config.cmd", script!("config.cmd"), false),
    ("run.cmd", script!("run.cmd"), false),
    ("run-helper.cmd.template", script!("run-helper.cmd.template"), false),
    ("run-helper.sh.template", script!("run-helper.sh.template"), false),
    ("bin/Runner.Listener.ps1", script!("Runner.Listener.ps1"), false),
    ("bin/Runner.Listener.exe", EXE_NOTE, false),
    ("bin/Runner.PluginHost.exe", EXE_NOTE, false),
    ("bin/Runner.Worker.exe", EXE_NOTE, false),
    ("bin/RunnerService.exe", EXE_NOTE, false),
    ("bin/update.cmd.template", "@rem A stand-in: it updates nothing.\r\n", false),
    ("externals/node20/bin/node.exe", EXE_NOTE, false),
    ("externals/node24/bin/node.exe", EXE_NOTE, false),
];

const NODE_NOTE: &str = "This is not Node.js, but a stand-in that starts the sandbox's listener.\n";
const NPM_NOTE: &str = "#!/usr/bin/env node\n// A stand-in: the links to it are what matters.\n";
const EXE_NOTE: &str = "A stand-in, not a program: see bin\\Runner.Listener.ps1.\r\n";

/// Relative links that stay inside, as in Node's own archives.
const LINKS: [(&str, &str); 2] = [
    ("bin/npm", "../lib/node_modules/npm/bin/npm-cli.js"),
    ("bin/npx", "../lib/node_modules/npm/bin/npm-cli.js"),
];

/// How much incompressible data each archive has, so that there are enough bytes to cut, resume and corrupt.
const BALLAST: usize = 40_000;

/// Everything in the archive of this platform and version, directories before their content.
pub(super) fn entries(platform: Platform, version: &str, require_libicu: bool) -> Vec<Entry> {
    let windows = platform.os == "win";
    let mut found = Vec::new();
    let mut add = |files: &[(&str, &str, bool)]| {
        for (path, text, executable) in files {
            let text = fill_in(text, platform, version, require_libicu);
            found.push(Entry {
                path: (*path).to_owned(),
                kind: Kind::File(text.into_bytes()),
                executable: *executable,
            });
        }
    };
    if windows {
        add(&WINDOWS);
    } else {
        add(&UNIX);
        if platform.id != "linux-arm" {
            add(&NODE24);
        }
    }
    // The version can be read from this file without running anything.
    add(&[("bin/Runner.Listener.deps.json", script!("Runner.Listener.deps.json"), false)]);
    let mut noise = fastrand::Rng::with_seed(2026);
    let ballast: Vec<u8> = std::iter::repeat_with(|| noise.u8(..)).take(BALLAST).collect();
    found.push(Entry {
        path: "bin/Runner.Listener.dll".to_owned(),
        kind: Kind::File(ballast),
        executable: false,
    });
    if !windows {
        for node in ["externals/node20", "externals/node24"] {
            let there = found.iter().any(|entry| entry.path.starts_with(node));
            for (name, target) in LINKS.iter().filter(|_| there) {
                found.push(Entry {
                    path: format!("{node}/{name}"),
                    kind: Kind::Link(target),
                    executable: true,
                });
            }
        }
    }
    with_dirs(found)
}

/// The header of a script.
fn fill_in(text: &str, platform: Platform, version: &str, require_libicu: bool) -> String {
    let (label, os) = match platform.os {
        "osx" => ("macOS", "macos"),
        "win" => ("Windows", "windows"),
        _ => ("Linux", "linux"),
    };
    let check = if require_libicu { script!("libicu.sh") } else { "" };
    text.replace("@LIBICU_CHECK@\n", check)
        .replace("@VERSION@", version)
        .replace("@RUNTIME@", platform.id)
        .replace("@OS_LABEL@", label)
        .replace("@OS@", os)
        .replace("@ARCH@", &platform.architecture.to_ascii_uppercase())
}

fn with_dirs(files: Vec<Entry>) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for file in files {
        for (at, _) in file.path.match_indices('/') {
            let dir = &file.path[..at];
            if !all.iter().any(|entry| entry.path == dir) {
                all.push(Entry { path: dir.to_owned(), kind: Kind::Directory, executable: true });
            }
        }
        all.push(file);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_what_makes_it_a_runner() {
        for platform in Platform::ALL {
            let entries = entries(platform, "2.336.0", false);
            let has = |path: &str| entries.iter().any(|entry| entry.path == path);
            if platform.os == "win" {
                assert!(has("config.cmd") && has("run.cmd") && has("bin/Runner.Listener.exe"));
                continue;
            }
            assert!(has("config.sh") && has("run.sh") && has("bin/Runner.Worker") && has("bin/runsvc.sh"));
            assert_eq!(has("externals/node24/bin/node"), platform.id != "linux-arm");
            let runs = |path: &str| entries.iter().any(|entry| entry.path == path && entry.executable);
            assert!(runs("bin/Runner.Listener") && runs("externals/node20/bin/node") && runs("config.sh"));
        }
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        for platform in Platform::ALL {
            for require_libicu in [false, true] {
                for entry in entries(platform, "2.336.0", require_libicu) {
                    let Kind::File(content) = entry.kind else { continue };
                    let text = String::from_utf8_lossy(&content);
                    for mark in ["@VERSION@", "@RUNTIME@", "@OS@", "@OS_LABEL@", "@ARCH@", "@LIBICU_CHECK@"] {
                        assert!(!text.contains(mark), "{mark} in {} of {}", entry.path, platform.id);
                    }
                }
            }
        }
    }
}
