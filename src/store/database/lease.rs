//! Leases for work that only one replica may do at a time.
//!
//! A lease is a Postgres advisory lock held by a connection of its own: a
//! replica that dies loses the connection, and with it the lease.

use sqlx::postgres::PgAdvisoryLock;
use sqlx::{Connection, Either, PgConnection};

use crate::store::{Db, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    Training,
    Reassignment,
    Alerts,
}

impl Lease {
    const fn name(self) -> &'static str {
        match self {
            Self::Training => "segmentd training",
            Self::Reassignment => "segmentd reassignment",
            Self::Alerts => "segmentd alerts",
        }
    }
}

/// A lease held; given back by [`Held::release`], or when the connection closes.
#[derive(Debug)]
pub struct Held {
    lock: PgAdvisoryLock,
    connection: PgConnection,
}

impl Held {
    /// Once this returns another may have it: the server notices the end of a
    /// connection when it comes to that.
    pub async fn release(self) {
        // A failed goodbye loses nothing: the server drops the lock with the connection.
        if let Ok((connection, _)) = self.lock.force_release(self.connection).await {
            let _ = connection.close().await;
        }
    }

    /// Fails when the connection, and so the lease, has been lost.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.ping().await?)
    }
}

impl Db {
    /// The lease, or `None` when another replica holds it.
    pub async fn try_lease(&self, lease: Lease) -> Result<Option<Held>, StoreError> {
        let connection = self.pool.acquire().await?.detach();
        let lock = PgAdvisoryLock::new(lease.name());
        match lock.try_acquire(connection).await? {
            Either::Left(guard) => {
                let connection = guard.leak();
                Ok(Some(Held { lock, connection }))
            }
            Either::Right(connection) => {
                // Not ours: only the connection is given back.
                let _ = connection.close().await;
                Ok(None)
            }
        }
    }
}
