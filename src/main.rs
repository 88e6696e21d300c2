//! The process: command line in, exit code out.

use std::process::ExitCode;

/// A tenth of a scoring request is allocation, most of it in the HTTP stack;
/// this one takes half as long as the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    segmentd::cli::run()
}
