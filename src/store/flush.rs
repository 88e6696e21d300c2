//! Bringing the commits of a [`DeferredDb`](crate::store::DeferredDb) to disk, over
//! one connection that stays: it ends with every other one when Postgres crashes, and
//! with the crash ends what was committed and not on disk.

use std::io;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::store::{Db, StoreError};

/// A server that has not answered for so long is not there any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Knows of everything that was committed since it connected.
#[derive(Debug)]
pub struct Flusher {
    db: Db,
    connection: Option<PgConnection>,
}

impl Db {
    pub async fn flusher(&self) -> Result<Flusher, StoreError> {
        let mut flusher = Flusher { db: self.clone(), connection: None };
        flusher.connect().await?;
        Ok(flusher)
    }
}

impl Flusher {
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What becomes of those who waited while it was not connected.
    pub fn lost() -> StoreError {
        let why = "the connection that brings commits to disk was lost";
        StoreError::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, why)))
    }

    /// Of what was committed before nobody can say whether it will be on disk.
    pub async fn connect(&mut self) -> Result<(), StoreError> {
        self.connection = Some(self.db.pool.acquire().await?.detach());
        Ok(())
    }

    /// Returns once everything is on disk that could be seen when it was called:
    /// the log is written in order, so one commit that waits for the disk takes
    /// along all before it. After an error it is no longer connected.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.carry_out(async |connection| {
            sqlx::query_scalar!(
                r#"select pg_logical_emit_message(true, 'segmentd', '')::text as "at!""#
            )
            .fetch_one(connection)
            .await?;
            Ok(())
        })
        .await
    }

    /// Whether the connection still stands. After an error it is no longer
    /// connected.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        self.carry_out(async |connection| connection.ping().await).await
    }

    async fn carry_out(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<()>,
    ) -> Result<(), StoreError> {
        // Dropped on its way, the connection counts as lost.
        let Some(mut connection) = self.connection.take() else {
            return Err(Self::lost());
        };
        match tokio::time::timeout(PATIENCE, work(&mut connection)).await {
            Ok(Ok(())) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Self::lost()),
        }
    }
}
