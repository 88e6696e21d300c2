//! Time limits that Postgres enforces on the connections of one purpose.
//!
//! They bound how long one session can delay another: `lock_timeout` the wait for a row
//! or a table that another session has locked, `statement_timeout` one statement, and
//! `idle_in_transaction_session_timeout` how long locks outlive a process that has
//! stopped in the middle of a transaction.

use sqlx::postgres::PgConnectOptions;

use crate::config::TimeLimits;

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shared commits of events: a locked customer must not delay other customers.
    Commit,
    /// All other writes of requests and background work.
    Write,
    Read,
    /// Exports, training, back-fills, migrations.
    Long,
}

/// Sets the limits as options of the connection. They cost no statement, and of two
/// values of one option the later counts.
pub(crate) fn apply(
    limits: &TimeLimits,
    options: PgConnectOptions,
    purpose: Purpose,
) -> PgConnectOptions {
    let (lock, statement, idle) = match purpose {
        Purpose::Commit => (limits.commit_lock, limits.statement, limits.idle_transaction),
        Purpose::Write | Purpose::Read => (limits.lock, limits.statement, limits.idle_transaction),
        Purpose::Long => (limits.long_statement, limits.long_statement, limits.long_statement),
    };
    options.options([
        ("lock_timeout", lock.as_millis().to_string()),
        ("statement_timeout", statement.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", idle.as_millis().to_string()),
    ])
}
