//! From bytes to values of the domain and back: one file, or folder, a format.

mod fields;
pub mod inference;
pub mod lines;
pub mod native;
pub mod redact;
pub mod rows;
pub mod segment;

use crate::domain::event::Event;
use crate::domain::id::CustomerKey;
use crate::domain::identity::Link;

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
    /// The event names its customer by an anonymous id.
    pub is_anonymous: bool,
    pub link: Option<Link>,
    /// The text of an event with a link, as it came: such an event can still be refused
    /// by what is stored, and is then kept.
    pub raw: Option<Box<str>>,
}

/// The ids in a message.
#[derive(Debug)]
struct Who {
    customer: CustomerKey,
    /// `customer` is an anonymous id.
    is_anonymous: bool,
    link: Option<Link>,
}

impl Who {
    fn known(customer: CustomerKey, link: Option<Link>) -> Self {
        Self { customer, is_anonymous: false, link }
    }

    fn anonymous(customer: CustomerKey) -> Self {
        Self { customer, is_anonymous: true, link: None }
    }
}

/// Where an event came in: says which form it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// One or an array, in our own form.
    Events,
    /// A line each, in our own form.
    Bulk,
    /// In Segment's form.
    Segment,
}

impl Door {
    pub const ALL: [Self; 3] = [Self::Events, Self::Bulk, Self::Segment];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bulk => "bulk",
            Self::Segment => "segment",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.as_str() == text)
    }
}
