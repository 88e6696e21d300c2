//! Users that share bounded resources.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A user of memory, of the event queue or of threads: an API key or one of a few fixed
/// users. A number, so that an event allocates nothing for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceUser(u64);

impl ResourceUser {
    /// All requests before their key is known.
    pub(crate) const UNAUTHENTICATED: Self = Self(0);
    /// Replays of failed events.
    pub(crate) const REPLAY: Self = Self(1);
    /// Snapshots of the value of segments.
    pub(crate) const SEGMENT_VALUE: Self = Self(2);

    /// The user of a key. Two keys collide in this 64-bit hash with negligible
    /// probability; then they share one user's resources.
    pub fn of_key(key_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        key_id.hash(&mut hasher);
        Self(hasher.finish())
    }
}
