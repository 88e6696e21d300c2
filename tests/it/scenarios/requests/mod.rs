//! Requests: admission control, limits, invalid input, public keys.

mod admission_control;
mod field_limits;
mod invalid_requests;
mod key_quotas;
mod memory_limits;
mod nul_bytes;
mod public_keys;
mod responses;
