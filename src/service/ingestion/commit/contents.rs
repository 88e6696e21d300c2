//! Comparison of events that have one identity: the first of them counts, a later one with
//! the same content is a duplicate, and one with other content is a conflict.

use std::collections::{BTreeMap, HashMap};

use crate::domain::time::Timestamp;
use crate::service::ingestion::commit::{BatchFailure, EventRefusal, find_by_id};
use crate::store::customers::events;
use crate::store::customers::events::{ReceivedEvent, StoredContent};
use crate::store::{DatabaseTransaction, StoreError};

/// What a commit does with a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConflictPolicy {
    /// The event is not counted; the others are.
    Report,
    /// No event of the batch is counted.
    Abort,
}

/// The events that conflict with an event of the same identity, by index in the batch, with
/// the instant at which that event was received.
pub(crate) type Conflicts = HashMap<usize, Timestamp>;

/// Conflicts within a batch whose first event of each identity is new.
pub(crate) fn conflicts_within(all: &[ReceivedEvent], by_id: &[usize]) -> Conflicts {
    find_conflicts(all, by_id, &HashMap::new())
}

/// Conflicts within a batch, and with stored events. `new` are the indices of the events that
/// this transaction inserted.
pub(crate) async fn conflicts_with_stored(
    tx: &mut DatabaseTransaction,
    all: &[ReceivedEvent],
    by_id: &[usize],
    new: &[usize],
) -> Result<Conflicts, StoreError> {
    let mut is_new = vec![false; all.len()];
    for index in new {
        is_new[*index] = true;
    }
    let known: Vec<&ReceivedEvent> =
        by_id.iter().filter(|index| !is_new[**index]).map(|index| &all[*index]).collect();
    let mut stored = HashMap::new();
    if !known.is_empty() {
        // The insert waited for the transactions that wrote these events, and this later
        // statement sees what they committed.
        for content in events::find_contents(tx, &known).await? {
            if let Some(index) = find_by_id(all, by_id, &content.id) {
                stored.insert(index, content);
            }
        }
        if stored.len() < known.len() {
            return Err(StoreError::Lost("a stored event was deleted meanwhile".into()));
        }
    }
    Ok(find_conflicts(all, by_id, &stored))
}

/// The failure of a batch that must not have a conflict; `None` if it has none, or may.
pub(crate) fn abort_on(conflicts: &Conflicts, policy: ConflictPolicy) -> Option<BatchFailure> {
    if conflicts.is_empty() || policy == ConflictPolicy::Report {
        return None;
    }
    let mut refused = BTreeMap::new();
    for (index, stored_at) in conflicts {
        refused.insert(*index, EventRefusal::Conflict { stored_at: *stored_at });
    }
    Some(BatchFailure::Refused(refused))
}

/// Compares each event with the one that counts: the stored one (by index of the first event
/// with its identity), else the first in the batch.
fn find_conflicts(
    all: &[ReceivedEvent],
    by_id: &[usize],
    stored: &HashMap<usize, StoredContent>,
) -> Conflicts {
    let mut conflicts = Conflicts::new();
    if stored.is_empty() && by_id.len() == all.len() {
        return conflicts;
    }
    for (index, arrived) in all.iter().enumerate() {
        let first = by_id.binary_search_by(|at| all[*at].identity().cmp(&arrived.identity()));
        let Ok(first) = first.map(|at| by_id[at]) else { continue };
        let (content, received_at) = match stored.get(&first) {
            Some(stored) => (stored.content, stored.received_at),
            None => (all[first].content, all[first].received_at),
        };
        if content != arrived.content {
            conflicts.insert(index, received_at);
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::access::MessageIdNamespace;
    use crate::domain::event::{ContentHash, CustomerEvent, EventKind, Properties};
    use crate::service::ingestion::commit::sorted_by_id;
    use crate::store::customers::events::EventId;

    fn arrived(customer: u8, message: u8, content: u8, at: i64) -> ReceivedEvent {
        ReceivedEvent {
            sender: MessageIdNamespace::TRUSTED,
            event: CustomerEvent {
                message_id: format!("m{message}").parse().unwrap(),
                customer: format!("c{customer}").parse().unwrap(),
                kind: EventKind::Track,
                name: "x".into(),
                timestamp: Timestamp::from_millis(0),
                properties: Properties::default(),
            },
            content: ContentHash::from_bytes([content; 16]),
            is_anonymous: false,
            link: None,
            received_at: Timestamp::from_millis(at),
        }
    }

    fn id(arrived: &ReceivedEvent) -> EventId {
        let (customer_id, message_id, sender) = arrived.identity();
        EventId {
            customer_id: customer_id.into(),
            message_id: message_id.into(),
            sender: sender.into(),
        }
    }

    #[derive(Debug, PartialEq)]
    enum Verdict {
        Counted,
        Duplicate,
        Conflict(Timestamp),
    }

    proptest! {
        /// Batches of sends, with and without changes, give the verdicts of a store that takes
        /// one event at a time.
        #[test]
        fn batches_are_judged_as_single_events(
            batches in proptest::collection::vec(
                proptest::collection::vec((0..2_u8, 0..4_u8, 0..3_u8), 1..8), 1..8)
        ) {
            let mut stored = BTreeMap::<EventId, (ContentHash, Timestamp)>::new();
            let mut model = BTreeMap::<EventId, (ContentHash, Timestamp)>::new();
            for (number, batch) in batches.into_iter().enumerate() {
                let at = i64::try_from(number).unwrap();
                let batch: Vec<ReceivedEvent> = batch
                    .into_iter()
                    .map(|(customer, message, content)| arrived(customer, message, content, at))
                    .collect();
                let by_id = sorted_by_id(&batch);
                let known: HashMap<usize, StoredContent> = by_id
                    .iter()
                    .filter_map(|index| {
                        let id = id(&batch[*index]);
                        let (content, received_at) = *stored.get(&id)?;
                        Some((*index, StoredContent { id, content, received_at }))
                    })
                    .collect();
                let conflicts = find_conflicts(&batch, &by_id, &known);
                for (index, arrived) in batch.iter().enumerate() {
                    let is_new = by_id.contains(&index) && !known.contains_key(&index);
                    let verdict = match conflicts.get(&index) {
                        Some(at) => Verdict::Conflict(*at),
                        None if is_new => Verdict::Counted,
                        None => Verdict::Duplicate,
                    };
                    let this = (arrived.content, arrived.received_at);
                    let expected = match model.get(&id(arrived)) {
                        None => {
                            model.insert(id(arrived), this);
                            Verdict::Counted
                        }
                        Some((content, _)) if *content == this.0 => Verdict::Duplicate,
                        Some((_, at)) => Verdict::Conflict(*at),
                    };
                    prop_assert_eq!(&verdict, &expected);
                    if verdict == Verdict::Counted {
                        stored.insert(id(arrived), this);
                    }
                }
            }
            prop_assert_eq!(stored, model);
        }
    }
}
