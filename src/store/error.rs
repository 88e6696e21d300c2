//! What can go wrong with Postgres, told apart by what the caller can do.

/// `Unavailable` passes by itself, `Lost` when tried again; `Conflict` is the
/// caller's; `Broken` is ours.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres is away, starting, stopping, or has no connection free.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Every connection of the pool was in use for as long as a caller may wait.
    #[error("no database connection became free in time")]
    NoConnection,
    /// Another session held a lock for longer than this one may wait (`lock_timeout`).
    #[error("locked by another session")]
    Locked,
    /// A statement took longer than it may (`statement_timeout`), or a transaction was
    /// left idle (`idle_in_transaction_session_timeout`).
    #[error("the database cancelled a statement that took too long: {0}")]
    TimedOut(String),
    /// Another transaction was first; the same again will see what it did.
    #[error("lost a race: {0}")]
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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::PoolTimedOut => Self::NoConnection,
            E::Io(_) | E::Tls(_) | E::PoolClosed | E::WorkerCrashed => Self::Unavailable(error),
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
