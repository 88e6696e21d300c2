//! What can go wrong with Postgres, told apart by what the caller can do.

/// `Unavailable` passes by itself, `Lost` when tried again; `Conflict` is the
/// caller's; `Broken` is ours.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres is away, starting, stopping, or short of something; the text says which.
    #[error("{}", unavailability(.0))]
    Unavailable(#[source] sqlx::Error),
    /// Another session held a lock for longer than this one may wait (`lock_timeout`).
    #[error("locked by another session")]
    Locked,
    /// A statement took longer than it may (`statement_timeout`), or a transaction was
    /// left idle (`idle_in_transaction_session_timeout`).
    #[error("a database statement took too long and was cancelled: {0}")]
    TimedOut(String),
    /// Another transaction was first; the same again will see what it did.
    #[error("another transaction changed the same data first: {0}")]
    Lost(String),
    /// A rule of the schema refused it.
    #[error("refused by the rule `{constraint}`")]
    Conflict { constraint: String },
    /// What is stored cannot be read back.
    #[error("stored {what} cannot be read: {why}")]
    Corrupt { what: &'static str, why: String },
    /// Anything else: a fault in segmentd or its schema.
    #[error("the database refused a statement")]
    Broken(#[source] sqlx::Error),
    #[error("the schema could not be migrated")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// What is short, as an operator looks for it: only a database that cannot be reached is
/// called unavailable.
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
                    // Serialisation failure, deadlock.
                    Some("40001" | "40P01") => Self::Lost(refusal.message().to_owned()),
                    // `lock_timeout`, or `nowait`.
                    Some("55P03") => Self::Locked,
                    // `statement_timeout`; the timeouts of idle and of long transactions.
                    Some("57014" | "25P03" | "25P04") => {
                        Self::TimedOut(refusal.message().to_owned())
                    }
                    // Connection lost, resources short, operator intervention.
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
