//! Names and secrets that nobody can guess.

use crate::domain::id::hex;
use crate::service::ServiceError;

/// `bytes` random bytes as hexadecimal digits, from the operating system.
pub fn token<const BYTES: usize>() -> Result<String, ServiceError> {
    let mut random = [0_u8; BYTES];
    getrandom::fill(&mut random).map_err(|error| ServiceError::internal(error.to_string()))?;
    Ok(hex(&random))
}
