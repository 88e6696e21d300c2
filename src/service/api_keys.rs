//! API keys: create, revoke, and authenticate without a database query.
//!
//! Every replica caches all valid keys by hash and reloads them when one changes, so a request
//! is authenticated in memory, also while Postgres is unavailable. A key is
//! `sgm_<id>_<secret>`. Its secret has 256 random bits, so plain SHA-256 suffices for storage:
//! there is nothing to guess, and key stretching would add nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};

use crate::domain::access::{AccessScope, Principal};
use crate::domain::fault::ValidationFaults;
use crate::domain::text;
use crate::service::clock::TimeSource;
use crate::service::{ServiceError, random};
use crate::store::api_keys::ApiKeyRow;
use crate::store::{DatabaseHandle, ReadOnlyDatabase, api_keys};

type KeysByHash = HashMap<[u8; 32], Arc<Principal>>;

/// In-memory authentication of API keys.
#[derive(Debug)]
pub struct KeyAuthenticator {
    /// `None` until the keys have been loaded once.
    keys: ArcSwapOption<KeysByHash>,
    db: ReadOnlyDatabase,
}

/// Reason why a request is not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationFailure {
    /// The keys have not been loaded yet: not the caller's fault.
    NotReady,
    UnknownKey,
}

impl KeyAuthenticator {
    pub fn new(db: ReadOnlyDatabase) -> Self {
        Self { keys: ArcSwapOption::empty(), db }
    }

    /// Reloads the valid keys. An unknown scope is dropped from its key.
    pub async fn refresh(&self) -> Result<(), ServiceError> {
        let rows = api_keys::list(&self.db).await?;
        let valid = rows.into_iter().filter(|row| row.revoked_at.is_none()).filter_map(|row| {
            let hash = <[u8; 32]>::try_from(row.secret_hash).ok()?;
            let scopes = row.scopes.iter().filter_map(|text| AccessScope::parse(text)).collect();
            Some((hash, Arc::new(Principal { key_id: row.key_id, scopes })))
        });
        self.keys.store(Some(Arc::new(valid.collect())));
        Ok(())
    }

    /// Authenticates a key by its hash.
    pub fn authenticate(&self, key: &str) -> Result<Arc<Principal>, AuthenticationFailure> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(AuthenticationFailure::NotReady)?;
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        keys.get(&hash).cloned().ok_or(AuthenticationFailure::UnknownKey)
    }
}

/// Creates a key and returns it: the secret cannot be read again.
pub async fn create_key(
    db: &DatabaseHandle,
    clock: &TimeSource,
    name: &str,
    scopes: &[AccessScope],
) -> Result<String, ServiceError> {
    if AccessScope::is_public_key(scopes) && scopes.len() > 1 {
        let problem = "a key with `track` is public, for browsers and apps, and can have no other \
                       scope: create a second key, or use `ingest` for a server";
        return Err(ServiceError::Invalid(ValidationFaults::single("scopes", problem)));
    }
    if scopes.is_empty() {
        return Err(ServiceError::Invalid(ValidationFaults::single(
            "scopes",
            "must name at least one scope",
        )));
    }
    let name = text::check_name("name", name)?;
    let key_id = random::hex_token::<6>()?;
    let key = format!("sgm_{key_id}_{}", random::hex_token::<32>()?);
    let row = ApiKeyRow {
        key_id,
        name,
        secret_hash: Sha256::digest(key.as_bytes()).to_vec(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        created_at: clock.now(),
        revoked_at: None,
    };
    // Commits together: the key and its announcement to all replicas.
    let mut tx = db.begin().await?;
    api_keys::insert(&mut tx, &row).await?;
    tx.commit().await?;
    Ok(key)
}

/// Revokes a key on a connection reserved for critical writes.
pub async fn revoke_key(
    db: &DatabaseHandle,
    clock: &TimeSource,
    key_id: &str,
) -> Result<(), ServiceError> {
    // Commits together: the revocation and its announcement.
    let mut tx = db.begin_critical().await?;
    let revoked = api_keys::revoke(&mut tx, key_id, clock.now()).await?;
    tx.commit().await?;
    if revoked { Ok(()) } else { Err(ServiceError::NotFound(format!("valid key `{key_id}`"))) }
}
