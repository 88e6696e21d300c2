//! Number expressions: the number that a fold reads from an event or from an element of an
//! array.

use crate::domain::feature::exact;
use crate::domain::feature::reading::event::{EventReading, NumberProperty};

/// A number of an event: a property, the first of several, or a product of several.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) enum NumberExpression {
    Property(NumberProperty),
    /// The first property that the event has.
    FirstOf(Vec<NumberProperty>),
    /// Missing unless the event has all of them.
    Product(Vec<NumberProperty>),
}

impl NumberExpression {
    pub(in crate::domain::feature) fn properties(&self) -> &[NumberProperty] {
        match self {
            Self::Property(property) => std::slice::from_ref(property),
            Self::FirstOf(properties) | Self::Product(properties) => properties,
        }
    }

    pub(in crate::domain::feature) fn properties_mut(&mut self) -> &mut [NumberProperty] {
        match self {
            Self::Property(property) => std::slice::from_mut(property),
            Self::FirstOf(properties) | Self::Product(properties) => properties,
        }
    }

    /// The value in this event; `None` if a property is missing.
    pub(in crate::domain::feature) fn value(&self, event: EventReading<'_>) -> Option<f64> {
        match self {
            Self::Property(property) => event.amount(property),
            Self::FirstOf(properties) => properties.iter().find_map(|p| event.amount(p)),
            Self::Product(properties) => {
                let mut product = 1.0;
                for property in properties {
                    product = exact::decimal_product(product, event.amount(property)?);
                }
                Some(product)
            }
        }
    }
}
