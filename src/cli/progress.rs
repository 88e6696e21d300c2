//! Progress bars on the terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar with `message`, of unknown length so far.
pub(super) fn bar(message: &'static str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} eta {eta}")?);
    bar.set_message(message);
    Ok(bar)
}

/// Shows that `done` of `total` items are processed.
pub(super) fn show(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}
