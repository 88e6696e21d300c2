//! The log: lines on standard error, for people or for machines.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal as _, stderr};
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt, registry};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The directives are no level and no list of `target=level`.
    #[error("log level: {0}")]
    Directives(#[from] ParseError),
    /// Something else logs for this process already.
    #[error("{0}")]
    Taken(#[from] TryInitError),
}

/// Sets up the log of the process, panics included.
///
/// `directives` is a level or a list such as `info,sqlx=warn`; `json` writes
/// one object per line, else text, coloured on a terminal.
pub fn init(directives: &str, json: bool) -> Result<(), TraceError> {
    let filter: Targets = directives.parse()?;
    let lines = fmt::layer().with_writer(stderr);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(stderr().is_terminal()).boxed()
    };
    registry().with(lines.with_filter(filter)).try_init()?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic is an error like any other: where errors are collected, one that is
/// only printed is one that nobody sees.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("(not text)");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(location, %backtrace, "panic: {message}");
    } else {
        tracing::error!(location, "panic: {message}");
    }
}
