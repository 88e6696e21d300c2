//! Leader election: leases for work that one replica at a time may do.
//!
//! A lease is a Postgres advisory lock on a connection of its own. A replica that dies
//! loses the connection and thereby the lease.

use sqlx::postgres::PgAdvisoryLock;
use sqlx::{Connection, Either, PgConnection};

use crate::store::{DatabaseHandle, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseName {
    Training,
    Rescoring,
    Alerts,
    SegmentValue,
}

impl LeaseName {
    const fn name(self) -> &'static str {
        match self {
            Self::Training => "segmentd training",
            Self::Rescoring => "segmentd bulk rescoring",
            Self::Alerts => "segmentd alerts",
            Self::SegmentValue => "segmentd segment value",
        }
    }
}

/// Guard of an acquired lease, released by [`LeaseGuard::release`] or when its connection closes.
#[derive(Debug)]
pub struct LeaseGuard {
    lock: PgAdvisoryLock,
    connection: PgConnection,
}

impl LeaseGuard {
    /// Releases the lease at once. Without an explicit unlock another replica would wait
    /// until the server notices the closed connection.
    pub async fn release(self) {
        // An error here is harmless: the server drops the lock with the connection.
        if let Ok((connection, _)) = self.lock.force_release(self.connection).await {
            let _ = connection.close().await;
        }
    }

    /// Fails if the connection, and with it the lease, has been lost.
    pub(crate) async fn verify(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.ping().await?)
    }
}

impl DatabaseHandle {
    /// Acquires the lease; `None` if another replica has it.
    pub async fn try_lease(&self, lease: LeaseName) -> Result<Option<LeaseGuard>, StoreError> {
        let connection = self.pool.acquire().await?.detach();
        let lock = PgAdvisoryLock::new(lease.name());
        match lock.try_acquire(connection).await? {
            Either::Left(guard) => {
                let connection = guard.leak();
                Ok(Some(LeaseGuard { lock, connection }))
            }
            Either::Right(connection) => {
                // The lease is taken: only the connection is closed.
                let _ = connection.close().await;
                Ok(None)
            }
        }
    }
}
