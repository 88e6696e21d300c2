//! API keys, identified by the SHA-256 of their secret.

use chrono::{DateTime, Utc};

use crate::domain::access::api_key::KeyRateLimits;
use crate::domain::time::Timestamp;
use crate::store::database::connect::ChangeTopic;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct ApiKeyRow {
    pub key_id: String,
    pub name: String,
    pub secret_hash: Vec<u8>,
    /// The secret before the last rotation.
    pub previous_secret: Option<PreviousSecret>,
    pub scopes: Vec<String>,
    /// Empty: all.
    pub allowed_origins: Vec<String>,
    pub limits: KeyRateLimits,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub rotated_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// A replaced secret, accepted until the end of the overlap.
#[derive(Debug, Clone)]
pub(crate) struct PreviousSecret {
    pub hash: Vec<u8>,
    pub ends_at: Timestamp,
}

/// A rotation of a secret.
#[derive(Debug, Clone)]
pub(crate) struct SecretRotation {
    pub secret_hash: Vec<u8>,
    /// End of the overlap; `None`: the present secret is not accepted any more.
    pub previous_ends_at: Option<Timestamp>,
    pub rotated_at: Timestamp,
}

/// The last use of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyUse {
    pub key_id: String,
    pub used_at: Timestamp,
}

/// Query of one key.
macro_rules! find_query {
    ($workspace:expr, $key_id:expr) => {
        sqlx::query_as!(
            StoredKey,
            "select key_id, name, secret_hash, previous_secret_hash, previous_secret_ends_at,
                 scopes, allowed_origins, requests_per_second, events_per_second,
                 expensive_requests_per_minute, created_at, expires_at, rotated_at, last_used_at,
                 revoked_at
             from api_key where workspace_id = $1 and key_id = $2",
            $workspace,
            $key_id,
        )
    };
}

