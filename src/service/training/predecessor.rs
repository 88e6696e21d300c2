//! The predecessor of a training run: the active model, from which segments inherit their ids.

use crate::domain::model::Model;
use crate::domain::train::lineage::Predecessor;
use crate::service::ServiceError;
use crate::service::models::registry;
use crate::store::models::lineage;
use crate::store::{ReadOnlyDatabase, models};

/// A model and the number of segment keys ever used.
#[derive(Debug)]
pub(crate) struct PredecessorModel {
    model: Model,
    keys_used: u64,
}

impl PredecessorModel {
    /// Loads the active model; `None` before the first one. A model of another feature set is a
    /// predecessor too: the shared features may suffice to match segments.
    pub(crate) async fn load_active(db: &ReadOnlyDatabase) -> Result<Option<Self>, ServiceError> {
        let Some(id) = models::current_deployment(db).await?.active else {
            return Ok(None);
        };
        let keys_used = lineage::greatest_key_number(db).await?;
        Ok(Some(Self { model: registry::open_model(db, &id).await?, keys_used }))
    }

    /// A model on its own, without knowledge of other candidates' keys.
    pub(crate) fn from_model(model: Model) -> Self {
        Self { keys_used: model.keys_used(), model }
    }

    pub(super) fn as_predecessor(&self) -> Predecessor<'_> {
        Predecessor { model: &self.model, highest_key: self.keys_used }
    }
}
