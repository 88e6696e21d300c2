//! Alerts, silences, channels and deliveries.

mod alerts;
mod channels;
mod deliveries;
mod silences;
