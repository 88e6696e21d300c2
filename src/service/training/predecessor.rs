//! Whose segments go on in the model that is being trained: those of the live one.

use crate::domain::model::Model;
use crate::domain::train::lineage::Predecessor;
use crate::service::ServiceError;
use crate::service::models::registry;
use crate::store::models::lineage;
use crate::store::{ReadDb, models};

/// A model, and the keys that any model ever used.
#[derive(Debug)]
pub struct Before {
    model: Model,
    keys_used: u64,
}

impl Before {
    /// What is live; `None` before anything is. A live model of other features is
    /// one all the same: what it shares with these may be enough.
    pub async fn of(db: &ReadDb) -> Result<Option<Self>, ServiceError> {
        let Some(id) = models::lineup(db).await?.active else {
            return Ok(None);
        };
        let keys_used = lineage::keys_used(db).await?;
        Ok(Some(Self { model: registry::open(db, &id).await?, keys_used }))
    }

    /// A model by itself, of which no candidates are known.
    pub fn alone(model: Model) -> Self {
        Self { keys_used: model.keys_used(), model }
    }

    pub(super) fn as_predecessor(&self) -> Predecessor<'_> {
        Predecessor { model: &self.model, keys_used: self.keys_used }
    }
}