/// A row as Postgres has it.
struct StoredKey {
    key_id: String,
    name: String,
    secret_hash: Vec<u8>,
    previous_secret_hash: Option<Vec<u8>>,
    previous_secret_ends_at: Option<DateTime<Utc>>,
    scopes: Vec<String>,
    allowed_origins: Vec<String>,
    requests_per_second: Option<i32>,
    events_per_second: Option<i32>,
    expensive_requests_per_minute: Option<i32>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    rotated_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<StoredKey> for ApiKeyRow {
    fn from(row: StoredKey) -> Self {
        let previous = row.previous_secret_hash.zip(row.previous_secret_ends_at);
        let limit = |stored: Option<i32>| stored.map(|limit| u32::try_from(limit).unwrap_or(0));
        Self {
            key_id: row.key_id,
            name: row.name,
            secret_hash: row.secret_hash,
            previous_secret: previous
                .map(|(hash, ends_at)| PreviousSecret { hash, ends_at: from_sql(ends_at) }),
            scopes: row.scopes,
            allowed_origins: row.allowed_origins,
            limits: KeyRateLimits {
                requests_per_second: limit(row.requests_per_second),
                events_per_second: limit(row.events_per_second),
                expensive_requests_per_minute: limit(row.expensive_requests_per_minute),
            },
            created_at: from_sql(row.created_at),
            expires_at: row.expires_at.map(from_sql),
            rotated_at: row.rotated_at.map(from_sql),
            last_used_at: row.last_used_at.map(from_sql),
            revoked_at: row.revoked_at.map(from_sql),
        }
    }
}

/// Serialises changes of keys until the end of the transaction: their number and the last key
/// with a scope are checked before a change.
pub(crate) async fn lock(tx: &mut DatabaseTransaction) -> Result<(), StoreError> {
    sqlx::query!(
        "select workspace_id from workspace where workspace_id = $1 for no key update",
        tx.workspace_id(),
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(())
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    key: &ApiKeyRow,
) -> Result<(), StoreError> {
    let limit = |limit: Option<u32>| limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
    sqlx::query!(
        "insert into api_key
             (workspace_id, key_id, name, secret_hash, scopes, allowed_origins,
              requests_per_second, events_per_second, expensive_requests_per_minute, created_at,
              expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        tx.workspace_id(),
        key.key_id,
        key.name,
        key.secret_hash,
        &key.scopes,
        &key.allowed_origins,
        limit(key.limits.requests_per_second),
        limit(key.limits.events_per_second),
        limit(key.limits.expensive_requests_per_minute),
        to_sql(key.created_at),
        key.expires_at.map(to_sql),
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_replicas(ChangeTopic::ApiKeys).await
}

/// Replaces the secret of a key.
pub(crate) async fn rotate(
    tx: &mut DatabaseTransaction,
    key_id: &str,
    rotation: &SecretRotation,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update api_key
         set previous_secret_hash = case when $4::timestamptz is null then null
                                         else secret_hash end,
             previous_secret_ends_at = $4, secret_hash = $3, rotated_at = $5
         where workspace_id = $1 and key_id = $2",
        tx.workspace_id(),
        key_id,
        rotation.secret_hash,
        rotation.previous_ends_at.map(to_sql),
        to_sql(rotation.rotated_at),
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_replicas(ChangeTopic::ApiKeys).await
}

/// Revokes a key.
pub(crate) async fn revoke(
    tx: &mut DatabaseTransaction,
    key_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update api_key set revoked_at = $3
         where workspace_id = $1 and key_id = $2 and revoked_at is null",
        tx.workspace_id(),
        key_id,
        to_sql(now)
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_replicas(ChangeTopic::ApiKeys).await
}

/// Number of keys that are not revoked; expired ones count.
pub(crate) async fn count_unrevoked(tx: &mut DatabaseTransaction) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from api_key
           where workspace_id = $1 and revoked_at is null"#,
        tx.workspace_id(),
    );
    Ok(count.fetch_one(&mut *tx.inner).await?)
}

/// Whether another key with the scope `admin` is valid.
pub(crate) async fn has_other_admin(
    tx: &mut DatabaseTransaction,
    key_id: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let exists = sqlx::query_scalar!(
        r#"select exists (
               select from api_key
               where workspace_id = $1 and key_id <> $2 and revoked_at is null
                   and (expires_at is null or expires_at > $3) and 'admin' = any (scopes)
           ) as "exists!""#,
        tx.workspace_id(),
        key_id,
        to_sql(now),
    );
    Ok(exists.fetch_one(&mut *tx.inner).await?)
}

/// Deletes the keys that were revoked first, beyond the last `stored` revoked ones.
pub(crate) async fn delete_revoked_beyond(
    tx: &mut DatabaseTransaction,
    stored: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from api_key where workspace_id = $1 and key_id in (
             select key_id from api_key where workspace_id = $1 and revoked_at is not null
             order by revoked_at desc, key_id offset $2)",
        tx.workspace_id(),
        stored,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Stores the last use of each key. Replicas store theirs in any order.
pub(crate) async fn store_uses(
    tx: &mut DatabaseTransaction,
    uses: &[KeyUse],
) -> Result<(), StoreError> {
    let key_ids: Vec<&str> = uses.iter().map(|used| &*used.key_id).collect();
    let instants: Vec<DateTime<Utc>> = uses.iter().map(|used| to_sql(used.used_at)).collect();
    sqlx::query!(
        "update api_key set last_used_at = greatest(last_used_at, used.at)
         from unnest($2::text[], $3::timestamptz[]) as used (key_id, at)
         where workspace_id = $1 and api_key.key_id = used.key_id",
        tx.workspace_id(),
        &key_ids as &[&str],
        &instants,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Every stored key, oldest first.
pub(crate) async fn list(db: &ReadOnlyDatabase) -> Result<Vec<ApiKeyRow>, StoreError> {
    let rows = sqlx::query_as!(
        StoredKey,
        "select key_id, name, secret_hash, previous_secret_hash, previous_secret_ends_at, scopes,
             allowed_origins, requests_per_second, events_per_second,
             expensive_requests_per_minute, created_at, expires_at, rotated_at, last_used_at,
             revoked_at
         from api_key where workspace_id = $1 order by created_at, key_id",
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A page of API keys, newest first.
#[derive(Debug, Clone)]
pub(crate) struct KeyPage {
    pub(crate) is_with_revoked: bool,
    /// Sort key of the last key on the previous page.
    pub(crate) after: Option<(Timestamp, String)>,
    pub(crate) limit: i64,
}

pub(crate) async fn list_page(
    db: &ReadOnlyDatabase,
    page: &KeyPage,
) -> Result<Vec<ApiKeyRow>, StoreError> {
    let (created_at, key_id) = page.after.as_ref().map(|(at, id)| (to_sql(*at), &**id)).unzip();
    let rows = sqlx::query_as!(
        StoredKey,
        "select key_id, name, secret_hash, previous_secret_hash, previous_secret_ends_at, scopes,
             allowed_origins, requests_per_second, events_per_second,
             expensive_requests_per_minute, created_at, expires_at, rotated_at, last_used_at,
             revoked_at
         from api_key
         where workspace_id = $1 and ($2 or revoked_at is null)
             and ($3::timestamptz is null or (created_at, key_id) < ($3, $4))
         order by created_at desc, key_id desc limit $5",
        db.workspace_id(),
        page.is_with_revoked,
        created_at,
        key_id,
        page.limit,
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

pub(crate) async fn find(
    db: &ReadOnlyDatabase,
    key_id: &str,
) -> Result<Option<ApiKeyRow>, StoreError> {
    let row = find_query!(db.workspace_id(), key_id).fetch_optional(&db.pool).await?;
    Ok(row.map(Into::into))
}

/// As [`find`], in a transaction.
pub(crate) async fn find_in(
    tx: &mut DatabaseTransaction,
    key_id: &str,
) -> Result<Option<ApiKeyRow>, StoreError> {
    let row = find_query!(tx.workspace_id(), key_id).fetch_optional(&mut *tx.inner).await?;
    Ok(row.map(Into::into))
}
