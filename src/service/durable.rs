//! Commits that do not wait for the disk, and the one flush that many share.
//!
//! A deferred commit (`store::DeferredDb`) can be seen before it is on disk, so
//! that the next transaction need not wait for it. Whoever tells the world of it
//! waits here first. One flush at a time covers everything that could be seen
//! when it began: the slower the disk, the more each flush carries. When the
//! connection of the flushes is lost, so may be what waits for one: that is told,
//! even if the next flush would go well.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::service::ServiceError;
use crate::store::StoreError;
use crate::store::flush::Flusher;
use crate::telemetry::Metrics;

/// A lost connection is noticed before anybody waits for it; networks also forget
/// connections that are idle for minutes.
const CHECK_EVERY: Duration = Duration::from_secs(1);
const CONNECT_EVERY: Duration = Duration::from_millis(100);

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
    flusher: Flusher,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Durability {
    /// The worker must be run for as long as anybody may wait.
    pub fn new(flusher: Flusher, metrics: Arc<Metrics>) -> (Self, Worker) {
        let (sender, waiting) = mpsc::unbounded_channel();
        (Self { waiting: sender }, Worker { waiting, flusher, metrics })
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
            if !self.flusher.is_connected() {
                tokio::select! {
                    () = self.connect() => continue,
                    () = &mut stopped => return,
                }
            }
            let first = tokio::select! {
                biased;
                first = timeout(CHECK_EVERY, self.waiting.recv()) => first,
                () = &mut stopped => return,
            };
            match first {
                Ok(Some(first)) => self.flush(first).await,
                Ok(None) => return,
                Err(_) => {
                    if let Err(error) = self.flusher.check().await {
                        tracing::warn!(%error, "the connection of the flushes is lost");
                    }
                }
            }
        }
    }

    /// Covers `first` and whatever waits beside it.
    async fn flush(&mut self, first: Then) {
        let mut covered = vec![first];
        covered.extend(self.all_waiting());
        let timer = self.metrics.intake.flush_seconds.start_timer();
        let flushed = self.flusher.flush().await.map_err(|error| Unflushed(Arc::new(error)));
        timer.observe_duration();
        for then in covered {
            then(flushed.clone());
        }
    }

    /// Who waits was committed before, or may have been.
    async fn connect(&mut self) {
        let lost = match self.flusher.connect().await {
            Ok(()) => Flusher::lost(),
            Err(error) => {
                sleep(CONNECT_EVERY).await;
                error
            }
        };
        let lost = Unflushed(Arc::new(lost));
        for then in self.all_waiting() {
            then(Err(lost.clone()));
        }
    }

    fn all_waiting(&mut self) -> Vec<Then> {
        std::iter::from_fn(|| self.waiting.try_recv().ok()).collect()
    }
}
