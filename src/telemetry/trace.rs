//! Structured logging to standard error, as text or JSON.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal as _, stderr};
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt, registry};

/// Error of the log setup.
#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    /// The directives are neither a level nor a list of `target=level`.
    #[error("log level: {0}")]
    Directives(#[from] ParseError),
    /// The process already has another logger.
    #[error("{0}")]
    Taken(#[from] TryInitError),
}

/// Initialises the log of the process, including panics.
///
/// `directives` is a level or a list such as `info,sqlx=warn`. `json` writes one object per
/// line; otherwise lines are text, coloured on a terminal.
pub fn init_logging(directives: &str, json: bool) -> Result<(), LogSetupError> {
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

/// Logs a panic as an error, because log collectors do not see a panic that is only printed.
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
