//! Parse, run, exit: all of it in [`runup::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    runup::cli::main()
}
