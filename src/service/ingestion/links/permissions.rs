//! Permission of identity links: who may link from which id, and what ends a link.
//!
//! A trusted sender merges two known customers by `alias` alone. A link of any other event with
//! both ids is ignored if an event of a trusted sender names its source as a known customer:
//! then the event had a customer's id in the place of the anonymous id. The event itself counts.
//!
//! A public key is embedded in web pages and apps, so anyone can send with it. It may
//! link only from an anonymous id that it introduced itself, or from an id without a
//! customer; else its event is rejected. When an event of any sender names an id as a known
//! customer, the links of public keys from that id end. So linking away the id of a future
//! customer gains an attacker nothing.
//!
//! The order of arrival does not matter: a link that arrived before such an event ends, and one
//! that arrives afterwards is refused.

use std::collections::{HashMap, HashSet};

use crate::domain::access::MessageIdNamespace;
use crate::domain::event::EventKind;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::CustomerKey;
use crate::domain::identity::IdentityLink;
use crate::domain::wire::{IngestionEndpoint, ParsedMessage};
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent};
use crate::service::ingestion::IngestionService;
use crate::store::customers::events::ReceivedEvent;
use crate::store::customers::link_sources::{KnownIds, RequestedLink};
use crate::store::customers::{link_sources, links};
use crate::store::{DatabaseTransaction, StoreError};
use crate::telemetry::labels;

/// Decisions on the links of one commit.
#[derive(Debug, Default)]
pub(crate) struct LinkPermissions {
    /// Permitted new links. The row of each source is checked again before the commit.
    new: Vec<RequestedLink>,
    refused: Vec<RequestedLink>,
    ended: Vec<IdentityLink>,
}

impl LinkPermissions {
    /// Decides the links among the `new` events, and ends earlier ones with a source that these
    /// events name as a known customer. The message ids must be inserted before.
    pub(crate) async fn decide(
        tx: &mut DatabaseTransaction,
        all: &[ReceivedEvent],
        new: &[usize],
    ) -> Result<Self, StoreError> {
        let new = new.iter().map(|index| &all[*index]);
        let mut known = HashSet::new();
        let mut known_to_trusted = HashSet::new();
        for arrived in new.clone().filter(|arrived| !arrived.is_anonymous) {
            known.insert(&arrived.event.customer);
            if !arrived.sender.is_public() {
                known_to_trusted.insert(&arrived.event.customer);
            }
        }
        let mut decided = Self::default();
        let known_ids = KnownIds {
            by_anyone: known.iter().copied().collect(),
            by_trusted: known_to_trusted.iter().copied().collect(),
        };
        if link_sources::have_ending_links(tx, &known_ids).await? {
            links::lock_links(tx).await?;
            decided.ended = link_sources::end_links(tx, &known_ids).await?;
        }
        let requested: Vec<RequestedLink> = new.filter_map(requested_link).collect();
        if requested.is_empty() {
            return Ok(decided);
        }
        let sources = link_sources::find(tx, &requested).await?;
        for (requested, source) in requested.into_iter().zip(sources) {
            let from = &requested.link.from;
            let is_refused = if requested.sender.is_public() {
                if source.is_recorded {
                    continue;
                }
                source.is_forbidden || known.contains(from)
            } else {
                source.is_forbidden || known_to_trusted.contains(from)
            };
            if is_refused { decided.refused.push(requested) } else { decided.new.push(requested) }
        }
        Ok(decided)
    }

    pub(crate) fn is_refused(&self, arrived: &ReceivedEvent) -> bool {
        !self.refused.is_empty()
            && requested_link(arrived).is_some_and(|link| self.refused.contains(&link))
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refused.len() as u64
    }

    pub(crate) fn ended(&self) -> &[IdentityLink] {
        &self.ended
    }

    /// Checks, with the rows locked, that no other transaction has made a source a known
    /// customer meanwhile.
    pub(crate) async fn confirm(&self, tx: &mut DatabaseTransaction) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let sources = link_sources::find(tx, &self.new).await?;
        if sources.iter().any(|source| source.is_forbidden) {
            return Err(StoreError::Lost(
                "another transaction made the source of a link a known customer".into(),
            ));
        }
        Ok(())
    }
}

/// The link of an event, if it needs permission: an `alias` of a trusted sender does not.
fn requested_link(arrived: &ReceivedEvent) -> Option<RequestedLink> {
    let is_permitted = arrived.event.kind == EventKind::Alias && !arrived.sender.is_public();
    let link = arrived.link.clone().filter(|_| !is_permitted)?;
    Some(RequestedLink { link, sender: arrived.sender.clone() })
}

/// The link of an event of a public key.
fn public_link(arrived: &ReceivedEvent) -> Option<RequestedLink> {
    requested_link(arrived).filter(|requested| requested.sender.is_public())
}

