//! API keys: made, revoked, and checked without asking the database.
//!
//! Every replica holds all valid keys by hash and reads them anew when one
//! changes, so a request is authenticated in memory, also while Postgres is
//! away. A key is `sgm_<id>_<secret>`; the secret has 256 random bits, so a
//! plain SHA-256 is enough to keep it (nothing to guess, nothing to stretch).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};

use crate::domain::access::{Principal, Scope};
use crate::domain::fault::Faults;
use crate::domain::text;
use crate::service::clock::Clock;
use crate::service::{ServiceError, random};
use crate::store::api_keys::KeyRow;
use crate::store::{Db, ReadDb, api_keys};

type Keys = HashMap<[u8; 32], Arc<Principal>>;

#[derive(Debug)]
pub struct Access {
    /// `None` until the keys have been read once.
    keys: ArcSwapOption<Keys>,
    db: ReadDb,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The keys have not been read yet: not the caller's fault.
    NotReady,
    Unknown,
}

impl Access {
    pub fn new(db: ReadDb) -> Self {
        Self { keys: ArcSwapOption::empty(), db }
    }

    /// Reads the valid keys anew. A key whose scopes cannot be read is left out.
    pub async fn refresh(&self) -> Result<(), ServiceError> {
        let rows = api_keys::list(&self.db).await?;
        let valid = rows.into_iter().filter(|row| row.revoked_at.is_none()).filter_map(|row| {
            let hash = <[u8; 32]>::try_from(row.secret_hash).ok()?;
            let scopes = row.scopes.iter().filter_map(|text| Scope::parse(text)).collect();
            Some((hash, Arc::new(Principal { key_id: row.key_id, scopes })))
        });
        self.keys.store(Some(Arc::new(valid.collect())));
        Ok(())
    }

    pub fn check(&self, key: &str) -> Result<Arc<Principal>, Refusal> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(Refusal::NotReady)?;
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        keys.get(&hash).cloned().ok_or(Refusal::Unknown)
    }
}

/// Makes a key and returns it: the only time it can be read.
pub async fn create(
    db: &Db,
    clock: &Clock,
    name: &str,
    scopes: &[Scope],
) -> Result<String, ServiceError> {
    if Scope::is_public(scopes) && scopes.len() > 1 {
        let problem = "`track` makes a public key, for browsers and apps, which can have no other \
                       scope: make a second key, or use `ingest` for a server";
        return Err(ServiceError::Invalid(Faults::one("scopes", problem)));
    }
    if scopes.is_empty() {
        return Err(ServiceError::Invalid(Faults::one("scopes", "must name at least one scope")));
    }
    let name = text::name("name", name)?;
    let key_id = random::token::<6>()?;
    let key = format!("sgm_{key_id}_{}", random::token::<32>()?);
    let mut tx = db.begin().await?;
    api_keys::insert(
        &mut tx,
        &KeyRow {
            key_id,
            name,
            secret_hash: Sha256::digest(key.as_bytes()).to_vec(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            created_at: clock.now(),
            revoked_at: None,
        },
    )
    .await?;
    tx.commit().await?;
    Ok(key)
}

/// Revokes a key on a connection reserved for critical writes.
pub async fn revoke(db: &Db, clock: &Clock, key_id: &str) -> Result<(), ServiceError> {
    // Commits together: the end of the key, and the news of it.
    let mut tx = db.begin_critical().await?;
    let revoked = api_keys::revoke(&mut tx, key_id, clock.now()).await?;
    tx.commit().await?;
    if revoked { Ok(()) } else { Err(ServiceError::NotFound(format!("valid key `{key_id}`"))) }
}
