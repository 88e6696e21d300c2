//! The users between which bounded resources are shared.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A user of memory, of the queue of events, of threads: an API key, or one of a few
/// fixed users. A number, so that nothing is allocated for it on the way of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceUser(u64);

impl ResourceUser {
    /// All requests whose key is not known yet.
    pub const UNAUTHENTICATED: Self = Self(0);
    /// Replays of failed events.
    pub const REPLAY: Self = Self(1);

    /// The user of a key. Two of a service's keys share a hash of 64 bits with a
    /// probability that is of no account; then they share one part of the resources.
    pub fn of_key(key_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        key_id.hash(&mut hasher);
        Self(hasher.finish())
    }
}
