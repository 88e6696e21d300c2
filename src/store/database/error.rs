//! Database errors, classified by how a caller can respond.

/// A database error. `Unavailable` passes by itself; `Lost` succeeds on retry; `Conflict`
/// is the caller's fault; `Broken` is a fault of segmentd.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres is unreachable, starting, stopping, or short of a resource that the message
    /// names.
    #[error("{}", unavailability(.0))]
    Unavailable(#[source] sqlx::Error),
    /// Another session held a lock longer than `lock_timeout`.
    #[error("locked by another session")]
    Locked,
    /// A statement exceeded `statement_timeout`, or a transaction exceeded
    /// `idle_in_transaction_session_timeout`.
    #[error("a database statement took too long and was cancelled: {0}")]
    TimedOut(String),
    /// A concurrent transaction committed first (serialization failure or deadlock). A
    /// retry sees its changes.
    #[error("another transaction changed the same data first: {0}")]
    Lost(String),
    /// A constraint of the schema was violated.
    #[error("the constraint `{constraint}` refuses the change")]
    Conflict { constraint: String },
    /// A stored value cannot be decoded.
    #[error("stored {what} cannot be read: {why}")]
    Corrupt { what: &'static str, why: String },
    /// Any other error: a fault in segmentd or its schema.
    #[error("the database refused a statement")]
    Broken(#[source] sqlx::Error),
}

/// Message for an operator that names the short resource. Only a database that cannot be
/// reached is called unavailable.
fn unavailability(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => {
            "all database connections of this process are in use \
             (database.max_connections, database.acquire_timeout_seconds)"
        }
        sqlx::Error::PoolClosed => "segmentd is stopping",
        sqlx::Error::Database(refusal) => match refusal.code().as_deref() {
            Some(code) if code.starts_with("53") => {
                "the database is short of memory, disk space or connections"
            }
            _ => "the database is not available",
        },
        _ => "the database is not available",
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Self::Unavailable(error)
            }
            E::Database(refusal) => {
                if let Some(constraint) = refusal.constraint() {
                    return Self::Conflict { constraint: constraint.to_owned() };
                }
                match refusal.code().as_deref() {
                    // `serialization_failure`, `deadlock_detected`.
                    Some("40001" | "40P01") => Self::Lost(refusal.message().to_owned()),
                    // `lock_not_available`: `lock_timeout`, or `nowait`.
                    Some("55P03") => Self::Locked,
                    // `statement_timeout`; the timeouts of idle and of long transactions.
                    Some("57014" | "25P03" | "25P04") => {
                        Self::TimedOut(refusal.message().to_owned())
                    }
                    // Classes 08 connection exception, 53 insufficient resources, 57
                    // operator intervention.
                    Some(code)
                        if code.starts_with("08")
                            || code.starts_with("53")
                            || code.starts_with("57") =>
                    {
                        Self::Unavailable(error)
                    }
                    _ => Self::Broken(error),
                }
            }
            _ => Self::Broken(error),
        }
    }
}
