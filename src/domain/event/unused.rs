//! Accepted events that features do not use, counted by type and name with a bounded number of
//! names.

use std::collections::BTreeMap;

use crate::domain::event::EventKind;
use crate::domain::time::Timestamp;

/// Names that are counted one by one, for each reason; further names are counted together.
pub const MAX_UNUSED_NAMES: usize = 200;
/// Maximum length of a counted name. Senders choose names, and the key of an index must be short.
const MAX_NAME_BYTES: usize = 200;
/// Maximum length of a stored warning, which lists declared names.
const MAX_WARNING_BYTES: usize = 600;

/// Why an accepted event is not used as its sender probably meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnusedReason {
    /// No feature and no trait reads the event.
    Unread,
    /// A feature reads the event, and the property that it needs is missing.
    MissingProperty,
}

impl UnusedReason {
    pub const ALL: [Self; 2] = [Self::Unread, Self::MissingProperty];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::MissingProperty => "missing_property",
        }
    }
}

/// Key of a count: the type and name of events, and the missing property.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnusedEventName {
    pub kind: EventKind,
    /// Empty if the event has no name, or if its name must not be stored.
    pub name: Box<str>,
    /// The declared name that was probably meant; empty if none is similar.
    pub nearest_name: Box<str>,
    /// Empty for [`UnusedReason::Unread`].
    pub property: Box<str>,
}

/// An accepted event that is not used, with its warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedEvent {
    pub reason: UnusedReason,
    pub name: UnusedEventName,
    pub warning: Box<str>,
}

impl UnusedEvent {
    /// Shortens texts that are too long to be stored.
    pub fn new(reason: UnusedReason, name: UnusedEventName, warning: &str) -> Self {
        let UnusedEventName { kind, name, nearest_name, property } = name;
        let name = UnusedEventName {
            kind,
            name: shortened(&name, MAX_NAME_BYTES),
            nearest_name: shortened(&nearest_name, MAX_NAME_BYTES),
            property: shortened(&property, MAX_NAME_BYTES),
        };
        Self { reason, name, warning: shortened(warning, MAX_WARNING_BYTES) }
    }
}

fn shortened(text: &str, max_bytes: usize) -> Box<str> {
    if text.len() <= max_bytes {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(max_bytes)]).into()
}

/// The number of events under one name, or under all further names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedEventCount {
    pub events: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// The warning of the last event.
    pub warning: Box<str>,
}

impl UnusedEventCount {
    fn merge(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.first_at = self.first_at.min(other.first_at);
        if other.last_at >= self.last_at {
            self.last_at = other.last_at;
            self.warning = other.warning;
        }
    }
}

/// Counts for one reason, with at most [`MAX_UNUSED_NAMES`] names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnusedEventCounts {
    pub by_name: BTreeMap<UnusedEventName, UnusedEventCount>,
    /// Events of further names.
    pub further: Option<UnusedEventCount>,
}

impl UnusedEventCounts {
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.further.is_none()
    }

    /// Counts an event received at this instant.
    pub fn add_event(&mut self, event: UnusedEvent, at: Timestamp) {
        let UnusedEvent { reason: _, name, warning } = event;
        self.add(name, UnusedEventCount { events: 1, first_at: at, last_at: at, warning });
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: Self) {
        for (name, count) in other.by_name {
            self.add(name, count);
        }
        if let Some(count) = other.further {
            self.add_further(count);
        }
    }

    fn add(&mut self, name: UnusedEventName, count: UnusedEventCount) {
        if let Some(sum) = self.by_name.get_mut(&name) {
            sum.merge(count);
        } else if self.by_name.len() < MAX_UNUSED_NAMES {
            self.by_name.insert(name, count);
        } else {
            self.add_further(count);
        }
    }

    fn add_further(&mut self, count: UnusedEventCount) {
        match &mut self.further {
            Some(sum) => sum.merge(count),
            None => self.further = Some(count),
        }
    }
}
