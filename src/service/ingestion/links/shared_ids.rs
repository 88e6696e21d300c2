//! Detection of shared ids (fan-in): an anonymous id that logs in many people.
//!
//! A device of a family logs in a few people. An id that logs in dozens is a shop terminal, a
//! test account, or a client that sends one constant for all. Only the first of its links is
//! followed, so the others gain nothing, but their owner should know.
//!
//! Each process counts in memory, by the ids that it linked last, so the count of a device with
//! rare logins starts again after many others.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use crate::domain::id::CustomerKey;
use crate::domain::identity::IdentityLink;

/// Remembered ids: about two megabytes with ten people each.
const MAX_IDS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// The people of the ids that were linked last.
#[derive(Debug)]
pub(crate) struct SharedIdMonitor {
    /// More people are reported; 0: never.
    max_people: usize,
    people: Mutex<LruCache<CustomerKey, Vec<CustomerKey>>>,
}

impl SharedIdMonitor {
    pub(crate) fn new(max_people: usize) -> Self {
        Self { max_people, people: Mutex::new(LruCache::new(MAX_IDS)) }
    }

    /// Counts a link. Returns true when its source passes the limit.
    pub(crate) fn record(&self, link: &IdentityLink) -> bool {
        if self.max_people == 0 {
            return false;
        }
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let known = people.get_or_insert_mut(link.from.clone(), Vec::new);
        if known.len() > self.max_people || known.contains(&link.to) {
            return false;
        }
        known.push(link.to.clone());
        known.len() > self.max_people
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: usize) -> IdentityLink {
        let to = to.to_string().parse().unwrap();
        IdentityLink { from: from.parse().unwrap(), to }
    }

    #[test]
    fn an_id_is_reported_once_when_it_passes_the_limit() {
        let monitor = SharedIdMonitor::new(3);
        let reports = |from: &str| {
            let people = (0..20).chain(0..20).map(|person| link(from, person % 8));
            people.filter(|link| monitor.record(link)).map(|link| link.to.to_string()).collect()
        };
        let first: Vec<String> = reports("terminal");
        assert_eq!(first, ["3"]);
        assert_eq!((0..3).filter(|person| monitor.record(&link("family", *person))).count(), 0);
        let never = SharedIdMonitor::new(0);
        assert!((0..50).all(|person| !never.record(&link("terminal", person))));
    }
}
