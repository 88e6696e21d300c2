//! Whose segments go on in the model that is being trained: those of the live one.

use std::sync::Arc;

use crate::domain::model::Model;
use crate::domain::train::lineage::Predecessor;
use crate::service::live::Lineup;
use crate::service::{ServiceError, registry};
use crate::store::{ReadDb, lineage, models};

/// The model that is live, and the keys that any model ever used.
#[derive(Debug)]
pub(super) struct Before {
    model: Arc<Model>,
    keys_used: u64,
}

impl Before {
    /// `None` where nothing is live yet. A live model of other features is one all
    /// the same: what it shares with these may be enough.
    pub(super) async fn of(db: &ReadDb, lineup: &Lineup) -> Result<Option<Self>, ServiceError> {
        let Some(id) = models::lineup(db).await?.active else {
            return Ok(None);
        };
        let keys_used = lineage::keys_used(db).await?;
        let model = match lineup.active.as_ref().filter(|model| *model.id() == id) {
            Some(model) => Arc::clone(model),
            None => Arc::new(registry::open(db, &id).await?),
        };
        Ok(Some(Self { model, keys_used }))
    }

    pub(super) fn as_predecessor(&self) -> Predecessor<'_> {
        Predecessor { model: &self.model, keys_used: self.keys_used }
    }
}
