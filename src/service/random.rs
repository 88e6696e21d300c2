//! Names and secrets that nobody can guess.

use crate::domain::id::hex;
use crate::service::ServiceError;

/// `bytes` random bytes as hexadecimal digits, from the operating system.
pub fn token<const BYTES: usize>() -> Result<String, ServiceError> {
    Ok(hex(&bytes::<BYTES>()?))
}

/// From the operating system.
pub fn bytes<const BYTES: usize>() -> Result<[u8; BYTES], ServiceError> {
    let mut random = [0_u8; BYTES];
    getrandom::fill(&mut random).map_err(|error| ServiceError::internal(error.to_string()))?;
    Ok(random)
}

/// A token behind what it names: `msg_5f…`.
pub fn named<const BYTES: usize>(what: &str) -> Result<String, ServiceError> {
    Ok(format!("{what}_{}", token::<BYTES>()?))
}

/// From 0 to 1.
pub fn share() -> Result<f64, ServiceError> {
    Ok(f64::from(u32::from_le_bytes(bytes()?)) / f64::from(u32::MAX))
}
