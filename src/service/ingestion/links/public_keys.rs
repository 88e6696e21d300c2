//! Identity links from public API keys: what they may link, and what ends such a link.
//!
//! A public key is embedded in web pages and apps, so anyone can send with it. It may
//! link only from an anonymous id that it introduced itself, or from an id without a
//! customer. When an event of any sender names an id as a known customer, the links of
//! public keys from that id end. So linking away the id of a future customer gains an
//! attacker nothing. The order of arrival does not matter: afterwards such a link is
//! refused.

use std::collections::{HashMap, HashSet};

use crate::domain::access::MessageIdNamespace;
use crate::domain::event::EventKind;
use crate::domain::fault::ValidationFaults;
use crate::domain::id::CustomerKey;
use crate::domain::identity::IdentityLink;
use crate::domain::wire::ParsedMessage;
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent};
use crate::service::ingestion::IngestionService;
use crate::store::customers::events::ReceivedEvent;
use crate::store::customers::public_links::PublicLink;
use crate::store::customers::{links, public_links};
use crate::store::{DatabaseTransaction, StoreError};
use crate::telemetry::labels;

/// Links of public keys in one commit.
#[derive(Debug, Default)]
pub(crate) struct PublicLinks {
    /// Accepted new links. The row of each source is checked again before the commit.
    new: Vec<PublicLink>,
    refused: Vec<PublicLink>,
    ended: Vec<IdentityLink>,
}

impl PublicLinks {
    /// Decides the public keys' links among the `new` events, and ends earlier ones with
    /// a source that these events name as a known customer. The message ids must be
    /// inserted before.
    pub(crate) async fn decide(
        tx: &mut DatabaseTransaction,
        all: &[ReceivedEvent],
        new: &[usize],
    ) -> Result<Self, StoreError> {
        let new = new.iter().map(|index| &all[*index]);
        let known: HashSet<&CustomerKey> =
            new.clone().filter(|one| !one.is_anonymous).map(|one| &one.event.customer).collect();
        let mut decided = Self::default();
        let known_ids: Vec<&CustomerKey> = known.iter().copied().collect();
        if !public_links::ids_with_links(tx, &known_ids).await?.is_empty() {
            links::lock_links(tx).await?;
            // Read again: before the lock, other transactions may have changed it.
            let ids = public_links::ids_with_links(tx, &known_ids).await?;
            decided.ended = public_links::end_links(tx, &ids).await?;
        }
        let requested: Vec<PublicLink> = new.filter_map(public_link).collect();
        if requested.is_empty() {
            return Ok(decided);
        }
        let sources = public_links::link_sources(tx, &requested).await?;
        for (public, source) in requested.into_iter().zip(sources) {
            if source.is_recorded {
                continue;
            }
            let is_refused = source.is_foreign || known.contains(&public.link.from);
            if is_refused { decided.refused.push(public) } else { decided.new.push(public) }
        }
        Ok(decided)
    }

    pub(crate) fn is_refused(&self, arrived: &ReceivedEvent) -> bool {
        !self.refused.is_empty()
            && public_link(arrived).is_some_and(|public| self.refused.contains(&public))
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
        let sources = public_links::link_sources(tx, &self.new).await?;
        if sources.iter().any(|source| source.is_foreign) {
            return Err(StoreError::Lost(
                "another transaction made the source of a link a known customer".into(),
            ));
        }
        Ok(())
    }
}

fn public_link(arrived: &ReceivedEvent) -> Option<PublicLink> {
    let link = arrived.link.clone().filter(|_| arrived.sender.is_public())?;
    Some(PublicLink { link, sender: arrived.sender.clone() })
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

/// A link requested by a message of a public key.
#[derive(Debug)]
pub(crate) struct LinkRequest {
    /// Index of the message in its request.
    index: usize,
    link: PublicLink,
    kind: EventKind,
}

impl LinkRequest {
    fn for_message(
        index: usize,
        message: &ParsedMessage,
        sender: &MessageIdNamespace,
    ) -> Option<Self> {
        let link = message.link.clone().filter(|_| sender.is_public())?;
        let link = PublicLink { link, sender: sender.clone() };
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
        let public: Vec<PublicLink> = requests.iter().map(|one| one.link.clone()).collect();
        // On the strict connections: the read pool may be busy with slow queries.
        let sources = public_links::read_link_sources(&self.strict, &public).await?;
        let mut faults = Vec::new();
        for (request, source) in requests.into_iter().zip(sources) {
            // A recorded link was allowed when it was first sent; repeating it is harmless.
            let is_foreign = source.is_foreign || known.contains(&request.link.link.from);
            if is_foreign && !source.is_recorded {
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
