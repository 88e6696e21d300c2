//! Identity resolution: which ids belong to one customer.
//!
//! A visitor browses under an anonymous id and later identifies under a known one. From then on
//! both ids are one customer, stored under the known id. The result depends only on the set of
//! links, not on their order of arrival:
//!
//! * Only the first link from an id counts, by its time. A link of a trusted sender precedes
//!   every link of a public key, which anyone can use. So a device shared by several people
//!   belongs to the first of these people, and never merges two people.
//! * Two known customers are merged by `alias` alone. A link of any other event with both ids is
//!   void if some event of a trusted sender names its source as a known customer: then the event
//!   had a customer's id in the place of the anonymous id.
//! * First links are followed in the order of their time. A link is not followed if it would
//!   close a cycle, or if the customer would have more than [`MAX_IDS_PER_CUSTOMER`] ids.
//! * The id at the end of the chain is the canonical id, under which the customer is stored.
//!
//! An event is refused if its link would connect more than `MAX_CONNECTED_IDS` ids
//! ([`links_over_limit`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;

/// Maximum number of ids of one customer. Without a limit, a demonstration device in a shop or
/// a test account would gather thousands.
pub const MAX_IDS_PER_CUSTOMER: usize = 100;

/// Maximum number of ids in one connected component of links, followed or not. Which links are
/// followed depends on the whole component, so each further link has to read it. Without this
/// limit, a sender with a long chain of links would delay all others.
pub(crate) const MAX_CONNECTED_IDS: usize = 1000;

/// A link between two ids of one customer: the data under `from` belongs to `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityLink {
    pub from: CustomerKey,
    pub to: CustomerKey,
}

impl IdentityLink {
    /// The link between two different ids.
    pub(crate) fn between(from: Option<CustomerKey>, to: &CustomerKey) -> Option<Self> {
        from.filter(|from| from != to).map(|from| Self { from, to: to.clone() })
    }
}

/// A link with its time and message. The order is time, then message id; links of public keys
/// come after all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAssertion {
    /// Sent by a public key. Such a link yields to every link of a trusted sender, even a later
    /// one.
    pub is_public: bool,
    pub asserted_at: Timestamp,
    pub message_id: MessageId,
    pub link: IdentityLink,
    /// Stated by an `alias`, which may merge two known customers.
    pub is_alias: bool,
}

/// Texts that clients send in place of a missing id, such as `undefined` or `00000000-…`. Many
/// people share each of them, so none of them identifies a customer. Case is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentinelIds(Arc<[Box<str>]>);

impl SentinelIds {
    pub fn new<'t>(ids: impl IntoIterator<Item = &'t str>) -> Self {
        let ids = ids.into_iter().map(str::trim).filter(|id| !id.is_empty());
        Self(ids.map(Into::into).collect())
    }

    /// Whether the id, without blanks around it, is one of them.
    pub fn contains(&self, id: &str) -> bool {
        self.0.iter().any(|sentinel| sentinel.eq_ignore_ascii_case(id))
    }
}

/// Outcome of an id's first link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOutcome {
    Followed,
    /// Not followed: both ids already have the same canonical id.
    Cycle,
    /// Not followed: the customer would have more ids than the limit allows.
    LimitReached,
}

/// The canonical id of every linked id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityGraph {
    canonical_id: BTreeMap<CustomerKey, CustomerKey>,
    outcomes: BTreeMap<CustomerKey, LinkOutcome>,
}

impl IdentityGraph {
    /// Follows `first`, the first link of each id. With a link, `first` must contain every link
    /// of its connected component.
    pub fn from_first_links(mut first: Vec<LinkAssertion>, max_ids: usize) -> Self {
        first.sort_unstable();
        let mut groups = Self::default();
        let mut ids = BTreeMap::<CustomerKey, Vec<CustomerKey>>::new();
        for LinkAssertion { link: IdentityLink { from, to }, .. } in first {
            let [joining, into] = [&from, &to].map(|id| {
                let root = groups.canonical_id.entry(id.clone()).or_insert_with(|| id.clone());
                ids.entry(root.clone()).or_insert_with(|| vec![id.clone()]);
                root.clone()
            });
            let outcome = if joining == into {
                LinkOutcome::Cycle
            } else if ids[&joining].len() + ids[&into].len() > max_ids {
                LinkOutcome::LimitReached
            } else {
                let moved = ids.remove(&joining).unwrap_or_default();
                for id in &moved {
                    groups.canonical_id.insert(id.clone(), into.clone());
                }
                ids.entry(into).or_default().extend(moved);
                LinkOutcome::Followed
            };
            groups.outcomes.insert(from, outcome);
        }
        groups
    }

    /// The canonical id of an id; `None` for an id without links.
    pub fn canonical(&self, id: &CustomerKey) -> Option<&CustomerKey> {
        self.canonical_id.get(id)
    }

    /// The outcome of the first link from an id.
    pub fn link_outcome(&self, from: &CustomerKey) -> Option<LinkOutcome> {
        self.outcomes.get(from).copied()
    }

    /// Adds an id without links, as its own canonical id.
    #[must_use]
    pub(crate) fn with_id(mut self, id: &CustomerKey) -> Self {
        self.canonical_id.entry(id.clone()).or_insert_with(|| id.clone());
        self
    }

    /// Every id with a link.
    pub fn ids(&self) -> impl Iterator<Item = &CustomerKey> {
        self.canonical_id.keys()
    }
}

/// Selects the `new` first links that would connect more than `max_ids` ids, given the `known`
/// links. New links are added in the order of their time; a refused link does not count for
/// later ones.
pub fn links_over_limit<'n>(
    known: &[LinkAssertion],
    new: &[&'n LinkAssertion],
    max_ids: usize,
) -> Vec<&'n LinkAssertion> {
    let mut components = LinkComponents::default();
    for assertion in known {
        components.join(&assertion.link, usize::MAX);
    }
    let mut new = new.to_vec();
    new.sort_unstable();
    new.retain(|assertion| !components.join(&assertion.link, max_ids));
    new
}

/// Union-find over ids, by size (Tarjan 1975).
#[derive(Debug, Default)]
struct LinkComponents<'l> {
    numbers: HashMap<&'l CustomerKey, usize>,
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl<'l> LinkComponents<'l> {
    /// Joins both ends of a link. Returns false, and changes nothing, if the component would
    /// have more than `max_ids` ids.
    fn join(&mut self, link: &'l IdentityLink, max_ids: usize) -> bool {
        let [from, to] = [&link.from, &link.to].map(|id| self.root(id));
        let size = self.sizes[from] + if from == to { 0 } else { self.sizes[to] };
        if size > max_ids {
            return false;
        }
        let (small, large) =
            if self.sizes[from] < self.sizes[to] { (from, to) } else { (to, from) };
        self.parents[small] = large;
        self.sizes[large] = size;
        true
    }

    fn root(&mut self, id: &'l CustomerKey) -> usize {
        let next = self.parents.len();
        let mut number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.parents.push(next);
            self.sizes.push(1);
        }
        while self.parents[number] != number {
            self.parents[number] = self.parents[self.parents[number]];
            number = self.parents[number];
        }
        number
    }
}
