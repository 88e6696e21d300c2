//! Postgres settings.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::load::environment::Environment;
use crate::config::load::reader::SettingsReader;
use crate::domain::secret::SecretValue;

/// 2^50 bytes: more than any disk that a private server would have.
const MAX_FREE_BYTES: i64 = 1 << 50;

/// Connection, time limits and free disk space of Postgres.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `None` runs a private server.
    pub url: Option<SecretValue<String>>,
    /// Maximum connections of this process.
    pub max_connections: u32,
    /// Maximum wait for a free connection.
    pub acquire_timeout: Duration,
    pub time_limits: DatabaseTimeLimits,
    /// Data directory of the private server: an absolute path.
    pub state_directory: PathBuf,
    /// Directory of the server's programs; `None` searches the machine.
    pub postgres_bin: Option<PathBuf>,
    /// Free space on the private server's disk below which an alert is raised; 0 disables it.
    pub warn_free_bytes: u64,
    /// Free space on that disk below which events are refused; 0 disables it.
    pub min_free_bytes: u64,
}

/// Time limits that Postgres enforces on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseTimeLimits {
    /// Maximum wait for a lock in a shared commit of events.
    pub commit_lock: Duration,
    /// Maximum wait for a lock in other transactions.
    pub lock: Duration,
    pub statement: Duration,
    /// For exports, training, backfills and migrations.
    pub long_statement: Duration,
    /// Maximum pause within a transaction.
    pub idle_transaction: Duration,
}

impl Default for DatabaseTimeLimits {
    /// The defaults of `config/default.toml`.
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

impl DatabaseTimeLimits {
    fn read(reader: &mut SettingsReader) -> Self {
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

impl DatabaseSettings {
    pub(super) fn read(reader: &mut SettingsReader, environment: &Environment) -> Self {
        let url = reader.text("database.url");
        let schemes = ["postgres://", "postgresql://"];
        if !url.is_empty() && !schemes.iter().any(|scheme| url.starts_with(scheme)) {
            // Do not print the value: it may be a secret even if it is invalid.
            reader.refuse("database.url", "does not begin with postgres:// or postgresql://");
        }
        let state_directory = reader
            .path("database.state_directory")
            .unwrap_or_else(|| environment.state_directory());
        if !state_directory.is_absolute() {
            let problem = format!(
                "is `{}`, a relative path, which names another database in each folder; write an \
                 absolute path",
                state_directory.display()
            );
            reader.refuse("database.state_directory", &problem);
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
            url: (!url.is_empty()).then_some(SecretValue::new(url)),
            max_connections: reader.integer("database.max_connections", 2..=1000),
            acquire_timeout: reader.seconds("database.acquire_timeout_seconds", 1..=300),
            time_limits: DatabaseTimeLimits::read(reader),
            state_directory,
            postgres_bin: reader.path("database.postgres_bin"),
            warn_free_bytes,
            min_free_bytes,
        }
    }
}