/// The public key that is the only introducer of an id in these events, by id; `None` for
/// an id with several introducers.
pub(crate) fn introducers<'a>(
    events: impl Iterator<Item = &'a ReceivedEvent>,
) -> HashMap<CustomerKey, Option<MessageIdNamespace>> {
    let mut introducers = HashMap::new();
    for arrived in events {
        let by = Some(&arrived.sender).filter(|sender| sender.is_public());
        let own = by.filter(|_| arrived.is_anonymous);
        let linked = arrived.link.as_ref().map(|link| (&link.from, by));
        for (id, by) in [(&arrived.event.customer, own)].into_iter().chain(linked) {
            let known = introducers.entry(id.clone()).or_insert_with(|| by.cloned());
            if known.as_ref() != by {
                *known = None;
            }
        }
    }
    introducers
}

/// The warning about a link that is void: its source is a known customer.
pub(crate) fn ignored_link(endpoint: IngestionEndpoint) -> ValidationFault {
    let field = match endpoint {
        IngestionEndpoint::Events | IngestionEndpoint::Bulk => "anonymous_id",
        IngestionEndpoint::Segment => "anonymousId",
    };
    ValidationFault::new(
        field,
        "was not linked to the customer, as events name it as a customer of its own; an event of \
         type `alias` merges two customers",
    )
}

/// A link requested by a message of a public key.
#[derive(Debug)]
pub(crate) struct LinkRequest {
    /// Index of the message in its request.
    index: usize,
    link: RequestedLink,
    kind: EventKind,
}

impl LinkRequest {
    fn for_message(
        index: usize,
        message: &ParsedMessage,
        sender: &MessageIdNamespace,
    ) -> Option<Self> {
        let link = message.link.clone().filter(|_| sender.is_public())?;
        let link = RequestedLink { link, sender: sender.clone() };
        Some(Self { index, link, kind: message.event.kind })
    }

    pub(crate) fn for_event(index: usize, arrived: &ReceivedEvent) -> Option<Self> {
        Some(Self { index, link: public_link(arrived)?, kind: arrived.event.kind })
    }

    /// The fault, at the field that holds the source id.
    fn fault(&self) -> ValidationFaults {
        let field = if self.kind == EventKind::Alias { "previousId" } else { "anonymousId" };
        ValidationFaults::single(
            field,
            "is not an anonymous id that this key introduced: a key of scope `track` may \
             link only from such an id; send the event with a key of scope `ingest`",
        )
    }
}

impl IngestionService {
    /// Rejects messages of a public key that request a forbidden link. `kept` maps an
    /// index to the message as it is stored after a rejection.
    pub(crate) async fn reject_forbidden_links(
        &self,
        source: EventSource<'_>,
        messages: &mut [Result<ParsedMessage, RejectedEvent>],
        kept: &HashMap<usize, Vec<u8>>,
    ) -> Result<(), ServiceError> {
        if !source.is_public {
            return Ok(());
        }
        let sender = source.sender();
        let known: HashSet<CustomerKey> = messages
            .iter()
            .flatten()
            .filter(|message| !message.is_anonymous)
            .map(|message| message.event.customer.clone())
            .collect();
        let mut requests = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if let Ok(message) = message {
                requests.extend(LinkRequest::for_message(index, message, &sender));
            }
        }
        for (index, faults) in self.find_forbidden_links(requests, &known).await? {
            let raw = kept.get(&index).map(Vec::as_slice).unwrap_or_default();
            messages[index] = Err(RejectedEvent::new(faults, raw));
        }
        Ok(())
    }

    /// The forbidden links among `requests`, by index. The source of such a link is a
    /// customer that the key did not introduce, or one that the same request names as
    /// `known`.
    pub(crate) async fn find_forbidden_links(
        &self,
        requests: Vec<LinkRequest>,
        known: &HashSet<CustomerKey>,
    ) -> Result<Vec<(usize, ValidationFaults)>, ServiceError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let public: Vec<RequestedLink> = requests.iter().map(|one| one.link.clone()).collect();
        // On the strict connections: the read pool may be busy with slow queries.
        let sources = link_sources::read(&self.strict, &public).await?;
        let mut faults = Vec::new();
        for (request, source) in requests.into_iter().zip(sources) {
            // A recorded link was allowed when it was first sent; repeating it is harmless.
            let is_forbidden = source.is_forbidden || known.contains(&request.link.link.from);
            if is_forbidden && !source.is_recorded {
                faults.push((request.index, request.fault()));
            }
        }
        self.core
            .metrics
            .ingestion
            .links
            .add(labels::LinkOutcomeLabel::Refused, faults.len() as u64);
        Ok(faults)
    }
}
