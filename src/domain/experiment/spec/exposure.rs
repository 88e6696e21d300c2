//! Exposures: the first moment at which a customer meets a variation, reported by an event.

use crate::domain::event::{CustomerEvent, EventKind, PropertyValue};
use crate::domain::fault::ValidationFault;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;

/// Name of the event that reports an exposure, with the properties [`EXPERIMENT_PROPERTY`] and
/// [`VARIATION_PROPERTY`]: "A/B testing" in the Segment tracking spec.
pub const EXPOSURE_EVENT: &str = "Experiment Viewed";
/// Property with the key of the experiment.
pub const EXPERIMENT_PROPERTY: &str = "experiment_id";
/// Property with the key of the variation.
pub const VARIATION_PROPERTY: &str = "variation_id";

/// An exposure as an event reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposureReport {
    /// As sent.
    pub customer: CustomerKey,
    pub experiment: String,
    pub variation: String,
    pub exposed_at: Timestamp,
}

impl ExposureReport {
    /// Reads the exposure that an event reports. `None` for an event of another name; a fault if a
    /// property is missing.
    pub fn from_event(event: &CustomerEvent) -> Option<Result<Self, ValidationFault>> {
        if event.kind != EventKind::Track || *event.name != *EXPOSURE_EVENT {
            return None;
        }
        Some(Self::read(event))
    }

    fn read(event: &CustomerEvent) -> Result<Self, ValidationFault> {
        Ok(Self {
            customer: event.customer.clone(),
            experiment: key_property(event, EXPERIMENT_PROPERTY, "experiment")?,
            variation: key_property(event, VARIATION_PROPERTY, "variation")?,
            exposed_at: event.timestamp,
        })
    }
}

/// The key in a property. Numbers are accepted, because applications number variations.
fn key_property(event: &CustomerEvent, name: &str, noun: &str) -> Result<String, ValidationFault> {
    match event.properties.get(name) {
        Some(PropertyValue::Text(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Some(PropertyValue::Number(number)) => Ok(number.to_string()),
        _ => {
            let problem = format!(
                "is missing: `{EXPOSURE_EVENT}` needs the key of the {noun}; the exposure is not \
                 counted"
            );
            Err(ValidationFault::new(format!("properties.{name}"), problem))
        }
    }
}
