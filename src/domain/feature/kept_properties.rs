//! Since when the properties of a feature set are stored, from the sets that served before.

use crate::domain::event::CustomerEvent;
use crate::domain::feature::filter::EventFilter;
use crate::domain::feature::property_history::{PropertyHistory, StoredProperty};
use crate::domain::feature::set::{EventRoute, FeatureSet};
use crate::domain::feature::source::EventFeatureSource;
use crate::domain::time::Timestamp;

/// A feature set and the instant from which it served.
#[derive(Debug, Clone)]
pub struct ServedFeatureSet {
    pub features: FeatureSet,
    pub since: Timestamp,
}

impl FeatureSet {
    /// This set, with the knowledge which of its properties were dropped before. `served` are
    /// all sets that served, in order of time, up to this one.
    #[must_use]
    pub fn with_history(self, served: &[ServedFeatureSet]) -> Self {
        let mut stored = Vec::new();
        for route in self.routes() {
            for name in route.property_names() {
                let since = stored_since(&route.head, name, served);
                stored.extend(since.map(|since| StoredProperty {
                    filter: route.head.clone(),
                    name: name.into(),
                    since,
                }));
            }
        }
        self.with_property_history(PropertyHistory(stored))
    }

    /// Whether a property that the source reads may have been dropped from an event that arrived
    /// at this instant.
    pub(super) fn was_dropped(
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
        source.properties().into_iter().any(|(name, _)| {
            history.since(&matched.filter, name).is_some_and(|since| since > received_at)
                && !has_property(source, event, name)
        })
    }
}

/// The start of the latest period without a break in which the sets kept a property; `None` if
/// it was always kept.
fn stored_since(
    filter: &EventFilter,
    name: &str,
    served: &[ServedFeatureSet],
) -> Option<Timestamp> {
    let last_without = served.iter().rposition(|set| !keeps(&set.features, filter, name))?;
    Some(served.get(last_without + 1)?.since)
}

fn keeps(set: &FeatureSet, filter: &EventFilter, name: &str) -> bool {
    set.routes().iter().any(|route| route.head.covers(filter) && has_name(route, name))
}

fn has_name(route: &EventRoute, name: &str) -> bool {
    route.property_names().any(|own| own == name)
}

/// Whether the event, or an element of the array of the source, has the property.
fn has_property(source: &EventFeatureSource, event: &CustomerEvent, name: &str) -> bool {
    let in_element = source.each.as_ref().is_some_and(|array| {
        let mut elements = event.properties.elements(array);
        elements.any(|element| element.owns(name) && element.get(name).is_some())
    });
    in_element || event.properties.get(name).is_some()
}
