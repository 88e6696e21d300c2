//! Unguessable ids and secrets from the operating system's random source.

use crate::domain::id::encode_hex;
use crate::service::ServiceError;

/// `BYTES` random bytes as hexadecimal digits.
pub(crate) fn hex_token<const BYTES: usize>() -> Result<String, ServiceError> {
    Ok(encode_hex(&random_bytes::<BYTES>()?))
}

/// `BYTES` random bytes.
pub(crate) fn random_bytes<const BYTES: usize>() -> Result<[u8; BYTES], ServiceError> {
    let mut random = [0_u8; BYTES];
    getrandom::fill(&mut random).map_err(|error| ServiceError::internal(error.to_string()))?;
    Ok(random)
}

/// A prefixed random id: `msg_5f…`.
pub(crate) fn prefixed_id<const BYTES: usize>(what: &str) -> Result<String, ServiceError> {
    Ok(format!("{what}_{}", hex_token::<BYTES>()?))
}

/// Uniform from 0 to 1, inclusive.
pub(crate) fn random_fraction() -> Result<f64, ServiceError> {
    Ok(f64::from(u32::from_le_bytes(random_bytes()?)) / f64::from(u32::MAX))
}
