//! Measures placing (download, verify, extract, move into place) against `curl`, `sha256sum` and `tar xzf`, from the same
//! server, onto the same filesystem, in turns; both end when all of it is on the disk. What counts are ratios within one
//! run; seconds depend on the machine.
//!
//! ```text
//! RUNUP_BENCH_ARCHIVE=actions-runner-linux-x64-2.999.0.tar.gz cargo bench --bench place
//! ```
//!
//! `RUNUP_BENCH_ROUNDS` (5) and `RUNUP_BENCH_DIR` (`/dev/shm`) can be set too; with `RUNUP_BENCH_WRITER=200`, syncing while
//! unpacking is compared with one sync at the end, beside a process that writes 200 MB/s, or as much of it as the disk takes:
//! for that, the directory must be on a disk, with more than 2 GiB of free space. The budgets are those of the static binary
//! (`--target x86_64-unknown-linux-musl`); a disk is a journalled ext4 or XFS. Each part is a process of its own, this program
//! called with other arguments, so that memory and processor time are those of placing alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use runup::deadline::Deadline;
use runup::host::free_space;
use runup::net::{Http, HttpOptions, Url};
use runup::transfer::store::{Cost, Making, Store};
use runup::transfer::{Expect, Format, Limits, Order, Source, place, stage};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", archive] => serve(Path::new(archive)),
        ["place", url, sha256, folder] => place_once(url, sha256, Path::new(folder), Limits::default()),
        ["place-and-sync", url, sha256, folder] => {
            let limits = Limits { unsynced: u64::MAX, ..Limits::default() };
            place_once(url, sha256, Path::new(folder), limits)
        }
        ["write", folder, rate] => write_on(Path::new(folder), rate.parse()?),
        _ => measure(),
    }
}

/// What one placing took.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    /// From the start of the process to its end.
    wall: f64,
    /// Processor time of all its threads.
    cpu: f64,
    /// Processor time of the busiest of them.
    slowest: f64,
    /// Peak memory in kilobytes.
    peak: f64,
}

fn measure() -> Outcome<()> {
    let Some(archive) = std::env::var_os("RUNUP_BENCH_ARCHIVE").map(PathBuf::from) else {
        println!("nothing measured: RUNUP_BENCH_ARCHIVE names no archive");
        return Ok(());
    };
    let rounds: usize = std::env::var("RUNUP_BENCH_ROUNDS").ok().map_or(Ok(5), |text| text.parse())?;
    let base = std::env::var_os("RUNUP_BENCH_DIR").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let folder = tempfile::tempdir_in(base)?;
    // Beside what is placed, so that the disk of the archive has no part in it.
    let copy = folder.path().join("archive.tar.gz");
    std::fs::copy(&archive, &copy)?;
    let sums = Command::new("sha256sum").arg(&copy).output()?.stdout;
    let sha256 = String::from_utf8(sums)?.split(' ').next().unwrap_or_default().to_owned();
    let (server, url) = Background::serve(&copy)?;

    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for round in 0..rounds {
        // In turns, so that a machine that becomes slower or faster does so for both.
        if round % 2 == 0 {
            ours.push(run_ours("place", &url, &sha256, folder.path())?);
            theirs.push(run_theirs(&url, &sha256, folder.path())?);
        } else {
            theirs.push(run_theirs(&url, &sha256, folder.path())?);
            ours.push(run_ours("place", &url, &sha256, folder.path())?);
        }
    }
    report(&ours, &theirs)?;
    share(&url, &sha256, folder.path(), rounds)?;
    if let Some(rate) = std::env::var("RUNUP_BENCH_WRITER").ok().filter(|rate| !rate.is_empty()) {
        beside_a_writer(&url, &sha256, folder.path(), rounds, &rate)?;
    }
    drop(server);
    Ok(())
}

