//! Secrets: values that never appear in a log, even if a containing struct is printed.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A secret value. It prints as `***`, and is serialised only by a field that names
/// `serialize_secret`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretValue<T>(T);

impl<T> SecretValue<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value, for the code that uses it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for SecretValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for SecretValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Serialises the value itself, for a stored field.
pub(crate) fn serialize_secret<T: Serialize, S: Serializer>(
    secret: &SecretValue<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.0.serialize(serializer)
}

/// Serialises several values, as [`serialize_secret()`] does.
pub(crate) fn serialize_secrets<T: Serialize, S: Serializer>(
    secrets: &[SecretValue<T>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(SecretValue::expose))
}
