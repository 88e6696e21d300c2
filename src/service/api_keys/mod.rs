//! API keys: create, list, rotate, revoke, and authenticate without a database query.
//!
//! A key is `sgm_<id>_<secret>`. Its secret has 256 random bits, so plain SHA-256 suffices for
//! storage: there is nothing to guess, and key stretching would add nothing.

mod authenticator;
mod registry;

use crate::domain::access::AccessScope;
use crate::domain::access::api_key::ApiKeyRequest;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::store::DatabaseHandle;

pub use authenticator::{AuthenticationFailure, KeyAuthenticator};
pub use registry::{KeyRegistry, KeyWithSecret};

/// Creates a key with these scopes, and returns it: the secret cannot be read again.
pub async fn create_key(
    db: &DatabaseHandle,
    clock: &TimeSource,
    name: &str,
    scopes: &[AccessScope],
) -> Result<String, ServiceError> {
    let registry = KeyRegistry::new(db.clone(), clock.clone());
    let created =
        registry.create_key(ApiKeyRequest::with_scopes(name, scopes), COMMAND_LINE).await?;
    Ok(created.key.expose().clone())
}

/// Revokes a key from the command line.
pub async fn revoke_key(
    db: &DatabaseHandle,
    clock: &TimeSource,
    key_id: &str,
) -> Result<(), ServiceError> {
    KeyRegistry::new(db.clone(), clock.clone()).revoke_key(key_id, COMMAND_LINE).await
}

/// The author of changes on the command line.
pub const COMMAND_LINE: &str = "command line";
