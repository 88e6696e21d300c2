//! The change that led to a version of a definition, with its author and reason.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyAuthenticator;

/// A change of a definition, with its author and reason.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DefinitionChangeBody {
    /// Number of the change, ascending over all definitions of the same kind.
    #[schema(example = 12)]
    version: i64,
    /// Time of the change.
    changed_at: Timestamp,
    /// Author: `key ` and the id of an API key.
    #[schema(example = "key 0050e0c5c045")]
    changed_by: String,
    /// Name of the API key of the author; null if the key is unknown.
    #[schema(example = "marketing")]
    changed_by_name: Option<String>,
    /// Reason given by the author.
    #[schema(example = "Agreed in the spring workshop")]
    reason: String,
}

/// A stored change.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct StoredChange<'a> {
    pub(in crate::api) version: i64,
    pub(in crate::api) changed_at: Timestamp,
    pub(in crate::api) changed_by: &'a str,
    pub(in crate::api) reason: &'a str,
}

impl DefinitionChangeBody {
    pub(in crate::api) fn new(stored: StoredChange<'_>, keys: &KeyAuthenticator) -> Self {
        Self {
            version: stored.version,
            changed_at: stored.changed_at,
            changed_by: stored.changed_by.to_owned(),
            changed_by_name: keys.name_of_author(stored.changed_by),
            reason: stored.reason.to_owned(),
        }
    }
}
