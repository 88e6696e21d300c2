//! Numbers of stored events that can be added up apart from features: outcomes of experiments.

use crate::domain::event::EventKind;
use crate::domain::feature::reading::event::RATE_PROPERTY;
use crate::domain::feature::reading::filter::PropertyType;
use crate::domain::feature::set::{EventRoute, FeatureSet, stricter};

/// A numeric property that is stored with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredNumber {
    /// An amount of money, which [`STORED_RATE`] converts to the currency of the set.
    pub is_money: bool,
}

/// Property of a stored event whose money is in another currency: what one unit of it is worth in the
/// currency of the feature set.
pub const STORED_RATE: &str = RATE_PROPERTY;

impl FeatureSet {
    /// Whether a feature selects `track` events by this name, so that they are stored with it.
    pub fn reads_event_name(&self, name: &str) -> bool {
        self.track_routes(name).any(|route| route.head.name.is_some())
    }

    /// A numeric property that is stored with `track` events of this name; `None` if no feature reads
    /// it, and for a property of the elements of an array.
    pub fn stored_number(&self, event_name: &str, property: &str) -> Option<StoredNumber> {
        if self.is_of_element(property) {
            return None;
        }
        let types = self.track_routes(event_name).filter_map(|route| route.property(property));
        match types.reduce(stricter)? {
            PropertyType::Number(_) => {
                let money = self.money.as_ref();
                Some(StoredNumber { is_money: money.is_some_and(|money| money.is_money(property)) })
            }
            PropertyType::Text | PropertyType::Bool | PropertyType::Any => None,
        }
    }

    /// Names of the numeric properties that are stored with `track` events of this name.
    pub fn stored_numbers(&self, event_name: &str) -> Vec<&str> {
        let names = self.track_routes(event_name).flat_map(EventRoute::property_names);
        let mut names: Vec<&str> =
            names.filter(|name| self.stored_number(event_name, name).is_some()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn track_routes(&self, name: &str) -> impl Iterator<Item = &EventRoute> {
        self.routes.iter().filter(move |route| {
            let filter = &route.head;
            filter.kind.is_none_or(|kind| kind == EventKind::Track)
                && filter.name.as_deref().is_none_or(|own| own == name)
        })
    }

    /// Whether a property, such as `products.price`, belongs to the elements of an array that a feature
    /// reads one by one: an event stores it once for each element.
    fn is_of_element(&self, property: &str) -> bool {
        self.event_sources
            .iter()
            .filter_map(|source| source.each.as_deref())
            .any(|array| property.strip_prefix(array).is_some_and(|rest| rest.starts_with('.')))
    }
}
