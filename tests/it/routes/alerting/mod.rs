//! Alerts, silences, channels, deliveries and moves.

mod alerts;
mod channels;
mod deliveries;
pub(crate) mod moves;
mod moves_recovery;
mod silences;
