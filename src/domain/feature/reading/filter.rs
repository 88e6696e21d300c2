//! Filters and conditions: which events a fold reads, and the types of their properties.

use crate::domain::event::{CustomerEvent, EventKind, PropertyValue};
use crate::domain::feature::define::ValueType;
use crate::domain::feature::reading::event::EventReading;

/// Event filter by type and name. Without a type, it matches all behavioural events; without a
/// name, all names. It never matches `identify` and `alias` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::domain::feature) struct EventFilter {
    pub(in crate::domain::feature) kind: Option<EventKind>,
    pub(in crate::domain::feature) name: Option<Box<str>>,
}

impl EventFilter {
    pub(in crate::domain::feature) fn matches(&self, event: &CustomerEvent) -> bool {
        self.kind.map_or(event.kind.is_behaviour(), |kind| kind == event.kind)
            && self.name.as_ref().is_none_or(|name| *name == event.name)
    }

    /// Whether each event that matches `other` matches this filter too.
    pub(in crate::domain::feature) fn covers(&self, other: &Self) -> bool {
        let covers_kind = match (self.kind, other.kind) {
            (Some(own), other) => Some(own) == other,
            (None, Some(kind)) => kind.is_behaviour(),
            (None, None) => true,
        };
        covers_kind && (self.name.is_none() || self.name == other.name)
    }

    /// Whether one event can match both filters.
    pub(in crate::domain::feature) fn overlaps(&self, other: &Self) -> bool {
        let kinds = match (self.kind, other.kind) {
            (Some(a), Some(b)) => a == b,
            (Some(kind), None) | (None, Some(kind)) => kind.is_behaviour(),
            (None, None) => true,
        };
        kinds && (self.name.is_none() || other.name.is_none() || self.name == other.name)
    }
}

/// A condition on one property.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) struct PropertyCondition {
    pub(in crate::domain::feature) property: Box<str>,
    /// Not passed by an event without the property.
    pub(in crate::domain::feature) test: PropertyTest,
    /// Met by the events that do not pass the test.
    pub(in crate::domain::feature) is_negated: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) enum PropertyTest {
    /// Equality with any of the values, all of one type.
    OneOf(Vec<PropertyValue>),
    /// A number within a range, in the currency of the feature set if it is money.
    Within { range: NumberRange, is_money: bool },
    /// Any value but a blank text.
    Exists,
}

/// A range of numbers, open where a bound is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::domain::feature) struct NumberRange {
    pub(in crate::domain::feature) above: Option<f64>,
    pub(in crate::domain::feature) at_least: Option<f64>,
    pub(in crate::domain::feature) below: Option<f64>,
    pub(in crate::domain::feature) at_most: Option<f64>,
}

impl NumberRange {
    /// The finite ends of the range.
    pub(in crate::domain::feature) fn bounds(&self) -> impl Iterator<Item = f64> {
        [self.above, self.at_least, self.below, self.at_most].into_iter().flatten()
    }

    fn contains(&self, number: f64) -> bool {
        self.above.is_none_or(|above| number > above)
            && self.at_least.is_none_or(|least| number >= least)
            && self.below.is_none_or(|below| number < below)
            && self.at_most.is_none_or(|most| number <= most)
    }

    fn excludes_negative(&self) -> bool {
        self.above.is_some_and(|above| above >= 0.0)
            || self.at_least.is_some_and(|least| least >= 0.0)
    }
}

impl PropertyCondition {
    pub(in crate::domain::feature) fn is_met_by(&self, event: EventReading<'_>) -> bool {
        let is_passed = match &self.test {
            PropertyTest::OneOf(values) => {
                event.get(&self.property).is_some_and(|value| values.contains(value))
            }
            PropertyTest::Within { range, is_money } => {
                event.number(&self.property, *is_money).is_some_and(|number| range.contains(number))
            }
            PropertyTest::Exists => match event.get(&self.property) {
                Some(PropertyValue::Text(text)) => !text.trim().is_empty(),
                value => value.is_some(),
            },
        };
        is_passed != self.is_negated
    }

    /// The property read, with its required type.
    pub(in crate::domain::feature) fn read(&self) -> (&str, PropertyType) {
        let of = match &self.test {
            PropertyTest::OneOf(values) => {
                values.first().map_or(PropertyType::Any, PropertyType::of_scalar)
            }
            PropertyTest::Within { .. } => PropertyType::Number(NumberUse::Compared),
            PropertyTest::Exists => PropertyType::Any,
        };
        (&self.property, of)
    }

    pub(in crate::domain::feature) fn excludes_negative(&self, property: &str) -> bool {
        matches!(&self.test, PropertyTest::Within { range, .. } if range.excludes_negative())
            && !self.is_negated
            && *self.property == *property
    }
}

/// What features do with a number, from the least demanding use to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::domain::feature) enum NumberUse {
    /// Compared with others only: any number, such as an id or an instant.
    Compared,
    /// The value of a feature: limited, so that models can square it.
    Shown,
    /// Added: limited, so that sums cannot saturate.
    Summed,
}

/// The type that features require of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::feature) enum PropertyType {
    Number(NumberUse),
    Text,
    Bool,
    /// Any of the three types; used by the fold distinct.
    Any,
}

impl PropertyType {
    pub(in crate::domain::feature) const fn of_scalar(scalar: &PropertyValue) -> Self {
        match scalar {
            PropertyValue::Number(_) | PropertyValue::Integer(_) => {
                Self::Number(NumberUse::Compared)
            }
            PropertyValue::Text(_) => Self::Text,
            PropertyValue::Bool(_) => Self::Bool,
            PropertyValue::Null => Self::Any,
        }
    }

    /// Noun with article, for fault texts.
    pub(in crate::domain::feature) const fn noun(self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Text => "a text",
            Self::Bool => "true or false",
            Self::Any => "a number, a text, true or false",
        }
    }

    /// The type that satisfies both readers, if one exists.
    pub(in crate::domain::feature) fn common(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, t) | (t, Self::Any) => Some(t),
            (Self::Number(a), Self::Number(b)) => Some(Self::Number(a.max(b))),
            (a, b) if a == b => Some(a),
            _ => None,
        }
    }
}

impl From<ValueType> for PropertyType {
    fn from(kind: ValueType) -> Self {
        match kind {
            ValueType::Number => Self::Number(NumberUse::Shown),
            ValueType::Text => Self::Text,
        }
    }
}
