//! Rules of the table `[orders]`: which events place, return and cancel an order.

use crate::domain::event::PropertyValue;
use crate::domain::fault::ValidationFault;
use crate::domain::feature::reading::amount::NumberExpression;
use crate::domain::feature::reading::event::{EventReading, NumberProperty};
use crate::domain::feature::reading::filter::{
    EventFilter, NumberUse, PropertyCondition, PropertyType,
};
use crate::domain::feature::sketch;

/// Bits of the hash of an order id: among the 1,000 orders that a ledger keeps, two ids share
/// one with a probability of 2·10⁻⁹.
const HASH_BITS: u32 = 48;

/// The declarations of `[orders]`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) struct OrderRules {
    /// Property with the id of the order.
    pub(in crate::domain::feature) id: Box<str>,
    pub(in crate::domain::feature) value: NumberExpression,
    /// In order of precedence: an event takes the first one that it matches.
    pub(in crate::domain::feature) events: Vec<OrderEventRule>,
    pub(in crate::domain::feature) repeated: RepeatedOrder,
    pub(in crate::domain::feature) unmatched: UnmatchedReturn,
}

/// One item of `placed`, `returned` or `cancelled`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) struct OrderEventRule {
    pub(in crate::domain::feature) filter: EventFilter,
    pub(in crate::domain::feature) conditions: Vec<PropertyCondition>,
    pub(in crate::domain::feature) step: OrderStep,
}

/// What an event does to its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::feature) enum OrderStep {
    Placed,
    Returned,
    Cancelled,
}

/// Meaning of a second `placed` event of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::feature) enum RepeatedOrder {
    /// The newest value replaces earlier ones.
    Replace,
    /// The values are lines of the order, to be added.
    Add,
}

/// Meaning of a return of an order that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::feature) enum UnmatchedReturn {
    /// It has no effect.
    Ignore,
    /// It is taken from an earlier order of the same value, else from the newest earlier ones.
    Newest,
}

impl OrderRules {
    /// Names of the events that place an order.
    pub(in crate::domain::feature) fn placed_event_names(&self) -> impl Iterator<Item = &str> {
        let placed = self.events.iter().filter(|rule| rule.step == OrderStep::Placed);
        placed.filter_map(|rule| rule.filter.name.as_deref())
    }
}

impl OrderStep {
    /// The key in a features file.
    pub(in crate::domain::feature) const fn key(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Returned => "returned",
            Self::Cancelled => "cancelled",
        }
    }
}

impl RepeatedOrder {
    /// The name in a features file.
    pub(in crate::domain::feature) const fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Add => "add",
        }
    }
}

impl UnmatchedReturn {
    /// The name in a features file.
    pub(in crate::domain::feature) const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Newest => "newest",
        }
    }
}

impl OrderRules {
    /// What the event does; `None` if a condition excludes it.
    pub(super) fn step_of(&self, event: EventReading<'_>) -> Option<OrderStep> {
        let rule = self.events.iter().find(|rule| {
            rule.filter.matches(event.event) && rule.conditions.iter().all(|c| c.is_met_by(event))
        })?;
        Some(rule.step)
    }

    /// A warning about an event that places an order without a value.
    pub(in crate::domain::feature) fn missing_value(
        &self,
        event: EventReading<'_>,
    ) -> Option<ValidationFault> {
        let matches = self.events.iter().any(|rule| rule.filter.matches(event.event));
        let is_placed = matches && self.step_of(event) == Some(OrderStep::Placed);
        if !is_placed || self.value.value(event).is_some() {
            return None;
        }
        let names: Vec<&str> = self.value.properties().iter().map(|own| &*own.name).collect();
        let (first, names) = (*names.first()?, names.join(" or "));
        let problem =
            format!("is missing: the order counts without a value, which is read from {names}");
        Some(ValidationFault::new(format!("properties.{first}"), problem))
    }

    /// The order's id. An event without one is an order of its own.
    pub(super) fn order_id<'e>(&self, event: EventReading<'e>) -> Option<&'e PropertyValue> {
        event.get(&self.id).filter(|id| !matches!(id, PropertyValue::Text(text) if text.is_empty()))
    }

    /// Every property that is read, with its required type.
    pub(in crate::domain::feature) fn properties(&self) -> Vec<(&str, PropertyType)> {
        let mut read = vec![(&*self.id, PropertyType::Any)];
        read.extend(self.value.properties().iter().map(number));
        for rule in &self.events {
            read.extend(rule.conditions.iter().map(PropertyCondition::read));
        }
        read
    }
}

/// Hash of an order's id.
pub(super) fn order_hash(id: &PropertyValue) -> u64 {
    sketch::hash(id) >> (u64::BITS - HASH_BITS)
}

fn number(property: &NumberProperty) -> (&str, PropertyType) {
    (&property.name, PropertyType::Number(NumberUse::Summed))
}

/// Whether stored bytes can be the hash of an order id.
pub(super) const fn is_order_hash(hash: u64) -> bool {
    hash >> HASH_BITS == 0
}
