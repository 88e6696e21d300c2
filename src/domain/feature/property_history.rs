//! Property history: since when each property of an event is stored.

use crate::domain::feature::filter::EventFilter;
use crate::domain::time::Timestamp;

/// The properties that are stored only since a known instant. All others are stored since the
/// first event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PropertyHistory(pub(super) Vec<StoredProperty>);

/// A property of the events of one filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StoredProperty {
    pub(super) filter: EventFilter,
    pub(super) name: Box<str>,
    /// Arrival time of the first event that is stored with it.
    pub(super) since: Timestamp,
}

impl PropertyHistory {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Since when a property of the events of this filter is stored; `None` for always.
    pub(super) fn since(&self, filter: &EventFilter, name: &str) -> Option<Timestamp> {
        let found = self.0.iter().find(|own| own.filter == *filter && *own.name == *name)?;
        Some(found.since)
    }
}
