//! The process: from command line to exit code.

use std::process::ExitCode;

/// Allocation takes a tenth of a scoring request, most of it in the HTTP stack; mimalloc
/// takes half as long as the system allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    segmentd::cli::run()
}
