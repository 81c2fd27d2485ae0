//! Boot storms: `cargo bench --bench storm`.
//!
//! Lets 500 machines boot at once, twice: first each creates a registration token of its own with the API token that all
//! share, then all get one registration token. Prints a line of JSON for each storm, and fails unless all runners are
//! online, none is a ghost, and at most a tenth of the machines has called in any second.
//!
//! As root, each machine has a PID namespace of its own. Registering takes a few tenths of a second of processor time for
//! each machine, nearly all of it in the fake `config.sh`: on a busy machine they stand in a queue for it, and more of them
//! are under way in any second.
//!
//! `RUNUP_STORM_MACHINES=N` sets how many, `RUNUP_STORM_WINDOW=SECONDS` how long a minute of GitHub's limits is (20), and
//! `RUNUP_STORM_SPREAD=SECONDS` the `--start-spread` of the machines (120).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]

mod fleet;

use fleet::{Outcome, Storm};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match storms() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn storms() -> Outcome<bool> {
    let number = |name: &str, default: f64| match std::env::var(name) {
        Ok(text) => text.parse::<f64>().map_err(|_| format!("{name} is not a number")),
        Err(_) => Ok(default),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of machines")]
    let machines = number("RUNUP_STORM_MACHINES", 500.0)? as usize;
    let minute = Duration::from_secs_f64(number("RUNUP_STORM_WINDOW", 20.0)?);
    let start_spread = Duration::from_secs_f64(number("RUNUP_STORM_SPREAD", 120.0)?);
    let apart = rustix::process::geteuid().is_root();
    let mut well = true;
    for one_token in [false, true] {
        let patience = Duration::from_secs(900);
        let storm = Storm { machines, minute, start_spread, one_token, used: 0, apart, patience };
        let report = storm.run(Path::new(env!("CARGO_BIN_EXE_runup")))?;
        println!("{}", report.json(&storm));
        eprint!("{}", report.logs);
        well &= report.online == machines && report.ghosts == 0;
        well &= report.most_in_a_second <= machines.div_ceil(10);
    }
    Ok(well)
}
