//! Money: which properties are amounts, and their conversion to one currency.

use crate::domain::event::{CustomerEvent, Properties, PropertyValue, elements};
use crate::domain::fault::ValidationFault;
use crate::domain::feature::orders::rules::OrderRules;
use crate::domain::feature::reading::amount::NumberExpression;
use crate::domain::feature::reading::event::RATE_PROPERTY;
use crate::domain::feature::reading::filter::{PropertyCondition, PropertyTest};
use crate::domain::feature::reading::rates::RateTable;
use crate::domain::feature::source::{EventFeatureSource, FeatureFold};
use crate::domain::feature::zone::LocalInstant;

/// The declarations of `[money]`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) struct MoneyRules {
    /// Currency of every feature of money.
    pub(in crate::domain::feature) currency: Box<str>,
    /// Property with the currency of an event; an event without it is in `currency`.
    pub(in crate::domain::feature) property: Option<Box<str>>,
    /// Properties that are amounts of money.
    pub(in crate::domain::feature) properties: Vec<Box<str>>,
    /// File with rates by date; without it, amounts are read as they are.
    pub(in crate::domain::feature) rates_file: Option<Box<str>>,
}

impl MoneyRules {
    /// Marks the numbers of a source that are money.
    pub(in crate::domain::feature) fn mark(&self, source: &mut EventFeatureSource) {
        for expression in source.expressions_mut() {
            self.mark_expression(expression);
        }
        if let FeatureFold::First { property, is_money, .. }
        | FeatureFold::Last { property, is_money, .. } = &mut source.fold
        {
            *is_money = self.is_money(property);
        }
        self.mark_conditions(&mut source.conditions);
    }

    /// Marks the numbers of orders that are money.
    pub(in crate::domain::feature) fn mark_orders(&self, rules: &mut OrderRules) {
        self.mark_expression(&mut rules.value);
        for rule in &mut rules.events {
            self.mark_conditions(&mut rule.conditions);
        }
    }

    fn mark_expression(&self, expression: &mut NumberExpression) {
        for property in expression.properties_mut() {
            property.is_money = self.is_money(&property.name);
        }
    }

    fn mark_conditions(&self, conditions: &mut [PropertyCondition]) {
        for condition in conditions {
            if let PropertyTest::Within { is_money, .. } = &mut condition.test {
                *is_money = self.is_money(&condition.property);
            }
        }
    }

    /// Whether a property, named without an index, is an amount of money.
    pub(in crate::domain::feature) fn is_money(&self, name: &str) -> bool {
        self.properties.iter().any(|own| **own == *name)
    }

    /// Adds the rate of an event's currency to its properties. Without a rate for the currency,
    /// removes the amounts. Returns a warning if the amounts are not in the declared currency.
    pub(in crate::domain::feature) fn convert(
        &self,
        event: &mut CustomerEvent,
        at: LocalInstant,
        rates: &RateTable,
    ) -> Option<ValidationFault> {
        let property = self.property.as_deref()?;
        let currency = match event.properties.get(property)? {
            PropertyValue::Text(code) => code.trim().to_ascii_uppercase(),
            _ => return None,
        };
        if currency.is_empty() || currency == *self.currency || !self.has_money(&event.properties) {
            return None;
        }
        let own = &self.currency;
        let problem = match (rates.rate(&currency, at.day), &self.rates_file) {
            (Some(rate), _) => {
                event.properties.set(RATE_PROPERTY, PropertyValue::Number(rate));
                return None;
            }
            (None, None) => format!(
                "is `{currency}`, but amounts are read as {own}: declare `rates` in `[money]` to \
                 convert them"
            ),
            (None, Some(file)) => {
                event.properties.retain(|name| !self.is_money(&generic_name(name)));
                format!(
                    "is `{currency}`, for which {file} has no rate on or before the day of the \
                     event: its amounts are left out"
                )
            }
        };
        Some(ValidationFault::new(format!("properties.{property}"), problem))
    }

    fn has_money(&self, properties: &Properties) -> bool {
        properties.iter().any(|(name, _)| self.is_money(&generic_name(name)))
    }
}

fn generic_name(name: &str) -> String {
    elements::without_index(name).map_or_else(|| name.to_owned(), |(_, generic)| generic)
}
