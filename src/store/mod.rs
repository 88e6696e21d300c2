//! Postgres storage: the only module with sqlx and SQL.
//!
//! [`ReadOnlyDatabase`] cannot write: its connections are read-only. Writing functions take a
//! [`DatabaseTransaction`] or a [`DedicatedDatabase`], and only services own these. A
//! [`DatabaseTransaction`] comes only from `DatabaseHandle::begin`,
//! `DatabaseHandle::begin_critical` and `DedicatedDatabase::begin`. Dropping a
//! [`DatabaseTransaction`] without [`DatabaseTransaction::commit`] rolls it back.
//!
//! A handle is the handle of one workspace, and passes it on to its pools and transactions.
//! Every statement about the rows of a workspace names it (`workspace_id = $n`). Only the
//! diagnosis of a database ([`database::inspect`]) covers all workspaces.

pub mod alerting;
pub mod api_keys;
pub mod audience_evaluation;
pub mod audiences;
pub mod customers;
pub mod database;
pub mod drift;
pub mod experiments;
pub mod failed_events;
pub mod habits;
pub mod models;
pub mod segment_values;
pub mod sources;
pub mod unused_events;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;
use sqlx::{Postgres, Transaction};

use crate::config::DatabaseTimeLimits;
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
pub use database::dedicated::DedicatedDatabase;
pub use database::error::StoreError;

/// Read and write handle; owned by services only.
#[derive(Debug, Clone)]
pub struct DatabaseHandle {
    workspace: WorkspaceId,
    pool: PgPool,
    read: ReadOnlyDatabase,
    limits: DatabaseTimeLimits,
    critical_pool: PgPool,
    critical_read: ReadOnlyDatabase,
}

/// Read-only handle; edges have it too.
#[derive(Debug, Clone)]
pub struct ReadOnlyDatabase {
    workspace: WorkspaceId,
    pool: PgPool,
    /// Pool for long reads: exports, training, checks of many customers. Requests never
    /// wait for these connections.
    long_reads: PgPool,
}

/// A time range. Each function states whether the end is included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    pub since: Timestamp,
    pub until: Timestamp,
}

/// One transaction: its writes commit together or not at all.
#[derive(Debug)]
pub struct DatabaseTransaction {
    workspace: WorkspaceId,
    inner: Transaction<'static, Postgres>,
}

impl DatabaseHandle {
    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        Ok(DatabaseTransaction { workspace: self.workspace, inner: self.pool.begin().await? })
    }

    /// Begins a critical write on a reserved connection: a rollback, a policy change, the
    /// revocation of a key. It succeeds even while other work has taken every connection of
    /// the shared pool, which is when it is needed most.
    pub(crate) async fn begin_critical(&self) -> Result<DatabaseTransaction, StoreError> {
        let inner = self.critical_pool.begin().await?;
        Ok(DatabaseTransaction { workspace: self.workspace, inner })
    }

    /// The workspace as a query argument.
    fn workspace_id(&self) -> i32 {
        self.workspace.number()
    }

    pub fn read(&self) -> &ReadOnlyDatabase {
        &self.read
    }

    /// Reads on reserved connections: the deployment, the policy, the API keys, and the
    /// health check of Postgres.
    pub(crate) fn critical_read(&self) -> &ReadOnlyDatabase {
        &self.critical_read
    }

    /// Waits until every connection has been returned, then closes them.
    pub async fn close(&self) {
        self.pool.close().await;
        self.read.pool.close().await;
        self.read.long_reads.close().await;
        self.critical_pool.close().await;
        self.critical_read.pool.close().await;
    }
}

impl DatabaseTransaction {
    /// The workspace as a query argument.
    fn workspace_id(&self) -> i32 {
        self.workspace.number()
    }

    /// Raises the timeouts to those of long work, for this transaction only.
    pub(crate) async fn raise_time_limits(
        &mut self,
        db: &DatabaseHandle,
    ) -> Result<(), StoreError> {
        let milliseconds = db.limits.long_statement.as_millis().to_string();
        sqlx::query!(
            r#"select set_config('statement_timeout', $1, true) as "statement!",
                      set_config('idle_in_transaction_session_timeout', $1, true) as "idle!""#,
            milliseconds,
        )
        .fetch_one(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lowers the lock timeout to half of that of event commits, for this transaction only:
    /// a waiter for a whole table makes all later sessions queue behind it.
    pub(crate) async fn lower_lock_timeout(
        &mut self,
        db: &DatabaseHandle,
    ) -> Result<(), StoreError> {
        let milliseconds = (db.limits.commit_lock / 2).as_millis().to_string();
        sqlx::query!(r#"select set_config('lock_timeout', $1, true) as "lock!""#, milliseconds,)
            .fetch_one(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Asynchronous commit: [`Self::commit`] does not wait for the disk. A crash of Postgres can
    /// lose the transaction as a whole, even after another session has read it. Only for results
    /// that are then computed again, and that are not in the change feed: a client never reads a
    /// position of the feed again.
    pub(crate) async fn commit_without_flush(mut self) -> Result<(), StoreError> {
        sqlx::query!(r#"select set_config('synchronous_commit', 'off', true) as "set!""#)
            .fetch_one(&mut *self.inner)
            .await?;
        self.commit().await
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }
}

impl ReadOnlyDatabase {
    /// The workspace as a query argument.
    fn workspace_id(&self) -> i32 {
        self.workspace.number()
    }

    /// The current time of the database's clock.
    pub(crate) async fn clock(&self) -> Result<Timestamp, StoreError> {
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#);
        Ok(from_sql(now.fetch_one(&self.pool).await?))
    }

    /// Health check of Postgres in one round trip.
    pub(crate) async fn check_health(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("select 1 as \"one!\"").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Upper limit of the pool.
    pub(crate) fn max_connections(&self) -> usize {
        self.pool.options().get_max_connections() as usize
    }

    /// Number of open and of idle connections.
    pub(crate) fn pool_size(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }
}

/// The earliest instant of `timestamptz`: 24 November 4714 BC.
const EARLIEST_MILLIS: i64 = -210_866_803_200_000;

/// Reads a stored model id.
fn model_id(text: String) -> Result<ModelId, StoreError> {
    ModelId::try_from(text)
        .map_err(|why| StoreError::Corrupt { what: "model id", why: why.to_string() })
}

/// The Postgres text of an array; `None` for an empty one.
fn integer_array(numbers: &[i32]) -> Option<String> {
    if numbers.is_empty() {
        return None;
    }
    let mut text = String::from("{");
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{number}");
    }
    text.push('}');
    Some(text)
}

/// Converts an instant, clamped to the range of `timestamptz`: a deletion before a
/// retention of millions of years must delete nothing, not everything.
fn to_sql(at: Timestamp) -> DateTime<Utc> {
    // chrono ends in the year 262,142, before Postgres does.
    DateTime::from_timestamp_millis(at.millis().max(EARLIEST_MILLIS))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn from_sql(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_millis(at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_out_of_range_become_the_nearest_storable_one() {
        let stored = |millis| to_sql(Timestamp::from_millis(millis)).to_rfc3339();
        assert_eq!(stored(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(stored(EARLIEST_MILLIS), "-4713-11-24T00:00:00+00:00");
        assert_eq!(stored(i64::MIN), stored(EARLIEST_MILLIS));
        assert_eq!(to_sql(Timestamp::from_millis(i64::MAX)), DateTime::<Utc>::MAX_UTC);
    }
}
