//! Property history: since when each property of an event is stored.

use crate::domain::event::EventKind;
use crate::domain::feature::reading::filter::EventFilter;
use crate::domain::time::Timestamp;

/// A property that is stored with the events of one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProperty {
    /// Type of the events; `None` for every behavioural event.
    pub kind: Option<EventKind>,
    /// Name of the events; `None` for all.
    pub event_name: Option<Box<str>>,
    /// Name of the property, without the index of an array element.
    pub property: Box<str>,
    /// Arrival time of the first events that are stored with it; `None` for all events.
    pub since: Option<Timestamp>,
}

/// The stored properties of a feature set.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::domain::feature) struct PropertyHistory(Vec<StoredProperty>);

impl StoredProperty {
    pub(in crate::domain::feature) fn filter(&self) -> EventFilter {
        EventFilter { kind: self.kind, name: self.event_name.clone() }
    }
}

impl PropertyHistory {
    /// Retains the properties that are not stored with all events.
    pub(in crate::domain::feature) fn new(stored: Vec<StoredProperty>) -> Self {
        Self(stored.into_iter().filter(|property| property.since.is_some()).collect())
    }

    pub(in crate::domain::feature) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Since when a property of the events of this filter is stored; `None` for always.
    pub(in crate::domain::feature) fn since(
        &self,
        filter: &EventFilter,
        name: &str,
    ) -> Option<Timestamp> {
        let found = self.0.iter().find(|own| {
            own.kind == filter.kind && own.event_name == filter.name && *own.property == *name
        })?;
        found.since
    }
}
