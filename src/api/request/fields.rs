//! Objects with optional fields: every faulty field is reported at once.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::ApiError;
use crate::api::json_fault::json_fault;
use crate::api::request::parse_json;
use crate::api::request::strict_objects::StrictObjects;
use crate::domain::fault::ValidationFaults;
use crate::service::ServiceError;

/// Deserialises a JSON object of which every field is optional; the default value for an empty
/// body. The error has the first fault of each field, with its path.
pub(crate) fn parse_fields<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let fields: Map<String, Value> = parse_json(body)?;
    let mut faults = ValidationFaults::default();
    for (name, value) in &fields {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(StrictObjects(alone)) {
            faults.push(json_fault(&error.path().to_string(), error.inner()));
        }
    }
    if !faults.is_empty() {
        return Err(ServiceError::Invalid(faults).into());
    }
    T::deserialize(StrictObjects(Value::from(fields))).map_err(|error| ApiError::from_json(&error))
}
