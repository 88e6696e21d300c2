//! Connections for one purpose, beside those that all share.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, Postgres};

use crate::store::database::connect::TRY_AFTER_IDLE;
use crate::store::{StoreError, Tx};

/// A way to Postgres for which nobody else queues.
#[derive(Debug)]
pub struct DedicatedDb {
    pool: PgPool,
    /// Where there is one connection, for one user, it is kept from one statement to
    /// the next, with when it was last used: the pool asks Postgres about each that it
    /// gets back. With several users one could wait for what another has kept.
    kept: Mutex<Option<(PoolConnection<Postgres>, Instant)>>,
}

impl DedicatedDb {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, kept: Mutex::new(None) }
    }

    pub async fn begin(&self) -> Result<Tx, StoreError> {
        // It may be the only one that there is.
        drop(self.take());
        Ok(Tx { inner: self.pool.begin().await? })
    }

    /// Closes the connections.
    pub async fn close(&self) {
        drop(self.take());
        self.pool.close().await;
    }

    /// One statement, which is a transaction of its own.
    pub(crate) async fn carry_out<T, E: From<sqlx::Error>>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection().await?;
        // After an error the pool gets it back, and looks at it.
        let done = statement(&mut connection).await?;
        if self.pool.options().get_max_connections() == 1 {
            *self.lock() = Some((connection, Instant::now()));
        }
        Ok(done)
    }

    async fn connection(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        // The pool tries what it gets back.
        match self.take().filter(|(_, used)| used.elapsed() < TRY_AFTER_IDLE) {
            Some((connection, _)) => Ok(connection),
            None => self.pool.acquire().await,
        }
    }

    fn take(&self) -> Option<(PoolConnection<Postgres>, Instant)> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(PoolConnection<Postgres>, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
