//! In-memory authentication of API keys.
//!
//! Every replica caches all valid keys by hash and reloads them when one changes, so a request
//! is authenticated in memory, also while Postgres is unavailable.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::domain::access::origin::WebOrigin;
use crate::domain::access::{AccessScope, KEY_AUTHOR_PREFIX, Principal};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::limits::rate_limits::KeyRateLimiter;
use crate::store::api_keys::{ApiKeyRow, KeyUse};
use crate::store::{ReadOnlyDatabase, api_keys};

/// Resolution of the last use of a key, so that busy keys rarely write shared memory.
const USE_RESOLUTION_MILLIS: i64 = 1000;

/// Shortest interval between two reloads for unknown keys.
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);
/// Longest such reload: Postgres may be unavailable.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Authenticator with its cache of keys.
#[derive(Debug)]
pub struct KeyAuthenticator {
    /// `None` until the keys have been loaded once.
    keys: ArcSwapOption<KeyCache>,
    db: ReadOnlyDatabase,
    clock: TimeSource,
    rate_limits: Arc<KeyRateLimiter>,
    /// Start of the last reload for an unknown key.
    reloaded: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct KeyCache {
    by_hash: HashMap<[u8; 32], CachedSecret>,
    /// Names of all stored keys by id, also of revoked ones.
    names: HashMap<String, String>,
}

/// A secret of a key.
#[derive(Debug)]
struct CachedSecret {
    principal: Arc<Principal>,
    /// The key or the overlap of its rotation ends then.
    valid_until: Option<Timestamp>,
    last_used_at: Arc<LastUse>,
}

/// Instant of the last use in this process, in milliseconds; 0: not used.
#[derive(Debug, Default)]
struct LastUse(AtomicI64);

/// Reason why a request is not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationFailure {
    /// The keys have not been loaded yet: not the caller's fault.
    NotReady,
    UnknownKey,
    /// The key has expired, or a rotation has replaced this secret.
    Expired(Timestamp),
}

impl KeyAuthenticator {
    pub fn new(db: ReadOnlyDatabase, clock: TimeSource, rate_limits: Arc<KeyRateLimiter>) -> Self {
        let (keys, reloaded) = (ArcSwapOption::empty(), Mutex::default());
        Self { keys, db, clock, rate_limits, reloaded }
    }

    /// Reloads the keys and their rate limits. An unknown scope is dropped from its key.
    pub async fn refresh(&self) -> Result<(), ServiceError> {
        let rows = api_keys::list(&self.db).await?;
        let before = self.keys.load_full().unwrap_or_default();
        let mut uses: HashMap<&str, &Arc<LastUse>> = HashMap::new();
        for secret in before.by_hash.values() {
            uses.insert(&secret.principal.key_id, &secret.last_used_at);
        }
        let mut cache = KeyCache::default();
        for row in &rows {
            cache.names.insert(row.key_id.clone(), row.name.clone());
            if row.revoked_at.is_none() {
                let last_use = uses.get(row.key_id.as_str()).map(|last_use| Arc::clone(last_use));
                cache.add_secrets(row, &last_use.unwrap_or_default());
            }
        }
        let limited = rows.iter().filter(|row| row.revoked_at.is_none());
        self.rate_limits.replace_overrides(limited.map(|row| (&*row.key_id, row.limits)));
        self.keys.store(Some(Arc::new(cache)));
        Ok(())
    }

    /// Reloads the keys for a request with an unknown key: the notification of a new key takes
    /// some milliseconds, and the key may be used at once. Requests that wait share a reload, so
    /// that unknown keys cause two a second at most. Without Postgres the known keys stay valid.
    pub(crate) async fn reload_for_unknown_key(&self) {
        let asked = Instant::now();
        let mut reloaded = self.reloaded.lock().await;
        if reloaded.is_some_and(|began| began > asked) {
            return;
        }
        if let Some(began) = *reloaded {
            tokio::time::sleep(RELOAD_INTERVAL.saturating_sub(began.elapsed())).await;
        }
        *reloaded = Some(Instant::now());
        if let Ok(Err(error)) = tokio::time::timeout(RELOAD_TIMEOUT, self.refresh()).await {
            tracing::debug!(error = %ErrorChain(&error), "keys could not be reloaded");
        }
    }

    /// Authenticates a key by its hash.
    pub fn authenticate(&self, key: &str) -> Result<Arc<Principal>, AuthenticationFailure> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(AuthenticationFailure::NotReady)?;
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let secret = keys.by_hash.get(&hash).ok_or(AuthenticationFailure::UnknownKey)?;
        let now = self.clock.now();
        if let Some(until) = secret.valid_until.filter(|until| *until <= now) {
            return Err(AuthenticationFailure::Expired(until));
        }
        secret.last_used_at.set(now);
        Ok(Arc::clone(&secret.principal))
    }

    /// The name of the key that made a change, also of a revoked one. `None` for other authors
    /// and for keys that are not stored any more.
    pub fn name_of_author(&self, author: &str) -> Option<String> {
        let key_id = author.strip_prefix(KEY_AUTHOR_PREFIX)?;
        self.keys.load().as_ref()?.names.get(key_id).cloned()
    }

    /// The last use of each key that was used in this process since `since`.
    pub(super) fn uses_since(&self, since: Timestamp) -> Vec<KeyUse> {
        let keys = self.keys.load();
        let secrets = keys.iter().flat_map(|keys| keys.by_hash.values());
        let mut uses: Vec<KeyUse> = secrets
            .filter_map(|secret| {
                let used_at = secret.last_used_at.get().filter(|at| *at > since)?;
                Some(KeyUse { key_id: secret.principal.key_id.clone(), used_at })
            })
            .collect();
        // During a rotation a key has two secrets.
        uses.sort_by(|one, other| one.key_id.cmp(&other.key_id));
        uses.dedup_by(|one, other| one.key_id == other.key_id);
        uses
    }
}

impl KeyCache {
    fn add_secrets(&mut self, row: &ApiKeyRow, last_used_at: &Arc<LastUse>) {
        let principal = Arc::new(Principal {
            key_id: row.key_id.clone(),
            scopes: row.scopes.iter().filter_map(|text| AccessScope::parse(text)).collect(),
            allowed_origins: stored_origins(&row.allowed_origins),
        });
        let overlap_end = row.previous_secret.as_ref().map(|previous| previous.ends_at);
        let previous_end = [row.expires_at, overlap_end].into_iter().flatten().min();
        let secrets = [
            (Some(&row.secret_hash), row.expires_at),
            (row.previous_secret.as_ref().map(|previous| &previous.hash), previous_end),
        ];
        for (hash, valid_until) in secrets {
            let Some(Ok(hash)) = hash.map(|hash| <[u8; 32]>::try_from(hash.as_slice())) else {
                continue;
            };
            let (principal, last_used_at) = (Arc::clone(&principal), Arc::clone(last_used_at));
            self.by_hash.insert(hash, CachedSecret { principal, valid_until, last_used_at });
        }
    }
}

impl LastUse {
    fn set(&self, now: Timestamp) {
        if now.millis() - self.0.load(Ordering::Relaxed) >= USE_RESOLUTION_MILLIS {
            self.0.store(now.millis(), Ordering::Relaxed);
        }
    }

    fn get(&self) -> Option<Timestamp> {
        let millis = self.0.load(Ordering::Relaxed);
        (millis > 0).then(|| Timestamp::from_millis(millis))
    }
}

/// Origins were validated when the key was created.
fn stored_origins(texts: &[String]) -> Vec<WebOrigin> {
    texts.iter().filter_map(|text| WebOrigin::parse(text).ok()).collect()
}
