//! Exposures: the first moment at which a customer sees a variation, reported by an event.

use crate::domain::event::{CustomerEvent, EventKind, PropertyValue};
use crate::domain::fault::ValidationFault;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;

/// Name of the event that reports an exposure: "A/B testing" in the Segment tracking spec.
pub const EXPOSURE_EVENT: &str = "Experiment Viewed";
/// Properties with the key of the experiment: that of the spec, and that of the examples of
/// `GrowthBook`.
const EXPERIMENT_PROPERTIES: [&str; 2] = ["experiment_id", "experimentId"];
/// Properties with the key of the variation, likewise.
const VARIATION_PROPERTIES: [&str; 2] = ["variation_id", "variationId"];

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
            experiment: key_property(event, EXPERIMENT_PROPERTIES, "experiment")?,
            variation: key_property(event, VARIATION_PROPERTIES, "variation")?,
            exposed_at: event.timestamp,
        })
    }
}

/// The key in one of two properties. Numbers are accepted, because applications number variations.
fn key_property(
    event: &CustomerEvent,
    names: [&str; 2],
    noun: &str,
) -> Result<String, ValidationFault> {
    let found = names.into_iter().find_map(|name| event.properties.get(name));
    match found {
        Some(PropertyValue::Text(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Some(PropertyValue::Number(number)) => Ok(number.to_string()),
        _ => {
            let problem = format!(
                "is missing: `{EXPOSURE_EVENT}` needs the key of the {noun}; the exposure is not \
                 counted"
            );
            Err(ValidationFault::new(format!("properties.{}", names[0]), problem))
        }
    }
}
