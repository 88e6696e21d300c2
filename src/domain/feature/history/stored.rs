//! The properties that a feature set stores, and those that were dropped before.

use crate::domain::event::CustomerEvent;
use crate::domain::feature::history::properties::{PropertyHistory, StoredProperty};
use crate::domain::feature::reading::event::RATE_PROPERTY;
use crate::domain::feature::reading::filter::EventFilter;
use crate::domain::feature::set::{EventRoute, FeatureSet};
use crate::domain::feature::source::EventFeatureSource;
use crate::domain::time::Timestamp;

/// Property of the entry that every feature set has, so that a set without properties differs
/// from no set.
const NO_PROPERTY: &str = "";

impl FeatureSet {
    /// The properties that this set stores from `now` on, after a set that stored `before`; none
    /// before the first set.
    pub fn stored_properties(
        &self,
        before: &[StoredProperty],
        now: Timestamp,
    ) -> Vec<StoredProperty> {
        let any_event = EventFilter { kind: None, name: None };
        let mut stored = vec![stored_property(&any_event, NO_PROPERTY, before, now)];
        for route in self.routes() {
            for name in route.property_names() {
                stored.push(stored_property(&route.head, name, before, now));
            }
            if let Some(name) = self.conversion().filter(|_| self.reads_money(route)) {
                stored.push(stored_property(&route.head, &name, before, now));
            }
        }
        stored
    }

    /// This set with the result of [`Self::stored_properties`].
    #[must_use]
    pub fn with_stored_properties(self, stored: Vec<StoredProperty>) -> Self {
        self.with_property_history(PropertyHistory::new(stored))
    }

    /// Whether a property that the source reads may have been dropped from an event that arrived
    /// at this instant.
    pub(in crate::domain::feature) fn was_dropped(
        &self,
        source: &EventFeatureSource,
        event: &CustomerEvent,
        received_at: Timestamp,
    ) -> bool {
        let history = self.property_history();
        if history.is_empty() {
            return false;
        }
        let Some(matched) = source.filter_of(event) else { return false };
        let is_later = |name: &str| {
            history.since(&matched.filter, name).is_some_and(|since| since > received_at)
        };
        let was_dropped = source
            .properties()
            .into_iter()
            .any(|(name, _)| is_later(name) && !has_property(source, event, name));
        let was_converted = event.properties.get(RATE_PROPERTY).is_some();
        let reads_money = source.properties().into_iter().any(|(name, _)| self.is_money(name));
        was_dropped
            || reads_money
                && !was_converted
                && self.conversion().is_some_and(|name| is_later(&name))
    }

    /// A property in place of the conversion to this set's currency, to know since when amounts
    /// are converted.
    fn conversion(&self) -> Option<String> {
        let money = self.money()?;
        money.rates_file.as_ref().map(|_| format!("{RATE_PROPERTY}.{}", money.currency))
    }

    fn is_money(&self, name: &str) -> bool {
        self.money().is_some_and(|money| money.is_money(name))
    }

    fn reads_money(&self, route: &EventRoute) -> bool {
        route.property_names().any(|name| self.is_money(name))
    }
}

fn stored_property(
    filter: &EventFilter,
    name: &str,
    before: &[StoredProperty],
    now: Timestamp,
) -> StoredProperty {
    let known = before.iter().filter(|stored| *stored.property == *name);
    let known = known.filter(|stored| stored.filter().covers(filter));
    // The earliest; `None`, for all events, is less than every instant.
    let since = known.map(|stored| stored.since).min();
    StoredProperty {
        kind: filter.kind,
        event_name: filter.name.clone(),
        property: name.into(),
        since: since.unwrap_or((!before.is_empty()).then_some(now)),
    }
}

/// Whether the event, or an element of the array of the source, has the property.
fn has_property(source: &EventFeatureSource, event: &CustomerEvent, name: &str) -> bool {
    let in_element = source.each.as_ref().is_some_and(|array| {
        let mut elements = event.properties.elements(array);
        elements.any(|element| element.owns(name) && element.get(name).is_some())
    });
    in_element || event.properties.get(name).is_some()
}
