//! The process: command line in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    segmentd::cli::run()
}
