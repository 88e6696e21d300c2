//! Replay of rejected events after a fix in the sender, the features or the limits.
//!
//! Each event is validated as if it arrived now, except that the instant of its original
//! arrival corrects its sender's clock. Replay is idempotent: an event is counted once,
//! however often and on whichever replica it is replayed. An event without a message id
//! gets one that is derived from its failed-event id.

use crate::domain::experiment::spec::ExposureReport;
use crate::domain::id::MessageId;
use crate::domain::wire::elements::JsonElement;
use crate::domain::wire::{EventLimits, IngestionEndpoint, segment};
use crate::service::ServiceError;
use crate::service::failed_events::RejectedEvent;
use crate::service::ingestion::exposures::IndexedExposure;
use crate::service::ingestion::links::permissions::LinkRequest;
use crate::service::ingestion::{
    FullQueuePolicy, IngestionOutcome, IngestionService, arrived, conflict_faults,
};
use crate::service::limits::resource_user::ResourceUser;
use crate::store::customers::events::ReceivedEvent;
use crate::store::failed_events;
use crate::store::failed_events::{FailedEventFilter, RejectedReplay, ReplayableEvent};
use crate::telemetry::labels::FailedEventOutcome;

/// Selection of failed events to replay, oldest first.
#[derive(Debug, Default)]
pub struct ReplaySelection {
    /// `None`: any id.
    pub ids: Option<Vec<i64>>,
    pub filter: FailedEventFilter,
    /// Only events with a greater id (keyset pagination).
    pub after_id: Option<i64>,
    pub limit: i64,
}

/// Counts of one replay call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    pub accepted: usize,
    /// Counted earlier.
    pub duplicate: usize,
    /// Not counted: another event with this id was counted.
    pub conflict: usize,
    /// Rejected again, possibly for another reason: the new reason is stored.
    pub rejected: usize,
    /// The last id of this call, if more events may follow it.
    pub next_after_id: Option<i64>,
}

impl IngestionService {
    /// Validates stored events again, and commits the ones that are accepted now.
    pub(crate) async fn replay_failed_events(
        &self,
        which: &ReplaySelection,
    ) -> Result<ReplayCounts, ServiceError> {
        self.check_disk()?;
        let ReplaySelection { ids, filter, after_id: after, limit } = which;
        let db = self.core.db.read();
        let found =
            failed_events::list_replayable(db, ids.as_deref(), filter, *after, *limit).await?;
        let is_full_page = i64::try_from(found.len()).is_ok_and(|count| count == *limit);
        let next_after = found.last().filter(|_| is_full_page).map(|last| last.failed_event_id);
        let (mut ids, mut events, mut still_failed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut endpoints, mut exposures) = (Vec::new(), Vec::new());
        let mut link_requests = Vec::new();
        // Up to thousands of events at some microseconds each: too long for an async
        // thread.
        tokio::task::block_in_place(|| {
            for kept in found {
                match self.read_again(&kept) {
                    Ok((arrived, exposure)) => {
                        exposures.push(exposure);
                        link_requests.extend(LinkRequest::for_event(events.len(), &arrived));
                        ids.push(kept.failed_event_id);
                        endpoints.push(kept.endpoint);
                        events.push(arrived);
                    }
                    Err(refused) => {
                        still_failed.push(new_reason(kept.failed_event_id, &refused));
                    }
                }
            }
        });
        let known = events.iter().filter(|one| !one.is_anonymous);
        let known = known.map(|one| one.event.customer.clone()).collect();
        let forbidden = self.find_forbidden_links(link_requests, &known).await?;
        // Removal from the last index to the first leaves the remaining indices valid.
        for (index, faults) in forbidden.into_iter().rev() {
            events.remove(index);
            endpoints.remove(index);
            exposures.remove(index);
            still_failed.push(new_reason(ids.remove(index), &RejectedEvent::new(faults, &[])));
        }
        let outcomes =
            self.commit(ResourceUser::REPLAY, events, None, FullQueuePolicy::Refuse).await?;
        let exposures = exposures.into_iter().enumerate();
        let exposures: Vec<IndexedExposure> =
            exposures.filter_map(|(index, exposure)| Some((index, exposure?))).collect();
        self.record_exposures(&exposures, &outcomes).await?;
        let mut counts = ReplayCounts { next_after_id: next_after, ..ReplayCounts::default() };
        for ((id, endpoint), outcome) in ids.iter().zip(&endpoints).zip(&outcomes) {
            let faults = match outcome {
                IngestionOutcome::Rejected { faults } => faults.clone(),
                IngestionOutcome::Conflict { stored_at, .. } => {
                    counts.conflict += 1;
                    conflict_faults(*endpoint, *stored_at)
                }
                IngestionOutcome::Accepted { .. } => {
                    counts.accepted += 1;
                    continue;
                }
                IngestionOutcome::Duplicate { .. } => {
                    counts.duplicate += 1;
                    continue;
                }
                IngestionOutcome::NotCounted { .. } | IngestionOutcome::Locked { .. } => continue,
            };
            still_failed.push(new_reason(*id, &RejectedEvent::new(faults, &[])));
        }
        self.save_outcomes(&ids, &outcomes, &still_failed).await?;
        counts.rejected = still_failed.len() - counts.conflict;
        Ok(counts)
    }