/// Measures a second tree that is made from the verified copy of the first: by hard links, and durable.
fn share(url: &str, sha256: &str, folder: &Path, rounds: usize) -> Outcome<()> {
    let (first, second) = (folder.join("runner"), folder.join("second"));
    let placed = Command::new(std::env::current_exe()?).args(["place", url, sha256]).arg(&first).output()?;
    if !placed.status.success() {
        return Err(format!("placing failed: {}", placed.status).into());
    }
    let (store, digest) = (Store::beside(&first), sha256.parse()?);
    let empty = free_space(folder)?;
    let start = Instant::now();
    store.fill(&first, None, digest, Cost::Space)?;
    let filling = start.elapsed().as_secs_f64();
    let bytes: u64 = walk(&first)?.iter().map(std::fs::Metadata::len).sum();
    println!("a copy for more runners      {filling:.2} s, {}", share_of(empty, free_space(folder)?, bytes));
    let entry = store.find(digest).ok_or("the copy is not there")?;
    let making = Making { shares: true, owner: None, closed: false };
    let (mut seconds, mut disk) = (Vec::new(), String::new());
    for _ in 0..rounds {
        let before = free_space(folder)?;
        let start = Instant::now();
        let staging = place::staging_path(&second);
        entry.make(digest, &staging, making).map_err(|failed| format!("{failed:?}"))?;
        place::commit(&staging, &second)?;
        seconds.push(start.elapsed().as_secs_f64());
        disk = share_of(before, free_space(folder)?, bytes);
        std::fs::remove_dir_all(&second)?;
    }
    println!(
        "a second runner from it      {:.2} s, {disk}   (at most 0.3 s, 5 %)",
        median(seconds.into_iter())
    );
    store.clear()?;
    std::fs::remove_dir_all(first)?;
    Ok(())
}

/// Compares syncing meanwhile with one sync at the end while another process writes to the same filesystem, at `rate` MB/s.
fn beside_a_writer(url: &str, sha256: &str, folder: &Path, rounds: usize, rate: &str) -> Outcome<()> {
    let mut writer = Background::write(folder, rate)?;
    // Until it has filled what the kernel keeps in memory.
    std::thread::sleep(Duration::from_secs(3));
    let (mut meanwhile, mut at_the_end) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut turns = [("place", &mut meanwhile), ("place-and-sync", &mut at_the_end)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (how, all) in turns {
            all.push(run_ours(how, url, sha256, folder)?.wall);
        }
    }
    if let Some(status) = writer.0.try_wait()? {
        return Err(format!("the writer has ended: {status}").into());
    }
    drop(writer);
    let ratios = meanwhile.iter().zip(&at_the_end).map(|(meanwhile, at_the_end)| meanwhile / at_the_end);
    println!("beside a writer of {rate} MB/s  {:.2} s", median(meanwhile.iter().copied()));
    println!("  with one sync at the end   {:.2} s", median(at_the_end.iter().copied()));
    println!("  ratio                      {:.2}   (at most 1.0)", median(ratios));
    Ok(())
}

/// What was used, of so many bytes.
fn share_of(before: u64, after: u64, bytes: u64) -> String {
    let used = before.saturating_sub(after);
    format!("{} % of the disk space of the first", (used * 100).div_ceil(bytes.max(1)))
}

fn walk(dir: &Path) -> Outcome<Vec<std::fs::Metadata>> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                dirs.push(entry.path());
            }
            found.push(meta);
        }
    }
    Ok(found)
}

