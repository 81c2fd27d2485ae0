//! Limits the output of a child, so that a child that prints endlessly does not fill a log or a disk.

use std::time::Instant;

/// This many bytes are written at once, more than a normal `config.sh` or listener prints.
const BURST: u64 = 512 << 10;
/// This many bytes are written in every second after that.
const RATE: u64 = 16 << 10;

/// How much can still be written, and what was left out.
pub(super) struct Flood {
    frame: u64,
    left: u64,
    counted_at: Instant,
    lines: u64,
    bytes: u64,
}

impl Flood {
    /// `frame` bytes are written around each line.
    pub(super) fn new(frame: u64, now: Instant) -> Self {
        Self { frame, left: BURST, counted_at: now, lines: 0, bytes: 0 }
    }

    /// Whether a line of this many bytes can be written now.
    pub(super) fn admits(&mut self, bytes: usize, now: Instant) -> bool {
        let bytes = bytes as u64;
        let cost = bytes + self.frame;
        let earned = now.saturating_duration_since(self.counted_at).as_millis() * u128::from(RATE) / 1000;
        if earned > 0 {
            let earned = u64::try_from(earned).unwrap_or(BURST);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.counted_at = now;
        }
        // After lines were left out, some more are held back: a report after every second line would be another flood.
        let needed = if self.lines > 0 { cost.max(RATE) } else { cost };
        if self.left < needed {
            self.lines += 1;
            self.bytes += bytes;
            return false;
        }
        self.left -= cost;
        true
    }

    /// A report of what was left out since the last call.
    pub(super) fn left_out(&mut self) -> Option<String> {
        let (lines, bytes) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.bytes));
        (lines > 0).then(|| format!("left out {lines} lines of output, {bytes} bytes: it prints too fast"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn normal_output_is_written_whole_and_a_flood_is_limited_and_counted() {
        let began = Instant::now();
        let mut flood = Flood::new(1, began);
        assert!((0..2000).all(|_| flood.admits(200, began)));
        assert_eq!(flood.left_out(), None);

        let mut flood = Flood::new(1, began);
        let (mut written, mut left_out, mut reports) = (0, 0, 0);
        // A line of 99 bytes every microsecond, for ten seconds.
        for microsecond in 0..10_000_000_u64 {
            if flood.admits(99, began + Duration::from_micros(microsecond)) {
                if let Some(report) = flood.left_out() {
                    let lines: u64 = report.split(' ').nth(2).unwrap().parse().unwrap();
                    left_out += lines;
                    reports += 1;
                }
                written += 100;
            }
        }
        let last = flood.left_out().unwrap();
        left_out += last.split(' ').nth(2).unwrap().parse::<u64>().unwrap();
        assert!(written <= BURST + 10 * RATE, "{written}");
        assert!(written >= BURST + 8 * RATE, "{written}");
        assert_eq!(written / 100 + left_out, 10_000_000);
        assert!(reports <= 12, "{reports} reports");
    }
}
