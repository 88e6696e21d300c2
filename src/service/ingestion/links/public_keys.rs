//! What public keys may link, and what ends such a link.
//!
//! A public key stands in web pages and apps, so anybody may send with it. It links only
//! from an anonymous id that it introduced, or from an id without a customer. As soon as
//! an event, of any sender, names an id as a known customer, the links of public keys from
//! it end: whoever links away the id of a customer who has yet to come gains nothing. The
//! order of arrival does not matter: afterwards such a link is refused.

use std::collections::{HashMap, HashSet};

use crate::domain::access::Sender;
use crate::domain::event::EventKind;
use crate::domain::fault::Faults;
use crate::domain::id::CustomerKey;
use crate::domain::identity::Link;
use crate::domain::wire::Message;
use crate::service::ServiceError;
use crate::service::failed_events::{Refused, Source};
use crate::service::ingestion::Intake;
use crate::store::customers::events::Arrived;
use crate::store::customers::public_links::PublicLink;
use crate::store::customers::{links, public_links};
use crate::store::{StoreError, Tx};
use crate::telemetry::labels;

/// Links of public keys in one commit.
#[derive(Debug, Default)]
pub(crate) struct PublicLinks {
    /// Let in, and new: the row of each source must still say so in the end.
    new: Vec<PublicLink>,
    refused: Vec<PublicLink>,
    ended: Vec<Link>,
}

impl PublicLinks {
    /// Judges those of the `new` ones of `all` events, and ends earlier ones whose source
    /// these name as a known customer. The message ids must be taken by then.
    pub(crate) async fn judge(
        tx: &mut Tx,
        all: &[Arrived],
        new: &[usize],
    ) -> Result<Self, StoreError> {
        let new = new.iter().map(|index| &all[*index]);
        let known: HashSet<&CustomerKey> =
            new.clone().filter(|one| !one.is_anonymous).map(|one| &one.event.customer).collect();
        let mut judged = Self::default();
        let known_ids: Vec<&CustomerKey> = known.iter().copied().collect();
        if !public_links::linked(tx, &known_ids).await?.is_empty() {
            links::lock(tx).await?;
            // Again: until now, others may have changed it.
            let ids = public_links::linked(tx, &known_ids).await?;
            judged.ended = public_links::end(tx, &ids).await?;
        }
        let asked: Vec<PublicLink> = new.filter_map(public_link).collect();
        if asked.is_empty() {
            return Ok(judged);
        }
        let sources = public_links::sources(tx, &asked).await?;
        for (public, source) in asked.into_iter().zip(sources) {
            if source.is_recorded {
                continue;
            }
            let is_refused = source.is_foreign || known.contains(&public.link.from);
            if is_refused { judged.refused.push(public) } else { judged.new.push(public) }
        }
        Ok(judged)
    }

    pub(crate) fn is_refused(&self, arrived: &Arrived) -> bool {
        !self.refused.is_empty()
            && public_link(arrived).is_some_and(|public| self.refused.contains(&public))
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refused.len() as u64
    }

    pub(crate) fn ended(&self) -> &[Link] {
        &self.ended
    }

    /// Once the rows are locked: no other transaction has made a source a known customer
    /// meanwhile.
    pub(crate) async fn confirm(&self, tx: &mut Tx) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let sources = public_links::sources(tx, &self.new).await?;
        if sources.iter().any(|source| source.is_foreign) {
            return Err(StoreError::Lost("an id that was to be linked has become known".into()));
        }
        Ok(())
    }
}

fn public_link(arrived: &Arrived) -> Option<PublicLink> {
    let link = arrived.link.clone().filter(|_| arrived.sender.is_public())?;
    Some(PublicLink { link, sender: arrived.sender.clone() })
}

/// The public key that alone introduces an id in these events, by id; `None` for an id that
/// has another introducer too.
pub(crate) fn introducers<'a>(
    events: impl Iterator<Item = &'a Arrived>,
) -> HashMap<CustomerKey, Option<Sender>> {
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

/// A link that a message of a public key asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The message's place in its request.
    place: usize,
    link: PublicLink,
    kind: EventKind,
}

impl Asked {
    fn of(place: usize, message: &Message, sender: &Sender) -> Option<Self> {
        let link = message.link.clone().filter(|_| sender.is_public())?;
        let link = PublicLink { link, sender: sender.clone() };
        Some(Self { place, link, kind: message.event.kind })
    }

    pub(crate) fn of_arrived(place: usize, arrived: &Arrived) -> Option<Self> {
        Some(Self { place, link: public_link(arrived)?, kind: arrived.event.kind })
    }

    /// Names the field of the source.
    fn fault(&self) -> Faults {
        let field = if self.kind == EventKind::Alias { "previousId" } else { "anonymousId" };
        Faults::one(
            field,
            "is not an anonymous id that this key introduced: a key of scope `track` links from \
             no other; send the event with a key of scope `ingest`",
        )
    }
}

impl Intake {
    /// Rejects the messages of a public key whose link it may not make. `kept` holds a
    /// message as it is kept if it is rejected, by its place.
    pub async fn judge_links(
        &self,
        source: Source<'_>,
        messages: &mut [Result<Message, Refused>],
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
        let asked = messages.iter().enumerate().filter_map(|(place, message)| {
            message.as_ref().ok().and_then(|message| Asked::of(place, message, &sender))
        });
        let asked: Vec<Asked> = asked.collect();
        for (place, faults) in self.faults_of(asked, &known).await? {
            let raw = kept.get(&place).map(Vec::as_slice).unwrap_or_default();
            messages[place] = Err(Refused::new(faults, raw));
        }
        Ok(())
    }

    /// Of these links those that may not be made, by place: their source is a customer whom
    /// the key did not introduce, or one that the same request names as `known`.
    pub(crate) async fn faults_of(
        &self,
        asked: Vec<Asked>,
        known: &HashSet<CustomerKey>,
    ) -> Result<Vec<(usize, Faults)>, ServiceError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let public: Vec<PublicLink> = asked.iter().map(|asked| asked.link.clone()).collect();
        // Beside the commits, and not among the readers, who may be slow.
        let sources = public_links::read_sources(&self.strict, &public).await?;
        let refused = asked.into_iter().zip(sources).filter(|(asked, source)| {
            !source.is_recorded && (source.is_foreign || known.contains(&asked.link.link.from))
        });
        let faults: Vec<_> = refused.map(|(asked, _)| (asked.place, asked.fault())).collect();
        self.core.metrics.intake.links.add(labels::Link::Refused, faults.len() as u64);
        Ok(faults)
    }
}
