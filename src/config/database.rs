//! Which Postgres, and how to use it.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::load::reader::Reader;
use crate::domain::secret::Secret;

/// 2^50: larger than any disk that this is for.
const MAX_FREE_BYTES: i64 = 1 << 50;

/// Postgres.
#[derive(Debug, Clone)]
pub struct Database {
    /// `None`: run a private server.
    pub url: Option<Secret<String>>,
    /// Connections of this process.
    pub max_connections: u32,
    /// Longest wait for a free one.
    pub acquire_timeout: Duration,
    pub time_limits: TimeLimits,
    /// Where the private server keeps its data.
    pub state_directory: PathBuf,
    /// The server's programs; `None` searches the machine.
    pub postgres_bin: Option<PathBuf>,
    /// Less free space on the private server's disk raises an alert; 0: none.
    pub warn_free_bytes: u64,
    /// With less free space there, events are refused; 0: never.
    pub min_free_bytes: u64,
}

/// Time limits that Postgres enforces on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// Wait of a shared commit of events for a lock.
    pub commit_lock: Duration,
    /// Wait of other work for a lock.
    pub lock: Duration,
    pub statement: Duration,
    /// Of exports, training, back-fills and migrations.
    pub long_statement: Duration,
    /// A transaction in which nothing happens.
    pub idle_transaction: Duration,
}

impl Default for TimeLimits {
    /// As in `config/default.toml`.
    fn default() -> Self {
        Self {
            commit_lock: Duration::from_secs(1),
            lock: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            long_statement: Duration::from_hours(1),
            idle_transaction: Duration::from_mins(1),
        }
    }
}

impl TimeLimits {
    fn read(reader: &mut Reader) -> Self {
        let commit_lock = reader.integer("database.commit_lock_timeout_milliseconds", 10..=60_000);
        Self {
            commit_lock: Duration::from_millis(commit_lock),
            lock: reader.seconds("database.lock_timeout_seconds", 1..=300),
            statement: reader.seconds("database.statement_timeout_seconds", 1..=3600),
            long_statement: reader.seconds("database.long_statement_timeout_seconds", 60..=604_800),
            idle_transaction: reader.seconds("database.idle_transaction_timeout_seconds", 5..=3600),
        }
    }
}

impl Database {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let url = reader.text("database.url");
        let schemes = ["postgres://", "postgresql://"];
        if !url.is_empty() && !schemes.iter().any(|scheme| url.starts_with(scheme)) {
            // The value is a secret, whatever it is.
            reader.refuse("database.url", "does not begin with postgres:// or postgresql://");
        }
        let state_directory = reader.path("database.state_directory");
        if state_directory.is_none() && url.is_empty() {
            reader.refuse("database.state_directory", "is empty, and database.url is empty too");
        }
        let warn_free_bytes = reader.integer("database.warn_free_bytes", 0..=MAX_FREE_BYTES);
        let min_free_bytes = reader.integer("database.min_free_bytes", 0..=MAX_FREE_BYTES);
        if min_free_bytes > warn_free_bytes {
            let problem = format!(
                "is {min_free_bytes}, more than database.warn_free_bytes, which is \
                 {warn_free_bytes}: the warning must come first"
            );
            reader.refuse("database.min_free_bytes", &problem);
        }
        Self {
            url: (!url.is_empty()).then_some(Secret::new(url)),
            max_connections: reader.integer("database.max_connections", 2..=1000),
            acquire_timeout: reader.seconds("database.acquire_timeout_seconds", 1..=300),
            time_limits: TimeLimits::read(reader),
            state_directory: state_directory.unwrap_or_default(),
            postgres_bin: reader.path("database.postgres_bin"),
            warn_free_bytes,
            min_free_bytes,
        }
    }
}
