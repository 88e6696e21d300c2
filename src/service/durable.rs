//! Commits that do not wait for the disk, and the one flush that many share.
//!
//! A deferred commit (`Db::begin_deferred`) can be seen before it is on disk, so
//! that the next transaction need not wait for it. Whoever tells the world of it
//! waits here first. One flush at a time covers everything that could be seen
//! when it began: the slower the disk, the more each flush carries.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::service::ServiceError;
use crate::store::{Db, StoreError};
use crate::telemetry::Metrics;

/// What is done once it is certain, or once it is known that it is not.
type Then = Box<dyn FnOnce(Result<(), Unflushed>) + Send>;

/// Nobody can say what is on disk. Some of it may be.
#[derive(Debug, Clone, thiserror::Error)]
#[error("commits could not be brought to disk")]
pub struct Unflushed(#[source] Arc<StoreError>);

impl From<Unflushed> for ServiceError {
    fn from(error: Unflushed) -> Self {
        match &*error.0 {
            StoreError::Unavailable(_) => Self::Unavailable(error.into()),
            _ => Self::internal(error),
        }
    }
}

/// Where one waits for the disk.
#[derive(Debug, Clone)]
pub struct Durability {
    waiting: mpsc::UnboundedSender<Then>,
}

/// What flushes.
pub struct Worker {
    waiting: mpsc::UnboundedReceiver<Then>,
    db: Db,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Durability {
    /// The worker must be run for as long as anybody may wait.
    pub fn new(db: Db, metrics: Arc<Metrics>) -> (Self, Worker) {
        let (sender, waiting) = mpsc::unbounded_channel();
        (Self { waiting: sender }, Worker { waiting, db, metrics })
    }

    /// Does `then` once everything that can be seen now is on disk; drops it
    /// undone when segmentd is stopping.
    pub fn then(&self, then: impl FnOnce(Result<(), Unflushed>) + Send + 'static) {
        // Dropped with what it would have answered: see above.
        let _ = self.waiting.send(Box::new(then));
    }

    /// Returns once everything that can be seen now is on disk.
    pub async fn reached(&self) -> Result<(), ServiceError> {
        let (answer, answered) = oneshot::channel();
        // Who no longer waits is not told.
        self.then(|flushed| drop(answer.send(flushed)));
        let flushed =
            answered.await.map_err(|_| ServiceError::Unavailable("segmentd is stopping".into()))?;
        Ok(flushed?)
    }
}

impl Worker {
    /// Flushes until `stopped`; who waits by then is answered still.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            let first = tokio::select! {
                biased;
                first = self.waiting.recv() => first,
                () = &mut stopped => return,
            };
            let Some(first) = first else { return };
            let mut covered = vec![first];
            while let Ok(next) = self.waiting.try_recv() {
                covered.push(next);
            }
            let timer = self.metrics.intake.flush_seconds.start_timer();
            let flushed = self.db.flush().await.map_err(|error| Unflushed(Arc::new(error)));
            timer.observe_duration();
            for then in covered {
                then(flushed.clone());
            }
        }
    }
}
