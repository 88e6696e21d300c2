//! API keys, identified by the SHA-256 of their secret.

use crate::domain::time::Timestamp;
use crate::store::database::connect::ChangeTopic;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct ApiKeyRow {
    pub key_id: String,
    pub name: String,
    pub secret_hash: Vec<u8>,
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    key: &ApiKeyRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into api_key (workspace_id, key_id, name, secret_hash, scopes, created_at)
         values ($1, $2, $3, $4, $5, $6)",
        tx.workspace_id(),
        key.key_id,
        key.name,
        key.secret_hash,
        &key.scopes,
        to_sql(key.created_at),
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_replicas(ChangeTopic::ApiKeys).await
}

/// Revokes a key; false if no such key exists or it is already revoked.
pub(crate) async fn revoke(
    tx: &mut DatabaseTransaction,
    key_id: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let revoked = sqlx::query!(
        "update api_key set revoked_at = $3
         where workspace_id = $1 and key_id = $2 and revoked_at is null",
        tx.workspace_id(),
        key_id,
        to_sql(now)
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    tx.notify_replicas(ChangeTopic::ApiKeys).await?;
    Ok(revoked == 1)
}

pub(crate) async fn list(db: &ReadOnlyDatabase) -> Result<Vec<ApiKeyRow>, StoreError> {
    let rows = sqlx::query!(
        "select key_id, name, secret_hash, scopes, created_at, revoked_at
         from api_key where workspace_id = $1 order by created_at, key_id",
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ApiKeyRow {
            key_id: row.key_id,
            name: row.name,
            secret_hash: row.secret_hash,
            scopes: row.scopes,
            created_at: from_sql(row.created_at),
            revoked_at: row.revoked_at.map(from_sql),
        })
        .collect())
}
