//! Record of the properties that a feature set stores: a feature over a property that was
//! dropped before is missing for that time.

use crate::domain::feature::{FeatureSet, StoredProperty};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::store::models::stored_properties;
use crate::store::{DatabaseHandle, StoreError};

/// The set with the properties that are stored since a known instant, for work beside the server.
pub(crate) async fn load(
    db: &DatabaseHandle,
    features: FeatureSet,
    now: Timestamp,
) -> Result<FeatureSet, StoreError> {
    let before = stored_properties::list(db.read()).await?;
    let stored = features.stored_properties(&before, now);
    Ok(features.with_stored_properties(stored))
}

/// Like [`load`], for a server: records that this set stores its properties from now on.
pub(crate) async fn register(
    db: &DatabaseHandle,
    features: FeatureSet,
    now: Timestamp,
) -> Result<FeatureSet, ServiceError> {
    // Commits together: the end of the storage of properties that only the earlier set read,
    // and the begin of the storage of new ones.
    let mut tx = db.begin().await?;
    let before = stored_properties::lock_and_list(&mut tx).await?;
    let stored = features.stored_properties(&before, now);
    if !is_same(&before, &stored) {
        stored_properties::replace(&mut tx, &stored).await?;
    }
    tx.commit().await?;
    Ok(features.with_stored_properties(stored))
}

fn is_same(before: &[StoredProperty], stored: &[StoredProperty]) -> bool {
    before.len() == stored.len() && stored.iter().all(|property| before.contains(property))
}
