//! Partial training spec: only the settings that differ from the configured spec.

use serde_json::{Map, Value};

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::train::TrainingSpec;

impl TrainingSpec {
    /// This spec with some settings replaced. The error lists every unknown setting and every
    /// setting of the wrong type; ranges are checked by [`TrainingSpec::check`].
    pub(crate) fn with_changes(
        self,
        changes: Map<String, Value>,
    ) -> Result<Self, ValidationFaults> {
        let Ok(Value::Object(mut whole)) = serde_json::to_value(&self) else {
            return Err(ValidationFaults::single(
                "spec",
                "the configured training spec is not a JSON object",
            ));
        };
        let mut faults = ValidationFaults::default();
        for (name, value) in changes {
            let before = whole.insert(name.clone(), value);
            // Each change is tried alone on a valid spec, and undone when it fails, so one bad
            // setting does not hide the faults of the others.
            if let Err(error) = serde_json::from_value::<Self>(Value::Object(whole.clone())) {
                faults.push(ValidationFault::new(name.clone(), error.to_string()));
                match before {
                    Some(before) => whole.insert(name, before),
                    None => whole.remove(&name),
                };
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        serde_json::from_value(Value::Object(whole))
            .map_err(|error| ValidationFaults::single("spec", error.to_string()))
    }
}
