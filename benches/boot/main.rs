//! How long a machine with a baked runner takes, against the sandbox and as root on Linux: `cargo bench --bench boot`.
//!
//! - `registered`: `runup install` until the server has confirmed the registration, without the time of `config.sh`; with warm
//!   caches and, where `/proc/sys/vm/drop_caches` can be written, with cold ones. The answers of the sandbox are part of it:
//!   each takes well under a millisecond. What follows in that command is not: without a service it gives the tree to its user.
//! - `eight`: eight `runup run --instance N` of one image at once until all are online, and the processor time of all their
//!   processes until then. That time divided by the cores is the floor. What the sandbox used and
//!   the hypervisor stole is taken off, and both ratios are printed.
//! - `between`: from the exit of an ephemeral runner's listener to the first call of its next registration, with a user of
//!   its own and the cleaning after jobs.
//!
//! `cargo bench --bench boot -- eight` measures one of them. It empties the caches of the whole machine. Users are created on the
//! way, one after another.
//!
//! A missed budget is no failure, as the machine may be busy; what does not work at all is one.
//!
//! `RUNUP_BENCH_ARCHIVE` names an archive of real shape: the image has its files beside the sandbox's runner. Without it, the
//! tree is that of the sandbox, with some fifty files. `RUNUP_BENCH_ROUNDS` (5) can be set too, and `RUNUP_BIN`, which names
//! the binary to measure, such as the static one that is shipped. Everything is below a directory in `TMPDIR`, which must be on a
//! disk for what is cold to be cold.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "only Linux has such processes"))]

#[cfg(target_os = "linux")]
mod between;
#[cfg(target_os = "linux")]
mod eight;
#[cfg(target_os = "linux")]
mod events;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod registered;

use std::error::Error;

/// What goes wrong is shown and ends the benchmark.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Measures, in so many rounds, and prints.
#[cfg(target_os = "linux")]
type Measure = fn(&machine::Image, usize) -> Outcome<()>;

/// What is measured, in this order.
#[cfg(target_os = "linux")]
const PARTS: [(&str, Measure); 3] =
    [("registered", registered::measure), ("eight", eight::measure), ("between", between::measure)];

#[cfg(target_os = "linux")]
fn main() -> Outcome<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can let jobs have a user of their own".into());
    }
    let rounds: usize = std::env::var("RUNUP_BENCH_ROUNDS").ok().map_or(Ok(5), |text| text.parse())?;
    let names = named()?;
    let _processes = processes::Processes::adopt()?;
    let directory = tempfile::tempdir()?;
    let image = machine::Image::bake(directory.path())?;
    println!("rounds                       {rounds}");
    println!("cores                        {}", std::thread::available_parallelism()?);
    println!("entries of the runner's tree {}", image.entries()?);
    for (_, measure) in PARTS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|it| it == name))
    {
        measure(&image, rounds)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("nothing measured: this is not Linux");
}

/// What the arguments name; nothing is everything.
#[cfg(target_os = "linux")]
fn named() -> Outcome<Vec<String>> {
    // Cargo adds an option of its own.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let unknown = names.iter().find(|name| PARTS.iter().all(|(part, _)| part != name));
    unknown.map_or(Ok(names.clone()), |name| Err(format!("nothing is named {name}").into()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
