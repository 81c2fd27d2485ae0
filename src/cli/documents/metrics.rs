//! The metrics of `--metrics`.

use crate::cli::metrics::METRICS;
use std::fmt::Write as _;

/// The page of the reference.
pub(in crate::cli) fn page() -> String {
    let mut text = "# Metrics\n\n\
                    With `--metrics DIR`, `install`, `run`, `upgrade` and `status` write these into files of the runner in `DIR`, \
                    from which the textfile collector of node_exporter reads them. Each has the label `dir`, the directory of \
                    the runner. `status --local` writes what it finds and asks no server, so a timer can keep that current. \
                    `run` writes when its runner goes online or offline, and when it begins or ends a job.\n\n\
                    | metric | type | labels | meaning |\n|---|---|---|---|\n"
        .to_owned();
    for (name, kind, labels, help) in METRICS {
        let labels: Vec<String> = ["dir"].iter().chain(*labels).map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    text
}