    /// The event with the exposure that it reports, if any.
    fn read_again(
        &self,
        kept: &ReplayableEvent,
    ) -> Result<(ReceivedEvent, Option<Box<ExposureReport>>), RejectedEvent> {
        let received_at = kept.received_at;
        // A timestamp that was too far in the future on arrival may be in the past now.
        let age_millis = self.now().millis().saturating_sub(received_at.millis());
        let limits = &self.settings.validation_limits;
        let max_future_millis = limits.max_future_millis.saturating_add(age_millis.max(0));
        let limits = EventLimits { max_future_millis, ..limits.clone() };
        let sender = &kept.sender;
        let mut message = match kept.endpoint {
            IngestionEndpoint::Events | IngestionEndpoint::Bulk => {
                let event = JsonElement::parse(kept.raw.as_bytes());
                self.parse_event_within(&limits, event, received_at, || {
                    replay_id(kept.failed_event_id)
                })?
            }
            IngestionEndpoint::Segment => {
                segment::parse_stored_message(&kept.raw, received_at, &limits, || {
                    replay_id(kept.failed_event_id)
                })
                .and_then(|message| self.minimize(&self.core.serving.current(), message))
                .map_err(|faults| RejectedEvent::new(faults, kept.raw.as_bytes()))?
            }
        };
        let exposure = message.exposure.take();
        Ok((arrived(message, received_at, sender), exposure))
    }

    async fn save_outcomes(
        &self,
        ids: &[i64],
        outcomes: &[IngestionOutcome],
        still_failed: &[RejectedReplay],
    ) -> Result<(), ServiceError> {
        let mut replayed = Vec::with_capacity(ids.len());
        for (id, outcome) in ids.iter().zip(outcomes) {
            let outcome = match outcome {
                IngestionOutcome::Accepted { .. } => "accepted",
                IngestionOutcome::Duplicate { .. } => "duplicate",
                // Not counted, so that a later replay may try it again.
                _ => continue,
            };
            replayed.push(failed_events::ReplayedEvent { failed_event_id: *id, outcome });
        }
        // Commits together: the outcome of each replayed event and the new reasons of the
        // others. If this write is lost, the next replay finds the counted events to be
        // duplicates.
        let mut tx = self.core.db.begin().await?;
        failed_events::mark_replayed(&mut tx, &replayed, self.now()).await?;
        failed_events::update_reasons(&mut tx, still_failed).await?;
        tx.commit().await?;
        self.core
            .metrics
            .ingestion
            .failed_events
            .add(FailedEventOutcome::Replayed, replayed.len() as u64);
        Ok(())
    }
}

/// Why an event is still rejected.
fn new_reason(failed_event_id: i64, refused: &RejectedEvent) -> RejectedReplay {
    RejectedReplay { failed_event_id, reason: refused.reason(), faults: refused.explanation() }
}

/// The message id of an event that arrived without one: the same in every replay, so that the
/// event is counted once.
fn replay_id(failed_event_id: i64) -> Option<MessageId> {
    format!("failed-event-{failed_event_id}").parse().ok()
}
