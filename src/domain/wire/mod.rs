//! From bytes to values of the domain and back: one file, or folder, a format.

mod fields;
pub mod inference;
pub mod native;
pub mod rows;
pub mod segment;

use crate::domain::event::Event;
use crate::domain::id::CustomerKey;

/// What an event may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Further ahead of the receiver's clock is refused.
    pub max_future_millis: i64,
    /// Objects inside objects.
    pub max_property_depth: usize,
    /// As JSON, in the form it came in.
    pub max_event_bytes: usize,
}

/// One message, read: what happened, and what it says about who is who.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub event: Event,
    pub link: Option<Link>,
}

/// Two ids of one customer: what was known under `from` belongs to `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub from: CustomerKey,
    pub to: CustomerKey,
}