fn report(ours: &[Figures], theirs: &[f64]) -> Outcome<()> {
    let cores = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
    let floors: Vec<f64> = ours.iter().map(|run| (run.cpu / cores).max(run.slowest)).collect();
    let ratios = |other: &[f64]| median(other.iter().zip(ours).map(|(other, run)| other / run.wall));
    let against_floor = median(ours.iter().zip(&floors).map(|(run, floor)| run.wall / floor));
    println!("rounds                       {}", ours.len());
    println!("cores                        {cores}");
    println!("curl + sha256sum + tar       {:.2} s", median(theirs.iter().copied()));
    println!("runup                        {:.2} s", median(ours.iter().map(|run| run.wall)));
    println!("  processor time             {:.2} s", median(ours.iter().map(|run| run.cpu)));
    println!("  its busiest thread         {:.2} s", median(ours.iter().map(|run| run.slowest)));
    println!("times faster than the three  {:.2}   (at least 4.0 on a tmpfs, 3.0 on a disk)", ratios(theirs));
    println!("times its floor              {against_floor:.2}   (at most 1.2 on a tmpfs)");
    // On a busy machine the best rounds come closest to what a quiet one would show.
    let best_theirs = theirs.iter().copied().fold(f64::INFINITY, f64::min);
    let best_ours = ours.iter().map(|run| run.wall).fold(f64::INFINITY, f64::min);
    let best_floor =
        ours.iter().zip(&floors).map(|(run, floor)| run.wall / floor).fold(f64::INFINITY, f64::min);
    println!("best rounds                  {best_theirs:.2} s, {best_ours:.2} s");
    println!("  times faster, times floor  {:.2}, {best_floor:.2}", best_theirs / best_ours);
    let peak = ours.iter().map(|run| run.peak).fold(0.0, f64::max) / 1024.0;
    println!("peak memory                  {peak:.1} MiB   (at most 20)");
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn run_ours(how: &str, url: &str, sha256: &str, folder: &Path) -> Outcome<Figures> {
    let target = folder.join("runner");
    let start = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .args([how, url, sha256])
        .arg(&target)
        .stderr(Stdio::inherit())
        .output()?;
    let wall = start.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(format!("placing failed: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    let [cpu, slowest, peak] = numbers?[..] else { return Err("placing printed no figures".into()) };
    std::fs::remove_dir_all(target)?;
    Ok(Figures { wall, cpu, slowest, peak })
}

fn run_theirs(url: &str, sha256: &str, folder: &Path) -> Outcome<f64> {
    let script = r#"set -e
        curl --silent --show-error --fail --output runner.tar.gz "$1"
        echo "$2  runner.tar.gz" | sha256sum --check --quiet
        mkdir runner
        tar xzf runner.tar.gz -C runner
        rm runner.tar.gz
        sync --file-system runner"#;
    let start = Instant::now();
    let status = Command::new("sh").args(["-c", script, "sh", url, sha256]).current_dir(folder).status()?;
    let wall = start.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("curl, sha256sum and tar failed: {status}").into());
    }
    std::fs::remove_dir_all(folder.join("runner"))?;
    Ok(wall)
}

/// Places the archive, and prints its processor time, that of its busiest thread, and its peak memory.
fn place_once(url: &str, sha256: &str, target: &Path, limits: Limits) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let http = Http::new(HttpOptions::default())?;
        let order = Order {
            source: Source::Http { url: Url::parse(url)?, bearer: None },
            format: Format::TarGz,
            expect: Expect::Sha256(sha256.parse()?),
            staging: place::staging_path(target),
            owner: None,
            closed: false,
            limits,
            retry_timeout: Duration::from_secs(60),
        };
        let staged = stage(&http, &order, Arc::new(()), &CancellationToken::new()).await?;
        place::commit(&staged.path, target)?;
        let threads = thread_seconds()?;
        let busiest = threads.iter().copied().fold(0.0, f64::max);
        let all = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let all = Duration::try_from(all)?.as_secs_f64();
        println!("{all} {busiest} {}", peak_kilobytes()?);
        Ok(())
    })
}

/// The processor time of each thread of this process that has not ended, in seconds, to the nanosecond.
fn thread_seconds() -> Outcome<Vec<f64>> {
    let mut seconds = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse()?;
        seconds.push(Duration::from_nanos(nanoseconds).as_secs_f64());
    }
    Ok(seconds)
}

fn peak_kilobytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A process that ends when this is dropped.
struct Background(Child);

impl Background {
    fn write(folder: &Path, rate: &str) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        Ok(Self(Command::new(program).arg("write").arg(folder).arg(rate).spawn()?))
    }

    fn serve(archive: &Path) -> Outcome<(Self, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(archive)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let url = format!("http://{}/archive.tar.gz", line.trim());
        let until = Deadline::after(Duration::from_secs(10));
        while TcpStream::connect(line.trim()).is_err() {
            if until.passed() {
                return Err("the server does not answer".into());
            }
        }
        Ok((server, url))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It goes on for ever; nothing is lost.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes one file over and over, so many millions of bytes a second.
fn write_on(folder: &Path, rate: f64) -> Outcome<()> {
    const CHUNK: u32 = 2 << 20;
    const SIZE: u64 = 1 << 30;
    let mut file = std::fs::File::create(folder.join("writer"))?;
    let chunk: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(CHUNK as usize).collect();
    let (mut start, mut written, mut position) = (Instant::now(), 0.0, 0);
    loop {
        file.write_all(&chunk)?;
        written += f64::from(CHUNK);
        position += u64::from(CHUNK);
        if position >= SIZE {
            file.rewind()?;
            position = 0;
        }
        let ahead = written / (rate * 1e6) - start.elapsed().as_secs_f64();
        if ahead > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(ahead));
        } else if ahead < -2.0 {
            // The disk is slower than that: what was not written is not made up for.
            (start, written) = (Instant::now(), 0.0);
        }
    }
}

/// Serves one file to whoever connects, whatever is asked.
fn serve(archive: &Path) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
            request.push(byte[0]);
        }
        if request.is_empty() {
            continue;
        }
        let mut file = std::fs::File::open(archive)?;
        let length = file.metadata()?.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
        // The standard library makes this a sendfile call; whoever hangs up early is no concern of ours.
        let _ = std::io::copy(&mut file, &mut stream);
    }
}
