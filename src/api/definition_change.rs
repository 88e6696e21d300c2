//! The change that led to a version of a definition, with its author and reason.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::request::page::{PageCursor, PageLimit};
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

/// Query of a page of the versions of one definition.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct DefinitionVersionQuery {
    /// Versions per page.
    #[serde(default)]
    #[param(inline)]
    pub(in crate::api) limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    pub(in crate::api) cursor: Option<PageCursor<i64>>,
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
