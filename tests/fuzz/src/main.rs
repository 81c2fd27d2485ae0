//! The fuzz targets, in one program, because linking it takes most of the time: `RUNUP_FUZZ_TARGET` chooses one. `tests/fuzz/run`
//! builds and runs them.
//!
//! A target gets arbitrary bytes. It panics if what must hold for all of them does not; libFuzzer then keeps the bytes.

#![no_main]

mod answers;
mod archive;
mod download;
mod machine;
mod server;
mod texts;

use std::sync::OnceLock;

/// A target, and an input that it must accept: if a target refuses everything, it tests nothing.
struct Target {
    name: &'static str,
    run: fn(&[u8]) -> bool,
    good: fn() -> Vec<u8>,
}

static TARGETS: [Target; 9] = [
    Target { name: "tar", run: archive::tar, good: archive::good_tar },
    Target { name: "zip", run: archive::zip, good: archive::good_zip },
    Target { name: "download", run: download::run, good: || vec![1] },
    Target { name: "answers", run: answers::run, good: answers::good },
    Target { name: "headers", run: texts::headers, good: texts::good_headers },
    Target { name: "journal", run: texts::journal, good: texts::good_journal },
    Target { name: "url", run: texts::url, good: texts::good_url },
    Target { name: "config", run: texts::config, good: texts::good_config },
    Target { name: "runner", run: texts::runner, good: texts::good_runner },
];

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("RUNUP_FUZZ_TARGET").expect("RUNUP_FUZZ_TARGET is a target");
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = CHOSEN.get_or_init(|| target.unwrap_or_else(|| panic!("{name:?} is not a target")));
    assert!((target.run)(&(target.good)()), "{name} refuses its own good input");
}

libfuzzer_sys::fuzz_target!(
    init: choose(),
    |data: &[u8]| {
        let target = CHOSEN.get().expect("it was chosen");
        (target.run)(data);
    }
);
