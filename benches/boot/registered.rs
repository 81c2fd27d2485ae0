//! From a baked tree to a registered runner.

use crate::events::{Spent, now, print_spent, read, spent};
use crate::machine::Image;
use crate::{Outcome, median};

/// The magic number of a tmpfs.
const TMPFS: u64 = 0x0102_1994;

/// One installation.
struct Round {
    /// Until the registration is confirmed, without `config.sh`.
    ours: f64,
    /// In `config.sh`.
    script: f64,
    /// From then until the command has ended.
    after: f64,
    spent: Spent,
}

pub fn measure(image: &Image, rounds: usize) -> Outcome<()> {
    let warm: Outcome<Vec<Round>> = (0..rounds).map(|_| install(image, false)).collect();
    report("warm", &warm?);
    if let Err(error) = drop_caches() {
        println!("registered, cold             not measured: the caches cannot be dropped: {error}");
        return Ok(());
    }
    if is_tmpfs(image)? {
        println!("                             TMPDIR is on a tmpfs: of the machine, nothing becomes cold");
    }
    let cold: Outcome<Vec<Round>> = (0..rounds).map(|_| install(image, true)).collect();
    report("cold", &cold?);
    Ok(())
}

fn install(image: &Image, cold: bool) -> Outcome<Round> {
    let machine = image.machine()?;
    let mut command = machine.command("install", &["install", "--service", "none"])?;
    if cold {
        drop_caches()?;
    }
    let start = now();
    let status = command.status()?;
    let end = now();
    if !status.success() {
        return Err(format!("install failed: {}", machine.log("install")).into());
    }
    let mut events = read(&machine.events("install"))?;
    let last = events.iter().position(|event| event.ends("confirm")).ok_or("nothing was confirmed")?;
    events.truncate(last + 1);
    let script = events.iter().filter(|event| event.ends("config.sh")).map(|event| event.seconds).sum();
    let registered = events[last].time;
    Ok(Round {
        ours: registered - start - script,
        script,
        after: end - registered,
        spent: spent(start, &events),
    })
}

fn report(caches: &str, rounds: &[Round]) {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure)) * 1e3;
    println!("registered, {caches}             {:.0} ms   (at most 50)", of(|round| round.ours));
    println!("  config.sh, not counted     {:.0} ms", of(|round| round.script));
    println!("  afterwards, not counted    {:.0} ms", of(|round| round.after));
    let spent: Vec<Spent> = rounds.iter().map(|round| round.spent.clone()).collect();
    print_spent(&spent);
}

fn drop_caches() -> std::io::Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3")
}

fn is_tmpfs(image: &Image) -> Outcome<bool> {
    Ok(u64::try_from(rustix::fs::statfs(image.directory())?.f_type)? == TMPFS)
}
