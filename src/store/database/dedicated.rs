//! Dedicated connection pools: one purpose each, apart from the shared pools.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, Postgres};

use crate::domain::workspace::WorkspaceId;
use crate::store::database::time_limits::TEST_AFTER_IDLE;
use crate::store::{DatabaseTransaction, StoreError};

/// A connection pool for one purpose: its users never queue behind other work.
#[derive(Debug)]
pub struct DedicatedDatabase {
    workspace: WorkspaceId,
    pool: PgPool,
    /// The connection of a pool of one, kept checked out between statements, with the time
    /// of its last use. This saves the pool's test of each returned connection. Pools with
    /// several users return connections: a cached one could block another user.
    cached: Mutex<Option<CachedConnection>>,
}

/// A connection between two statements.
#[derive(Debug)]
struct CachedConnection {
    connection: PoolConnection<Postgres>,
    last_used: Instant,
}

impl DedicatedDatabase {
    pub(crate) fn new(workspace: WorkspaceId, pool: PgPool) -> Self {
        Self { workspace, pool, cached: Mutex::new(None) }
    }

    pub(in crate::store) fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The workspace as a query argument.
    pub(in crate::store) fn workspace_id(&self) -> i32 {
        self.workspace.number()
    }

    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        // The cached connection may be the only one of the pool.
        drop(self.take());
        Ok(DatabaseTransaction { workspace: self.workspace, inner: self.pool.begin().await? })
    }

    /// Closes all connections of the pool.
    pub(crate) async fn close(&self) {
        drop(self.take());
        self.pool.close().await;
    }

    /// Runs one statement as a transaction of its own.
    pub(crate) async fn run_statement<T, E: From<sqlx::Error>>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection().await?;
        // After an error the connection returns to the pool, which tests it.
        let done = statement(&mut connection).await?;
        if self.pool.options().get_max_connections() == 1 {
            *self.lock() = Some(CachedConnection { connection, last_used: Instant::now() });
        }
        Ok(done)
    }

    async fn connection(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        // An older connection returns to the pool, which tests it before reuse.
        match self.take().filter(|cached| cached.last_used.elapsed() < TEST_AFTER_IDLE) {
            Some(cached) => Ok(cached.connection),
            None => self.pool.acquire().await,
        }
    }

    fn take(&self) -> Option<CachedConnection> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<CachedConnection>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
