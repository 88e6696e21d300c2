//! The predecessor of a training run: the active model, from which segments inherit their ids.

use crate::domain::model::Model;
use crate::service::ServiceError;
use crate::service::models::registry;
use crate::store::{ReadOnlyDatabase, models};

/// Loads the active model; `None` before the first one. A model of another feature set is a
/// predecessor too: the shared features may suffice to match segments.
pub(crate) async fn load_active(db: &ReadOnlyDatabase) -> Result<Option<Model>, ServiceError> {
    match models::current_deployment(db).await?.active {
        None => Ok(None),
        Some(id) => Ok(Some(registry::open_model(db, &id).await?)),
    }
}
