//! Which ids are one customer.
//!
//! Somebody unknown browses under an anonymous id, then says who they are: from
//! then on both ids are one customer, kept under the known one. Which ids are
//! one follows from the set of links alone, in whatever order they arrive:
//!
//! * Of all links from an id only the first in time counts; one of a trusted sender
//!   before those of public keys, which anybody can use. So a device that
//!   several people share belongs to the first of them, and never makes two
//!   people one.
//! * The first links are followed in the order of their time. One that would
//!   close a circle is not, nor one that would make a customer of more than
//!   [`MAX_IDS`] ids.
//! * A customer is kept under the id at the end of the chain.
//!
//! An event whose link would connect more than [`MAX_CONNECTED_IDS`] ids is refused
//! ([`too_connected`]).

use std::collections::{BTreeMap, HashMap};

use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;

/// Ids of one customer, at most: a device in a shop window, or a test account,
/// would gather thousands.
pub const MAX_IDS: usize = 100;

/// Ids that may hang together by links, followed or not. Which links are followed depends
/// on all of them, so each further link has to look at them all: without a bound, one
/// sender with a long chain of links would delay every other.
pub const MAX_CONNECTED_IDS: usize = 1000;

/// Two ids of one customer: what was known under `from` belongs to `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    pub from: CustomerKey,
    pub to: CustomerKey,
}

/// A link, when it was said, and by which message. Ordered by time, then message; those
/// of public keys after all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// By a public key: yields to every link of a trusted sender, which may be dated
    /// later.
    pub is_public: bool,
    pub at: Timestamp,
    pub message_id: MessageId,
    pub link: Link,
}

/// What comes of an id's first link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Followed,
    /// Its end is kept under its own beginning.
    Circle,
    /// The customer would have more ids than are allowed.
    Full,
}

/// Under which id each customer is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    canonical: BTreeMap<CustomerKey, CustomerKey>,
    fates: BTreeMap<CustomerKey, Fate>,
}

impl Groups {
    /// Follows `first`, the first link of each id. They must be whole: with a
    /// link, all that share an id with it.
    pub fn of(mut first: Vec<Told>, max_ids: usize) -> Self {
        first.sort_unstable();
        let mut groups = Self::default();
        let mut ids = BTreeMap::<CustomerKey, Vec<CustomerKey>>::new();
        for Told { link: Link { from, to }, .. } in first {
            let [joining, into] = [&from, &to].map(|id| {
                let root = groups.canonical.entry(id.clone()).or_insert_with(|| id.clone());
                ids.entry(root.clone()).or_insert_with(|| vec![id.clone()]);
                root.clone()
            });
            let fate = if joining == into {
                Fate::Circle
            } else if ids[&joining].len() + ids[&into].len() > max_ids {
                Fate::Full
            } else {
                let moved = ids.remove(&joining).unwrap_or_default();
                for id in &moved {
                    groups.canonical.insert(id.clone(), into.clone());
                }
                ids.entry(into).or_default().extend(moved);
                Fate::Followed
            };
            groups.fates.insert(from, fate);
        }
        groups
    }

    /// Where an id's customer is kept; `None` for an id that no link names.
    pub fn canonical(&self, id: &CustomerKey) -> Option<&CustomerKey> {
        self.canonical.get(id)
    }

    /// What came of the first link from an id.
    pub fn fate(&self, from: &CustomerKey) -> Option<Fate> {
        self.fates.get(from).copied()
    }

    /// With an id that no link may name any more: alone.
    #[must_use]
    pub fn with(mut self, id: &CustomerKey) -> Self {
        self.canonical.entry(id.clone()).or_insert_with(|| id.clone());
        self
    }

    /// Every id that a link names.
    pub fn ids(&self) -> impl Iterator<Item = &CustomerKey> {
        self.canonical.keys()
    }
}

/// Those of the `new` first links that would connect more than `max_ids` ids, beside the
/// `known` ones. The new ones are taken in the order of their time; one that is refused
/// does not count for those after it.
pub fn too_connected<'n>(known: &[Told], new: &[&'n Told], max_ids: usize) -> Vec<&'n Told> {
    let mut components = Components::default();
    for told in known {
        components.join(&told.link, usize::MAX);
    }
    let mut new = new.to_vec();
    new.sort_unstable();
    new.retain(|told| !components.join(&told.link, max_ids));
    new
}

/// Union-find over ids, by size (Tarjan 1975).
#[derive(Debug, Default)]
struct Components<'l> {
    numbers: HashMap<&'l CustomerKey, usize>,
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl<'l> Components<'l> {
    /// Joins both ends of a link, unless the component would have more than `max_ids` ids.
    fn join(&mut self, link: &'l Link, max_ids: usize) -> bool {
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
