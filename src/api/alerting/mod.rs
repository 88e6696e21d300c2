//! Alerting endpoints: alerts, notification channels, deliveries and silences.

pub(crate) mod alerts;
pub(crate) mod channels;
pub(crate) mod deliveries;
pub(crate) mod silences;
