//! Sending to other people's servers.

use std::time::Duration;

use super::reader::Reader;

/// How messages are sent.
#[derive(Debug, Clone)]
pub struct Outbound {
    pub allow_private_addresses: bool,
    pub timeout: Duration,
}

impl Outbound {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            allow_private_addresses: reader
                .choice("alerts.allow_private_addresses", [("no", false), ("yes", true)]),
            timeout: reader.seconds("alerts.timeout_seconds", 1..=300),
        }
    }
}
