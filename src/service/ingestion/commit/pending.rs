//! Pending events: single events of shared batches, each with its slot in the answer to its
//! caller, so that the events of one batch can be committed in several transactions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::domain::fault::ValidationFaults;
use crate::domain::identity::MAX_CONNECTED_IDS;
use crate::service::ServiceError;
use crate::service::error::SharedError;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::batch_cache::BatchCache;
use crate::service::ingestion::commit::contents::ConflictPolicy;
use crate::service::ingestion::commit::{
    BatchAnswer, BatchFailure, EventRefusal, EventStatus, EventVerdict, IncomingBatch, commit,
};
use crate::service::ingestion::queue::scheduler::{QueueCharge, QueuedBatch};
use crate::store::DedicatedDatabase;
use crate::store::customers::events::ReceivedEvent;

/// The answer to one caller, sent once each of its events has a verdict.
#[derive(Debug)]
pub(crate) struct SharedAnswer(Mutex<Option<AnswerSlots>>);

#[derive(Debug)]
struct AnswerSlots {
    verdicts: Vec<Option<EventVerdict>>,
    missing: usize,
    /// Retained until the answer: events that are set aside occupy memory like others.
    _charge: QueueCharge,
    answer: oneshot::Sender<BatchAnswer>,
}

/// One event with its slot in the answer to its caller.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    pub(crate) arrived: ReceivedEvent,
    /// Index of the slot.
    slot: usize,
    answer: Arc<SharedAnswer>,
}

impl SharedAnswer {
    fn fill_slot(&self, slot: usize, verdict: EventVerdict) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slots) = open.as_mut() else { return };
        slots.missing -= usize::from(slots.verdicts[slot].is_none());
        slots.verdicts[slot] = Some(verdict);
        if slots.missing == 0
            && let Some(AnswerSlots { verdicts, answer, .. }) = open.take()
        {
            // The caller may have disconnected; its verdicts are dropped then.
            let _ = answer.send(Ok(verdicts.into_iter().flatten().collect()));
        }
    }

    fn fail(&self, error: ServiceError) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(slots) = open {
            let _ = slots.answer.send(Err(error));
        }
    }
}

impl PendingEvent {
    /// Splits the batches of several callers into single events. Precomputed results are
    /// dropped.
    pub(crate) fn split_batches(batches: Vec<QueuedBatch>) -> Vec<Self> {
        let mut all = Vec::new();
        for QueuedBatch { events, charge, answer, .. } in batches {
            let mut verdicts = Vec::new();
            verdicts.resize_with(events.len(), || None);
            let missing = events.len();
            let slots = AnswerSlots { verdicts, missing, _charge: charge, answer };
            let answer = Arc::new(SharedAnswer(Mutex::new(Some(slots))));
            for (slot, arrived) in events.into_iter().enumerate() {
                all.push(Self { arrived, slot, answer: Arc::clone(&answer) });
            }
        }
        all
    }

    /// Whether both events belong to the same caller.
    pub(crate) fn has_caller_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.answer, &other.answer)
    }

    pub(crate) fn answer_with(self, status: EventStatus) {
        self.answer.fill_slot(self.slot, EventVerdict { event: self.arrived.event, status });
    }
}

/// Fails the callers of these events with the same error.
pub(crate) fn fail_all(events: Vec<PendingEvent>, error: ServiceError) {
    let shared = SharedError::from_error(error);
    for event in events {
        event.answer.fail(shared.to_error());
    }
}

/// Commits these events in one transaction. After a failure, returns them with the reason.
pub(crate) async fn commit_together(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    part: Vec<PendingEvent>,
) -> Result<(), (BatchFailure, Vec<PendingEvent>)> {
    let arrived: Vec<ReceivedEvent> = part.iter().map(|event| event.arrived.clone()).collect();
    let batch = IncomingBatch { events: &arrived, on_conflict: ConflictPolicy::Report };
    match commit(core, db, batch, BatchCache::default()).await {
        Ok(committed) => {
            for (event, verdict) in part.into_iter().zip(committed.verdicts(arrived)) {
                event.answer.fill_slot(event.slot, verdict);
            }
            Ok(())
        }
        Err(failure) => Err((failure, part)),
    }
}

/// Refuses the events at these indices. Returns the others.
pub(crate) fn refuse_events(
    part: Vec<PendingEvent>,
    refused: &BTreeMap<usize, EventRefusal>,
) -> Vec<PendingEvent> {
    let mut rest = Vec::with_capacity(part.len());
    for (index, event) in part.into_iter().enumerate() {
        match refused.get(&index) {
            None => rest.push(event),
            Some(EventRefusal::Link) => {
                event.answer_with(EventStatus::Refused(too_many_connected_ids()));
            }
            Some(EventRefusal::Conflict { stored_at }) => {
                event.answer_with(EventStatus::Conflict { stored_at: *stored_at });
            }
        }
    }
    rest
}

/// The fault of an event with a link that is refused.
pub(crate) fn too_many_connected_ids() -> ValidationFaults {
    let problem = format!(
        "is linked to an id that is already connected to {MAX_CONNECTED_IDS} others by \
         links: the event is not counted. Remove links (DELETE /v1/customers/…/links/…), \
         then replay it"
    );
    ValidationFaults::single("customer_id", problem)
}
