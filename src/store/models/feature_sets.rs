//! Feature sets addressed by content, so that every model's features can be decoded.

use crate::domain::id::FeatureSetId;
use crate::domain::time::Timestamp;
use crate::store::{DatabaseTransaction, StoreError, to_sql};

/// Stores a feature set; an existing one is unchanged.
pub async fn insert(
    tx: &mut DatabaseTransaction,
    id: &FeatureSetId,
    normal_form: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into feature_set (workspace_id, feature_set_id, normal_form, created_at)
         values ($1, $2, $3, $4) on conflict do nothing",
        tx.workspace_id(),
        id.as_str(),
        normal_form,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}
