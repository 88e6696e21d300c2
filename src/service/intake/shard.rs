//! One shard: a queue, and the worker that commits what is in it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::domain::event::Event;
use crate::service::ServiceError;
use crate::service::intake::Core;
use crate::service::intake::commit::{Committed, commit};
use crate::store::assignments::Assignment;
use crate::store::events::Arrived;

/// One event after its commit; without a standing it had been counted before.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) event: Event,
    pub(super) standing: Option<Arc<Assignment>>,
}

type Answer = Result<Vec<Verdict>, ServiceError>;

/// The events of one caller, and where it waits.
#[derive(Debug)]
struct Batch {
    events: Vec<Arrived>,
    answer: oneshot::Sender<Answer>,
}

/// The way into a shard. How much may wait is bounded by whoever sends.
#[derive(Debug)]
pub(super) struct Shard {
    queue: mpsc::UnboundedSender<Batch>,
    max_batch_events: usize,
}

/// What commits a shard's events.
#[derive(Debug)]
pub struct Worker {
    queue: mpsc::UnboundedReceiver<Batch>,
    core: Arc<Core>,
}

pub(super) fn new(core: Arc<Core>) -> (Shard, Worker) {
    let (sender, queue) = mpsc::unbounded_channel();
    (Shard { queue: sender, max_batch_events: core.max_batch_events }, Worker { queue, core })
}

impl Shard {
    /// Returns once all of these events are committed and on disk; one verdict each, in order.
    pub(super) async fn commit(&self, events: Vec<Arrived>) -> Answer {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut events = VecDeque::from(events);
        while !events.is_empty() {
            // A caller with many events takes its turns like everybody.
            let batch = events.drain(..events.len().min(self.max_batch_events)).collect();
            let (answer, answered) = oneshot::channel();
            let stopped = || ServiceError::Unavailable("segmentd is stopping".into());
            self.queue.send(Batch { events: batch, answer }).map_err(|_| stopped())?;
            verdicts.extend(answered.await.map_err(|_| stopped())??);
        }
        Ok(verdicts)
    }
}

impl Worker {
    /// Commits until `stopped`; what is in the queue by then is committed still.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                biased;
                batch = self.queue.recv() => match batch {
                    Some(first) => self.work(first).await,
                    None => return,
                },
                () = &mut stopped => return,
            }
        }
    }

    /// Commits `first` together with what else is waiting.
    async fn work(&mut self, first: Batch) {
        let mut waiting = first.events.len();
        let mut batches = vec![first];
        while waiting < self.core.max_batch_events {
            let Ok(batch) = self.queue.try_recv() else { break };
            waiting += batch.events.len();
            batches.push(batch);
        }
        let (events, answers): (Vec<_>, Vec<_>) =
            batches.into_iter().map(|batch| (batch.events, batch.answer)).unzip();
        let sizes: Vec<usize> = events.iter().map(Vec::len).collect();
        let all: Vec<Arrived> = events.into_iter().flatten().collect();
        match commit(&self.core, &all).await {
            Ok(committed) => self.core.durability.then(move |flushed| {
                let mut verdicts = verdicts(all, committed);
                for (size, answer) in sizes.into_iter().zip(answers) {
                    let own: Vec<Verdict> = verdicts.by_ref().take(size).collect();
                    // A caller who has hung up does not wait for its verdicts.
                    let _ = answer.send(flushed.clone().map(|()| own).map_err(Into::into));
                }
            }),
            Err(ServiceError::Unavailable(why)) => {
                let why = Shared(why.into());
                for answer in answers {
                    let _ = answer.send(Err(ServiceError::Unavailable(Box::new(why.clone()))));
                }
            }
            // Nobody is to suffer from the events of others.
            Err(error) if answers.len() > 1 => {
                tracing::warn!(%error, "a shared transaction failed: each caller gets its own");
                let mut all = all.into_iter();
                for (size, answer) in sizes.into_iter().zip(answers) {
                    let own: Vec<Arrived> = all.by_ref().take(size).collect();
                    let outcome = async {
                        let done = commit(&self.core, &own).await?;
                        self.core.durability.reached().await?;
                        Ok(verdicts(own, done).collect())
                    };
                    let _ = answer.send(outcome.await);
                }
            }
            Err(error) => {
                if let Some(answer) = answers.into_iter().next() {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
}

pub(super) fn verdicts(
    events: Vec<Arrived>,
    committed: Committed,
) -> impl Iterator<Item = Verdict> {
    let Committed { standings, mut elsewhere } = committed;
    events.into_iter().zip(standings).enumerate().map(
        move |(place, (Arrived { mut event, .. }, standing))| {
            if let Some(customer) = elsewhere.remove(&place) {
                event.customer = customer;
            }
            Verdict { event, standing }
        },
    )
}

/// One cause, told to every caller of a transaction.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);
