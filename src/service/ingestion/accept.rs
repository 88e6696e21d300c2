//! Acceptance of a request: commit the valid messages, store the rejected ones, and
//! return one outcome per message.

use std::collections::BTreeMap;

use crate::domain::access::MessageIdNamespace;
use crate::domain::event::EventKind;
use crate::domain::event::unused::UnusedEvent;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::time::Timestamp;
use crate::domain::wire::original::OriginalMessage;
use crate::domain::wire::{IngestionEndpoint, ParsedMessage};
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent};
use crate::service::ingestion::commit::batch_cache::BatchCache;
use crate::service::ingestion::commit::contents::{ConflictPolicy, EventRefusal};
use crate::service::ingestion::commit::{BatchFailure, CommittedBatch, IncomingBatch, pending};
use crate::service::ingestion::links::permissions;
use crate::service::ingestion::queue::locked_customers;
use crate::service::ingestion::{
    FullQueuePolicy, IngestionOutcome, IngestionService, ReceivedMessages, arrived, commit,
    conflict_faults,
};
use crate::service::limits::rate_limits::LimitedResource;
use crate::service::limits::resource_user::ResourceUser;
use crate::store::customers::events::ReceivedEvent;
use crate::telemetry::labels;

impl IngestionService {
    /// Commits valid events and stores rejected ones. Returns one outcome per event, in
    /// order.
    ///
    /// Events of different customers may be committed in different transactions. After an
    /// error some events may be counted; sending the whole request again is safe.
    pub async fn accept_events(
        &self,
        received: impl Into<ReceivedMessages>,
        source: EventSource<'_>,
        received_at: Timestamp,
        when_full: FullQueuePolicy,
    ) -> Result<Vec<IngestionOutcome>, ServiceError> {
        self.check_disk()?;
        self.clock_check.check_event_time(received_at)?;
        let ReceivedMessages { messages: items, reservation: memory } = received.into();
        let user = ResourceUser::of_key(source.key_id);
        match when_full {
            FullQueuePolicy::Refuse => {
                self.rate_limits.take(user, LimitedResource::Events, items.len())?;
            }
            FullQueuePolicy::Wait => {
                self.rate_limits.take_events_waiting(user, items.len()).await;
            }
        }
        let sender = source.sender();
        let mut events = Vec::with_capacity(items.len());
        let mut refused: Vec<Option<RejectedEvent>> = Vec::with_capacity(items.len());
        // The accepted messages as received, in case the commit refuses them.
        let mut originals = Vec::with_capacity(items.len());
        let mut warnings = Vec::new();
        let (mut unused, mut exposures) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Ok(mut message) => {
                    originals.push(message.original.take());
                    warnings.push(std::mem::take(&mut message.warnings));
                    unused.extend(message.unused.take().map(|found| (events.len(), found)));
                    exposures.extend(message.exposure.take().map(|found| (events.len(), found)));
                    self.report_shared_id(&message);
                    events.push(arrived(message, received_at, &sender));
                    refused.push(None);
                }
                Err(rejection) => refused.push(Some(rejection)),
            }
        }
        let mut counted = self.commit(user, events, memory, when_full).await?;
        self.record_exposures(&exposures, &counted).await?;
        if source.endpoint == IngestionEndpoint::Events {
            self.add_participations(&mut counted).await;
        }
        self.add_warnings(source.endpoint, &mut counted, warnings);
        self.count_unused(unused, &counted, received_at);
        let refused_by_commit = refused_by_commit(source.endpoint, &counted, &originals);
        drop(originals);
        for outcome in &counted {
            if let IngestionOutcome::Rejected { faults } = outcome {
                self.count_rejected(faults);
            }
        }
        // Rejected events are stored last. A commit that fails makes the sender repeat
        // the request, and its rejected events would otherwise be stored twice.
        let kept = refused.iter().flatten().chain(&refused_by_commit);
        self.failed.store_events(source, received_at, kept).await?;
        let mut counted = counted.into_iter();
        let outcomes = refused.into_iter().filter_map(|refused| match refused {
            Some(refused) => Some(self.reject(refused)),
            None => counted.next(),
        });
        Ok(outcomes.collect())
    }

    /// Commits all of these events in one transaction, or none. Rejected events are not
    /// stored: nothing was changed, and the sender still has them.
    pub(crate) async fn accept_all_or_none(
        &self,
        items: Vec<Result<ParsedMessage, RejectedEvent>>,
        source: EventSource<'_>,
        received_at: Timestamp,
    ) -> Result<Vec<IngestionOutcome>, ServiceError> {
        self.check_disk()?;
        self.clock_check.check_event_time(received_at)?;
        let user = ResourceUser::of_key(source.key_id);
        self.rate_limits.take(user, LimitedResource::Events, items.len())?;
        let most = self.settings.max_batch_events;
        if items.len() > most {
            let problem = format!(
                "are {}; one transaction holds at most {most} (ingestion.max_batch_events)",
                items.len()
            );
            return Err(ServiceError::Invalid(ValidationFaults::single("events", problem)));
        }
        if items.iter().any(Result::is_err) {
            let mut outcomes = Vec::with_capacity(items.len());
            for item in items {
                outcomes.push(match item {
                    Ok(ParsedMessage { event, .. }) => {
                        IngestionOutcome::NotCounted { message_id: event.message_id.into() }
                    }
                    Err(refused) => self.reject(refused),
                });
            }
            self.count_outcomes(&outcomes);
            return Ok(outcomes);
        }
        let mut warnings = Vec::with_capacity(items.len());
        let (mut unused, mut exposures) = (Vec::new(), Vec::new());
        let mut events: Vec<ReceivedEvent> = Vec::with_capacity(items.len());
        for mut message in items.into_iter().flatten() {
            warnings.push(std::mem::take(&mut message.warnings));
            unused.extend(message.unused.take().map(|found| (events.len(), found)));
            exposures.extend(message.exposure.take().map(|found| (events.len(), found)));
            self.report_shared_id(&message);
            events.push(arrived(message, received_at, &MessageIdNamespace::TRUSTED));
        }
        let share = self.reserve_capacity(user, events.len(), FullQueuePolicy::Refuse).await?;
        let committed = self.commit_strict(&events).await;
        // Retained until here, so that strict requests count against the queue as well.
        drop(share);
        let mut outcomes: Vec<IngestionOutcome> = match committed {
            Ok(committed) => committed.verdicts(events).map(Into::into).collect(),
            Err(BatchFailure::Service(error)) => return Err(error),
            Err(BatchFailure::Refused(refused)) => self.refuse_events(events, &refused),
            Err(BatchFailure::TooManyIds) => {
                let problem = "have links that involve too many ids for one transaction";
                return Err(ServiceError::Invalid(ValidationFaults::single("events", problem)));
            }
        };
        self.record_exposures(&exposures, &outcomes).await?;
        self.add_participations(&mut outcomes).await;
        self.add_warnings(source.endpoint, &mut outcomes, warnings);
        self.count_unused(unused, &outcomes, received_at);
        self.count_outcomes(&outcomes);
        Ok(outcomes)
    }

    /// Reports an anonymous id that logs in too many people.
    fn report_shared_id(&self, message: &ParsedMessage) {
        let Some(link) = message.link.as_ref() else { return };
        if message.event.kind != EventKind::Alias && self.shared_ids.record(link) {
            self.core.metrics.ingestion.shared_ids.inc();
            let most = self.settings.max_people_per_device;
            tracing::warn!(anonymous_id = %link.from, most, "an anonymous id logs in many people");
        }
    }

    /// Adds the warnings of each event to its outcome, if it was accepted, and counts them.
    fn add_warnings(
        &self,
        endpoint: IngestionEndpoint,
        outcomes: &mut [IngestionOutcome],
        warnings: Vec<Vec<ValidationFault>>,
    ) {
        for (outcome, mut found) in outcomes.iter_mut().zip(warnings) {
            if let IngestionOutcome::Accepted { is_link_ignored, warnings, .. } = outcome {
                if *is_link_ignored {
                    found.push(permissions::ignored_link(endpoint));
                }
                for warning in &found {
                    self.core.metrics.ingestion.warnings.add(part(&warning.path), 1);
                }
                *warnings = found;
            }
        }
    }

    /// Counts the accepted ones of these events, each with its index among the outcomes.
    fn count_unused(
        &self,
        unused: Vec<(usize, Box<UnusedEvent>)>,
        outcomes: &[IngestionOutcome],
        received_at: Timestamp,
    ) {
        for (index, event) in unused {
            if let Some(IngestionOutcome::Accepted { .. }) = outcomes.get(index) {
                self.unused_events.count_event(*event, received_at);
            }
        }
    }

    /// Commits in one transaction. Fails at once if a customer is known to be locked.
    async fn commit_strict(
        &self,
        events: &[ReceivedEvent],
    ) -> Result<CommittedBatch, BatchFailure> {
        let known_locked = &self.core.locked_customers;
        if known_locked.is_any_locked(events.iter()) {
            return Err(ServiceError::Locked.into());
        }
        let batch = IncomingBatch { events, on_conflict: ConflictPolicy::Abort };
        let done = commit::commit(&self.core, &self.strict, batch, BatchCache::default()).await;
        if let Err(BatchFailure::Service(ServiceError::Locked)) = &done {
            let locked = locked_customers::find_locked(&self.strict, events.iter()).await?;
            known_locked.mark_locked(locked);
        }
        done
    }

    /// Outcomes of a strict request in which the events at the indices `refused` cannot be
    /// counted.
    fn refuse_events(
        &self,
        events: Vec<ReceivedEvent>,
        refused: &BTreeMap<usize, EventRefusal>,
    ) -> Vec<IngestionOutcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        for (index, arrived) in events.into_iter().enumerate() {
            let message_id = arrived.event.message_id.into();
            outcomes.push(match refused.get(&index) {
                None => IngestionOutcome::NotCounted { message_id },
                Some(EventRefusal::Conflict { stored_at }) => {
                    IngestionOutcome::Conflict { message_id, stored_at: *stored_at }
                }
                Some(EventRefusal::Link) => {
                    let faults = pending::too_many_connected_ids();
                    self.count_rejected(&faults);
                    IngestionOutcome::Rejected { faults }
                }
            });
        }
        outcomes
    }

    pub(crate) fn count_outcomes(&self, outcomes: &[IngestionOutcome]) {
        let ingestion = &self.core.metrics.ingestion;
        for outcome in outcomes {
            let label = match outcome {
                IngestionOutcome::Accepted { answer, .. } => {
                    ingestion.outliers.inc_by(u64::from(answer.assignment.is_outlier));
                    labels::EventOutcome::Accepted
                }
                IngestionOutcome::Duplicate { .. } => labels::EventOutcome::Duplicate,
                IngestionOutcome::Conflict { .. } => labels::EventOutcome::Conflict,
                IngestionOutcome::NotCounted { .. } => labels::EventOutcome::NotCounted,
                IngestionOutcome::Locked { .. } => labels::EventOutcome::Locked,
                // [`Self::count_rejected`] counts rejected events with their reason.
                IngestionOutcome::Rejected { .. } => continue,
            };
            ingestion.events.add(label, 1);
        }
    }

    fn reject(&self, refused: RejectedEvent) -> IngestionOutcome {
        self.count_rejected(&refused.faults);
        IngestionOutcome::Rejected { faults: refused.faults }
    }

    fn count_rejected(&self, faults: &ValidationFaults) {
        let ingestion = &self.core.metrics.ingestion;
        ingestion.events.add(labels::EventOutcome::Rejected, 1);
        if let Some(first) = faults.0.first() {
            ingestion.rejected.add(part(&first.path), 1);
        }
    }
}

