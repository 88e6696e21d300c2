//! Postgres: the only part that names sqlx, and the only part with SQL in it.
//!
//! [`ReadDb`] cannot write: its connections are read-only. Writing functions
//! take a [`Tx`], which only [`Db::begin`], [`Db::begin_critical`] and
//! [`DedicatedDb::begin`] make, or a [`DedicatedDb`], and only services hold these. A [`Tx`] that is dropped without
//! [`Tx::commit`] leaves nothing behind.

pub mod alarms;
pub mod alert_decisions;
pub mod alerts;
pub mod assignments;
pub mod backfill;
pub mod changes;
pub mod channels;
pub mod connect;
pub mod customers;
pub mod decisions;
pub mod dedicated;
pub mod deliveries;
pub mod delivery_log;
pub mod drift;
pub mod error;
pub mod events;
pub mod export;
pub mod failed;
pub mod features;
pub mod identity;
pub mod keys;
pub mod lease;
pub mod lineage;
pub mod links;
pub mod models;
pub mod policy;
pub mod optimistic;
pub mod private;
pub mod rebuild;
pub mod runs;
pub mod shadow;
pub mod silences;
pub mod sources;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;
use sqlx::{Postgres, Transaction};

use crate::domain::time::Timestamp;
pub use dedicated::DedicatedDb;
pub use error::StoreError;

/// Reads and writes; held by services only.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
    read: ReadDb,
    critical: PgPool,
    critical_read: ReadDb,
}

/// Reads; held by edges as well.
#[derive(Debug, Clone)]
pub struct ReadDb {
    pool: PgPool,
}

/// One transaction. What is written through it commits together or not at all.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
}

impl Db {
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx { inner: self.pool.begin().await? })
    }

    /// Begins a critical write on a connection reserved for these: a rollback, a change of
    /// the policy, the revocation of a key. It succeeds while other work has taken every
    /// connection of the shared pool, which is when it is needed most.
    pub async fn begin_critical(&self) -> Result<Tx, StoreError> {
        Ok(Tx { inner: self.critical.begin().await? })
    }

    pub fn read(&self) -> &ReadDb {
        &self.read
    }

    /// Reads on connections reserved for critical work: the deployment, the policy, the
    /// API keys, and the check whether Postgres answers.
    pub fn critical_read(&self) -> &ReadDb {
        &self.critical_read
    }

    /// Waits until every connection has been given back, then closes them.
    pub async fn close(&self) {
        self.pool.close().await;
        self.read.pool.close().await;
        self.critical.close().await;
        self.critical_read.pool.close().await;
    }
}

impl Tx {
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }
}

impl ReadDb {
    /// One round trip: is Postgres there?
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("select 1 as \"one!\"").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Connections that there may be at once.
    pub fn max_connections(&self) -> usize {
        self.pool.options().get_max_connections() as usize
    }

    /// Connections: open, idle.
    pub fn pool_size(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }
}

fn to_sql(at: Timestamp) -> DateTime<Utc> {
    // Outside chrono's range (±262,000 years) no parsed timestamp can be.
    DateTime::from_timestamp_millis(at.millis()).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn from_sql(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_millis(at.timestamp_millis())
}
