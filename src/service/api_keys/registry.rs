//! Changes of API keys. Each is announced to all replicas and logged with its author.

use sha2::{Digest, Sha256};

use crate::domain::access::AccessScope;
use crate::domain::access::api_key::{self, ApiKeyRequest};
use crate::domain::secret::SecretValue;
use crate::domain::time::Timestamp;
use crate::service::api_keys::authenticator::KeyAuthenticator;
use crate::service::clock::TimeSource;
use crate::service::{ServiceError, random};
use crate::store::api_keys::{ApiKeyRow, SecretRotation};
use crate::store::{DatabaseHandle, DatabaseTransaction, api_keys};

/// Maximum number of keys that are not revoked. Every replica caches them all.
const MAX_KEYS: i64 = 1000;
/// Number of revoked keys that are stored, so that past changes show the name of their key.
const STORED_REVOKED_KEYS: i64 = 1000;

/// Creates, rotates and revokes keys.
#[derive(Debug)]
pub struct KeyRegistry {
    db: DatabaseHandle,
    clock: TimeSource,
}

/// A key with a new secret, which cannot be read again.
#[derive(Debug)]
pub struct KeyWithSecret {
    pub(crate) row: ApiKeyRow,
    pub key: SecretValue<String>,
}

impl KeyRegistry {
    pub fn new(db: DatabaseHandle, clock: TimeSource) -> Self {
        Self { db, clock }
    }

    /// Creates a key.
    pub async fn create_key(
        &self,
        request: ApiKeyRequest,
        author: &str,
    ) -> Result<KeyWithSecret, ServiceError> {
        let now = self.clock.now();
        let properties = request.validate(now).map_err(ServiceError::Invalid)?;
        let key_id = random::hex_token::<6>()?;
        let key = new_secret(&key_id)?;
        let row = ApiKeyRow {
            key_id,
            name: properties.name,
            secret_hash: hash_of(&key),
            previous_secret: None,
            scopes: properties.scopes.iter().map(ToString::to_string).collect(),
            allowed_origins: properties
                .allowed_origins
                .iter()
                .map(|origin| origin.as_str().to_owned())
                .collect(),
            limits: properties.limits,
            created_at: now,
            expires_at: properties.expires_at,
            rotated_at: None,
            last_used_at: None,
            revoked_at: None,
        };
        // Commits together: the key, the deletion of the keys revoked first, and the
        // announcement to all replicas.
        let mut tx = self.db.begin().await?;
        api_keys::lock(&mut tx).await?;
        if api_keys::count_unrevoked(&mut tx).await? >= MAX_KEYS {
            return Err(ServiceError::Conflict(format!(
                "there are {MAX_KEYS} keys, the maximum: revoke keys that are not used any more"
            )));
        }
        api_keys::insert(&mut tx, &row).await?;
        api_keys::delete_revoked_beyond(&mut tx, STORED_REVOKED_KEYS).await?;
        tx.commit().await?;
        let scopes = row.scopes.join(",");
        tracing::info!(key_id = row.key_id, name = row.name, scopes, author, "API key created");
        Ok(KeyWithSecret { row, key: SecretValue::new(key) })
    }

    /// Gives a key a new secret. The secret before it is accepted for `overlap_seconds` more.
    pub async fn rotate_key(
        &self,
        key_id: &str,
        overlap_seconds: u32,
        author: &str,
    ) -> Result<KeyWithSecret, ServiceError> {
        let overlap_seconds = api_key::check_overlap(overlap_seconds)?;
        let now = self.clock.now();
        let overlap_end = now.plus_millis(i64::from(overlap_seconds) * 1000);
        let key = new_secret(key_id)?;
        let rotation = SecretRotation {
            secret_hash: hash_of(&key),
            previous_ends_at: (overlap_seconds > 0).then_some(overlap_end),
            rotated_at: now,
        };
        // Commits together: the new secret and its announcement.
        let mut tx = self.db.begin_critical().await?;
        api_keys::lock(&mut tx).await?;
        unrevoked_key(&mut tx, key_id).await?;
        api_keys::rotate(&mut tx, key_id, &rotation).await?;
        let row = unrevoked_key(&mut tx, key_id).await?;
        tx.commit().await?;
        tracing::info!(key_id, name = row.name, overlap_seconds, author, "API key rotated");
        Ok(KeyWithSecret { row, key: SecretValue::new(key) })
    }

    /// Revokes a key on a connection reserved for critical writes.
    pub async fn revoke_key(&self, key_id: &str, author: &str) -> Result<(), ServiceError> {
        let mut tx = self.db.begin_critical().await?;
        api_keys::lock(&mut tx).await?;
        self.revoke_in(tx, key_id, author).await
    }

    /// Revokes a key by a request. Refuses the last valid key with the scope `admin`, after
    /// which no request could create another.
    pub(crate) async fn revoke_key_by_request(
        &self,
        key_id: &str,
        author: &str,
    ) -> Result<(), ServiceError> {
        let mut tx = self.db.begin_critical().await?;
        api_keys::lock(&mut tx).await?;
        let row = unrevoked_key(&mut tx, key_id).await?;
        let is_admin = row.scopes.iter().any(|scope| scope == AccessScope::Admin.as_str());
        if is_admin && !api_keys::has_other_admin(&mut tx, key_id, self.clock.now()).await? {
            return Err(ServiceError::Conflict(format!(
                "key `{key_id}` is the last valid key with the scope `admin`: create another one \
                 first, or run `segmentd keys revoke {key_id}`"
            )));
        }
        self.revoke_in(tx, key_id, author).await
    }

    async fn revoke_in(
        &self,
        mut tx: DatabaseTransaction,
        key_id: &str,
        author: &str,
    ) -> Result<(), ServiceError> {
        let row = unrevoked_key(&mut tx, key_id).await?;
        // Commits together: the revocation and its announcement.
        api_keys::revoke(&mut tx, key_id, self.clock.now()).await?;
        tx.commit().await?;
        tracing::info!(key_id, name = row.name, author, "API key revoked");
        Ok(())
    }

    /// Stores the last use of each key that was used in this process since `since`. Returns
    /// the instant for the next call.
    pub async fn store_uses(
        &self,
        authenticator: &KeyAuthenticator,
        since: Timestamp,
    ) -> Result<Timestamp, ServiceError> {
        let now = self.clock.now();
        let uses = authenticator.uses_since(since);
        if !uses.is_empty() {
            // Commits alone: the last uses.
            let mut tx = self.db.begin().await?;
            api_keys::store_uses(&mut tx, &uses).await?;
            tx.commit().await?;
        }
        Ok(now)
    }
}

async fn unrevoked_key(
    tx: &mut DatabaseTransaction,
    key_id: &str,
) -> Result<ApiKeyRow, ServiceError> {
    let row = api_keys::find_in(tx, key_id).await?;
    row.filter(|row| row.revoked_at.is_none())
        .ok_or_else(|| ServiceError::NotFound(format!("valid key `{key_id}`")))
}

fn new_secret(key_id: &str) -> Result<String, ServiceError> {
    Ok(format!("sgm_{key_id}_{}", random::hex_token::<32>()?))
}

fn hash_of(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}
