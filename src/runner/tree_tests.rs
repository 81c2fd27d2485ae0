use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

const LINUX: Platform = Platform { os: Os::Linux, arch: Arch::X64 };
const SERVICE: &str =
    "#!/bin/bash\nnodever=\"node20\"\n./externals/node20/bin/node ./bin/RunnerService.js &\n";
const MANIFEST: &str = r#"{"runtimeTarget":{"name":".NETCoreApp,Version=v8.0/linux-x64"},
    "targets":{".NETCoreApp,Version=v8.0/linux-x64":{"Runner.Listener/2.336.0":{"dependencies":{}}}},
    "libraries":{"Runner.Listener/2.336.0":{"type":"project"},"Runner.Sdk/1.0.0":{}}}"#;

fn write(dir: &Path, name: &str, text: &str, mode: u32) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A runner with its programs in the directories `bin` and `externals`.
fn runner(bin: &str, externals: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.sh", "run.sh"] {
        write(dir.path(), name, "", 0o755);
    }
    for name in ["Runner.Listener", "Runner.Worker"] {
        write(dir.path(), &format!("{bin}/{name}"), "", 0o755);
    }
    write(dir.path(), &format!("{bin}/runsvc.sh"), SERVICE, 0o755);
    write(dir.path(), &format!("{bin}/Runner.Listener.deps.json"), MANIFEST, 0o644);
    for node in ["node20", "node24"] {
        write(dir.path(), &format!("{externals}/{node}/bin/node"), "", 0o755);
    }
    dir
}

#[test]
fn a_runner_is_recognised_with_its_version() {
    let dir = runner("bin", "externals");
    let report = inspect(dir.path(), LINUX).unwrap();
    assert!(report.is_runner(), "{report:?}");
    assert_eq!(report.version, Some(RunnerVersion::new(2, 336, 0)));
    assert!(!report.self_updated);
}

#[test]
fn what_is_missing_is_named() {
    let dir = runner("bin", "externals");
    std::fs::remove_dir_all(dir.path().join("externals")).unwrap();
    std::fs::remove_file(dir.path().join("run.sh")).unwrap();
    write(dir.path(), "bin/Runner.Worker", "", 0o644);
    let report = inspect(dir.path(), LINUX).unwrap();
    assert_eq!(report.missing, ["run.sh", "externals/node24/bin/node", "externals/node20/bin/node"]);
    assert_eq!(report.not_executable, ["bin/Runner.Worker"]);
    assert!(!report.is_runner());
}

#[test]
fn arm_and_old_versions_have_no_node24() {
    let dir = runner("bin", "externals");
    std::fs::remove_dir_all(dir.path().join("externals/node24")).unwrap();
    assert!(!inspect(dir.path(), LINUX).unwrap().is_runner());
    assert!(inspect(dir.path(), Platform { os: Os::Linux, arch: Arch::Arm }).unwrap().is_runner());
    write(dir.path(), "bin/Runner.Listener.deps.json", &MANIFEST.replace("2.336.0", "2.300.0"), 0o644);
    assert!(inspect(dir.path(), LINUX).unwrap().is_runner());
}

#[test]
fn nothing_there_is_a_report() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("missing")] {
        let report = inspect(&path, LINUX).unwrap();
        assert_eq!(report.missing.len(), 5);
        assert_eq!(report.version, None);
        let windows = inspect(&path, Platform { os: Os::Win, arch: Arch::X64 }).unwrap();
        assert!(windows.missing.contains(&"bin/Runner.Listener.exe".to_owned()));
    }
}

#[test]
fn a_runner_that_updated_itself_is_still_one() {
    let dir = runner("bin.2.336.0", "externals.2.336.0");
    symlink(dir.path().join("bin.2.336.0"), dir.path().join("bin")).unwrap();
    symlink("externals.2.336.0", dir.path().join("externals")).unwrap();
    let report = inspect(dir.path(), LINUX).unwrap();
    assert!(report.is_runner() && report.self_updated, "{report:?}");
    assert_eq!(report.version, Some(RunnerVersion::new(2, 336, 0)));
}

#[test]
fn a_link_to_anywhere_else_is_refused() {
    let other = runner("bin", "externals");
    std::fs::rename(other.path().join("bin"), other.path().join("bin.1")).unwrap();
    for target in [other.path().join("bin.1"), "/".into(), "..".into(), "bin.2".into(), "./../bin.1".into()] {
        let dir = runner("real", "externals");
        symlink(&target, dir.path().join("bin")).unwrap();
        let result = inspect(dir.path(), LINUX);
        assert!(matches!(result, Err(Error::LinkedOut { .. })), "{target:?}: {result:?}");
    }
    let dir = runner("real", "externals");
    symlink("real", dir.path().join("bin.2")).unwrap();
    symlink("bin.2", dir.path().join("bin")).unwrap();
    assert!(inspect(dir.path(), LINUX).is_err(), "a link to a link");
}

#[test]
fn a_linked_program_or_manifest_is_not_believed() {
    let dir = runner("bin", "externals");
    for name in ["Runner.Listener", "Runner.Listener.deps.json"] {
        let path = dir.path().join("bin").join(name);
        std::fs::rename(&path, dir.path().join(name)).unwrap();
        symlink(dir.path().join(name), &path).unwrap();
    }
    let report = inspect(dir.path(), LINUX).unwrap();
    assert_eq!((report.version, report.missing), (None, vec!["bin/Runner.Listener".to_owned()]));
}
