//! Validation of an event against the feature set: conversion of its properties, and warnings
//! about the parts that are left out.

pub(super) mod convert;
mod unused;
pub(super) mod value_bounds;

use crate::domain::event::properties::MAX_ELEMENTS;
use crate::domain::event::unused::UnusedReason;
use crate::domain::event::{CustomerEvent, EventKind, PropertyValue};
use crate::domain::fault::ValidationFault;
use crate::domain::feature::reading::event::EventReading;
use crate::domain::feature::set::{ARRAY_LENGTH, FeatureSet};
use crate::domain::feature::source::FeatureFold;
use convert::ConversionFault;
use unused::UnreadEvent;

/// A validated event, with the properties that were left out.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedEvent {
    pub event: CustomerEvent,
    pub warnings: Vec<ValidationFault>,
    /// The warning that the event, or a part of it, is not used.
    pub unused: Option<UnusedWarning>,
}

/// A warning that an event is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedWarning {
    pub reason: UnusedReason,
    /// The declared name of an event that was probably meant.
    pub nearest_name: Option<Box<str>>,
    /// Index among the warnings of the event.
    pub index: usize,
}

impl FeatureSet {
    /// Validates an event: converts its properties to the declared types, and drops the
    /// properties that no feature or trait reads.
    ///
    /// A value that cannot be converted without loss is left out with a warning: the rest of the
    /// event counts. An event that nothing reads has a warning too. Only a number that a feature
    /// adds, and that lies beyond the limit, refuses the event. Paths are those of the sender, such as `properties.sales_value` or
    /// `traits.age`. A null or a blank text removes a trait. An `alias` event passes unchanged:
    /// it concerns identity, which no feature set declares.
    pub fn validate_event(
        &self,
        mut event: CustomerEvent,
    ) -> Result<ValidatedEvent, ValidationFault> {
        if event.kind == EventKind::Alias {
            return Ok(ValidatedEvent { event, warnings: Vec::new(), unused: None });
        }
        self.check_array_lengths(&event)?;
        let unused = self.unused_event(&event);
        let mut properties = std::mem::take(&mut event.properties);
        let mut validation = PropertyValidation::new(self, &event);
        for property in properties.take_unreadable() {
            // Features read the elements of an array in place of the array.
            let is_read_by_element =
                self.slot_sources().any(|source| source.each.as_ref() == Some(&property.name));
            if is_read_by_element {
                continue;
            }
            if let Some(expected) = self.expected(&event, &property.name) {
                validation.record(&property.name, convert::unreadable(expected, property.value));
            }
        }
        properties.convert(|name, value| validation.validate(name, value));
        let PropertyValidation { mut warnings, refused, .. } = validation;
        event.properties = properties;
        if let Some(refused) = refused {
            return Err(refused);
        }
        // A declared trait that was left out has its own warning.
        let (unread, mut nearest_name) = match unused.filter(|_| warnings.is_empty()) {
            Some(UnreadEvent { warning, nearest_name }) => (Some(warning), nearest_name),
            None => (None, None),
        };
        let conversion = self.convert_money(&mut event);
        let missing = match conversion {
            // An amount that was left out has its own warning.
            Some(_) => None,
            None => self.missing_order_value(&event).or_else(|| self.missing_amount(&event)),
        };
        let further = [
            (Some(UnusedReason::Unread), unread),
            (None, conversion),
            (Some(UnusedReason::MissingProperty), missing),
        ];
        let mut unused = None;
        for (reason, warning) in further {
            let Some(warning) = warning else { continue };
            // An amount that was left out is also missing: one warning says it.
            if warnings.iter().all(|known| known.path != warning.path) {
                if let Some(reason) = reason {
                    let (nearest_name, index) = (nearest_name.take(), warnings.len());
                    unused = Some(UnusedWarning { reason, nearest_name, index });
                }
                warnings.push(warning);
            }
        }
        Ok(ValidatedEvent { event, warnings, unused })
    }

    /// Refuses an array with more elements than are read, if a feature reads them.
    fn check_array_lengths(&self, event: &CustomerEvent) -> Result<(), ValidationFault> {
        for (name, value) in event.properties.iter() {
            let Some(array) = name.strip_suffix(ARRAY_LENGTH) else { continue };
            let PropertyValue::Number(length) = value else { continue };
            let is_read = *length > MAX_ELEMENTS as f64
                && self.routes_of(event).any(|route| route.reads_elements(array));
            if is_read {
                let problem = format!("must have at most {MAX_ELEMENTS} elements; it has {length}");
                return Err(ValidationFault::new(format!("properties.{array}"), problem));
            }
        }
        Ok(())
    }

    /// Adds the rate of the event's currency to a validated event. Returns warnings: amounts
    /// that are not in the declared currency, and an order without a value.
    pub fn complete_event(&self, event: &mut CustomerEvent) -> Vec<ValidationFault> {
        let conversion = self.convert_money(event);
        let missing = match conversion {
            // An amount that was left out has its own warning.
            Some(_) => None,
            None => self.missing_order_value(event),
        };
        conversion.into_iter().chain(missing).collect()
    }

    /// Adds the rate of the event's currency. The warning: amounts that are not in the declared
    /// currency.
    fn convert_money(&self, event: &mut CustomerEvent) -> Option<ValidationFault> {
        let at = self.zone().at(event.timestamp.millis());
        self.money()?.convert(event, at, self.rates())
    }

    /// A warning about an order without a value.
    fn missing_order_value(&self, event: &CustomerEvent) -> Option<ValidationFault> {
        let at = self.zone().at(event.timestamp.millis());
        match &self.slot_source(self.order_slot()?).fold {
            FeatureFold::Orders { rules, .. } => {
                rules.missing_value(EventReading { event, at, element: None })
            }
            _ => None,
        }
    }
}

/// Validation of one event's properties.
struct PropertyValidation<'v> {
    set: &'v FeatureSet,
    event: &'v CustomerEvent,
    warnings: Vec<ValidationFault>,
    refused: Option<ValidationFault>,
}

impl<'v> PropertyValidation<'v> {
    fn new(set: &'v FeatureSet, event: &'v CustomerEvent) -> Self {
        Self { set, event, warnings: Vec::new(), refused: None }
    }

    /// The value to store; `None` for a property that is dropped.
    fn validate(&mut self, name: &str, value: PropertyValue) -> Option<PropertyValue> {
        let expected = self.set.expected(self.event, name)?;
        let is_trait = self.event.kind == EventKind::Identify;
        match &value {
            PropertyValue::Null => return is_trait.then_some(PropertyValue::Null),
            PropertyValue::Text(text) if is_trait && text.trim().is_empty() => {
                return Some(PropertyValue::Null);
            }
            _ => {}
        }
        convert::convert(expected, value).map_err(|fault| self.record(name, fault)).ok()
    }

    fn record(&mut self, name: &str, fault: ConversionFault) {
        let parent = match self.event.kind {
            EventKind::Identify | EventKind::Group => "traits",
            _ => "properties",
        };
        let path = format!("{parent}.{name}");
        match fault {
            ConversionFault::LeftOut(problem) => {
                self.warnings.push(ValidationFault::new(path, problem));
            }
            ConversionFault::Refused(problem) => {
                self.refused.get_or_insert(ValidationFault::new(path, problem));
            }
        }
    }
}
