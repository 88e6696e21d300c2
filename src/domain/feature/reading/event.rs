//! Reading of an event by folds: the event itself, or one element of its array.

use std::borrow::Cow;

use crate::domain::event::{ArrayElement, CustomerEvent, PropertyValue};
use crate::domain::feature::exact;
use crate::domain::feature::zone::LocalInstant;

/// Property that is added to an accepted event whose money is in another currency: how much
/// one unit of it is worth in the currency of the feature set. A sender cannot set it.
pub(in crate::domain::feature) const RATE_PROPERTY: &str = "$rate";

/// A numeric property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::domain::feature) struct NumberProperty {
    pub(in crate::domain::feature) name: Box<str>,
    /// Converted to the currency of the feature set.
    pub(in crate::domain::feature) is_money: bool,
}

/// An event as one fold reads it.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain::feature) struct EventReading<'e> {
    pub(in crate::domain::feature) event: &'e CustomerEvent,
    pub(in crate::domain::feature) at: LocalInstant,
    /// The element that names such as `products.price` refer to.
    pub(in crate::domain::feature) element: Option<ArrayElement<'e>>,
}

impl<'e> EventReading<'e> {
    pub(in crate::domain::feature) fn get(self, name: &str) -> Option<&'e PropertyValue> {
        let value = match self.element {
            Some(element) if element.owns(name) => element.get(name),
            _ => self.event.properties.get(name),
        };
        value.filter(|value| **value != PropertyValue::Null)
    }

    /// A value, converted to the currency of the feature set if it is money.
    pub(in crate::domain::feature) fn converted(
        self,
        name: &str,
        is_money: bool,
    ) -> Option<Cow<'e, PropertyValue>> {
        if is_money && let Some(number) = self.number(name, true) {
            return Some(Cow::Owned(PropertyValue::Number(number)));
        }
        self.get(name).map(Cow::Borrowed)
    }

    /// The number of an expression's property.
    pub(in crate::domain::feature) fn amount(self, property: &NumberProperty) -> Option<f64> {
        self.number(&property.name, property.is_money)
    }

    /// A number, converted to the currency of the feature set if it is money.
    pub(in crate::domain::feature) fn number(self, name: &str, is_money: bool) -> Option<f64> {
        let value = self.get(name)?.as_number()?;
        let rate = if is_money { self.event.properties.number(RATE_PROPERTY) } else { None };
        Some(rate.map_or(value, |rate| exact::decimal_product(value, rate)))
    }
}
