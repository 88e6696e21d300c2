//! Webhook signatures by Standard Webhooks 1.0.0: symmetric with a shared secret
//! (`whsec_…`, HMAC-SHA256), or asymmetric with a key pair (`whsk_…`, Ed25519), for which
//! the receiver needs only the public key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::domain::secret::SecretValue;

const SHARED: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";

/// Signing key of a channel, parsed from its secret.
pub struct SigningKey(KeyMaterial);

enum KeyMaterial {
    Shared(hmac::Key),
    Pair(Ed25519KeyPair),
}

/// Redacts the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Parses a secret. The error describes the right form and never quotes the input,
    /// which may be a secret.
    pub fn parse(secret: &str) -> Result<Self, &'static str> {
        if let Some(encoded) = secret.strip_prefix(SHARED) {
            return match BASE64.decode(encoded) {
                Ok(bytes) if (24..=64).contains(&bytes.len()) => {
                    Ok(Self(KeyMaterial::Shared(hmac::Key::new(hmac::HMAC_SHA256, &bytes))))
                }
                _ => Err("is not `whsec_` and 24 to 64 bytes in base64 (with padding)"),
            };
        }
        let Some(encoded) = secret.strip_prefix(PRIVATE) else {
            return Err(
                "begins with neither `whsec_` (a shared secret) nor `whsk_` (a private key)",
            );
        };
        let bytes = BASE64.decode(encoded).unwrap_or_default();
        // Libraries encode the seed alone, or the seed followed by the public key.
        let pair = match bytes.split_at_checked(32) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err("is not `whsk_` and an ed25519 key of 32 or 64 bytes in base64"),
        };
        pair.map(|pair| Self(KeyMaterial::Pair(pair))).map_err(
            |_| "is not `whsk_` and an ed25519 key: its two halves belong to different keys",
        )
    }

    /// One signature of the header `webhook-signature`; the header separates them by spaces.
    pub fn sign(&self, message: &[u8]) -> String {
        match &self.0 {
            KeyMaterial::Shared(key) => format!("v1,{}", BASE64.encode(hmac::sign(key, message))),
            KeyMaterial::Pair(pair) => format!("v1a,{}", BASE64.encode(pair.sign(message))),
        }
    }

    /// Public key (`whpk_…`) for the receiver; `None` for a shared secret.
    pub fn public_key(&self) -> Option<String> {
        match &self.0 {
            KeyMaterial::Shared(_) => None,
            KeyMaterial::Pair(pair) => {
                Some(format!("{PUBLIC}{}", BASE64.encode(pair.public_key().as_ref())))
            }
        }
    }
}

/// Encodes random `bytes` as a shared secret.
pub fn encode_webhook_secret(bytes: [u8; 32]) -> SecretValue<String> {
    SecretValue::new(format!("{SHARED}{}", BASE64.encode(bytes)))
}
