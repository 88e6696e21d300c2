//! Timeouts that Postgres enforces on connections, by purpose.
//!
//! They bound how long one session can delay another. `lock_timeout` bounds the wait for a
//! row or table locked by another session, and `statement_timeout` one statement.
//! `idle_in_transaction_session_timeout` bounds how long locks outlive a process that
//! stopped within a transaction.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::config::DatabaseTimeLimits;

/// Idle time after which a connection is tested before use: Postgres may have restarted.
pub(crate) const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);

/// Use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionPurpose {
    /// Batched commits of events: a locked customer must not delay other customers.
    Commit,
    /// All other writes of requests and background work.
    Write,
    Read,
    /// Exports, training, backfills, migrations.
    Long,
}

/// Sets the timeouts as connection options. They cost no statement; the last of two values
/// of one option wins.
pub(crate) fn apply_time_limits(
    limits: &DatabaseTimeLimits,
    options: PgConnectOptions,
    purpose: ConnectionPurpose,
) -> PgConnectOptions {
    let (lock, statement, idle) = match purpose {
        ConnectionPurpose::Commit => {
            (limits.commit_lock, limits.statement, limits.idle_transaction)
        }
        ConnectionPurpose::Write | ConnectionPurpose::Read => {
            (limits.lock, limits.statement, limits.idle_transaction)
        }
        ConnectionPurpose::Long => {
            (limits.long_statement, limits.long_statement, limits.long_statement)
        }
    };
    options.options([
        ("lock_timeout", lock.as_millis().to_string()),
        ("statement_timeout", statement.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", idle.as_millis().to_string()),
    ])
}
