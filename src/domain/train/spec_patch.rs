//! A spec as people write one: only what differs from the configured one.

use serde_json::{Map, Value};

use crate::domain::fault::{Fault, Faults};
use crate::domain::train::TrainSpec;

impl TrainSpec {
    /// This spec with some settings replaced. Every one that does not exist or
    /// is not of its kind is refused, at once; ranges are [`TrainSpec::check`]'s.
    pub fn over(self, changes: Map<String, Value>) -> Result<Self, Faults> {
        let Ok(Value::Object(mut whole)) = serde_json::to_value(&self) else {
            return Err(Faults::one("spec", "the configured one is not an object"));
        };
        let mut faults = Faults::default();
        for (name, value) in changes {
            let before = whole.insert(name.clone(), value);
            if let Err(error) = serde_json::from_value::<Self>(Value::Object(whole.clone())) {
                faults.push(Fault::new(name.clone(), error.to_string()));
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
            .map_err(|error| Faults::one("spec", error.to_string()))
    }
}