/// The events that the commit refused, as they are stored.
fn refused_by_commit(
    endpoint: IngestionEndpoint,
    outcomes: &[IngestionOutcome],
    originals: &[Option<OriginalMessage>],
) -> Vec<RejectedEvent> {
    let refused = outcomes.iter().filter(|outcome| is_refused(outcome));
    if refused.count() <= STORED_FORMS_IN_PLACE {
        return stored_rejections(endpoint, outcomes, originals);
    }
    // A message of Segment's format is parsed again: too long for an async thread.
    tokio::task::block_in_place(|| stored_rejections(endpoint, outcomes, originals))
}

/// Number of messages whose stored forms an async thread may make, at some 5 µs each.
const STORED_FORMS_IN_PLACE: usize = 50;

fn is_refused(outcome: &IngestionOutcome) -> bool {
    matches!(outcome, IngestionOutcome::Rejected { .. } | IngestionOutcome::Conflict { .. })
}

fn stored_rejections(
    endpoint: IngestionEndpoint,
    outcomes: &[IngestionOutcome],
    originals: &[Option<OriginalMessage>],
) -> Vec<RejectedEvent> {
    let mut rejections = Vec::new();
    for (outcome, original) in outcomes.iter().zip(originals) {
        let faults = match outcome {
            IngestionOutcome::Rejected { faults } => faults.clone(),
            IngestionOutcome::Conflict { stored_at, .. } => conflict_faults(endpoint, *stored_at),
            _ => continue,
        };
        let text = original.as_ref().map(OriginalMessage::to_stored).unwrap_or_default();
        rejections.push(RejectedEvent::new(faults, &text));
    }
    rejections
}

/// Metric label for the part of an event that a fault's path names.
fn part(path: &str) -> labels::RejectedField {
    match path.split_once('.').map_or(path, |(field, _)| field) {
        "event" => labels::RejectedField::Event,
        "type" => labels::RejectedField::Type,
        "name" | "category" => labels::RejectedField::Name,
        "customer_id" | "anonymous_id" | "userId" | "anonymousId" | "previousId" => {
            labels::RejectedField::CustomerId
        }
        "message_id" | "messageId" => labels::RejectedField::MessageId,
        "timestamp" | "sent_at" | "originalTimestamp" | "sentAt" => {
            labels::RejectedField::Timestamp
        }
        "properties" | "traits" => labels::RejectedField::Property,
        _ => labels::RejectedField::Unknown,
    }
}
