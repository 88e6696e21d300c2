//! Wiring of alerting: drift monitor, alert store, and delivery.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::Config;
use crate::outbound::{OutboundError, Sender};
use crate::service::alerts::Alerts;
use crate::service::alerts::deliver::Deliverer;
use crate::service::clock::Clock;
use crate::service::drift::Drift;
use crate::service::drift::monitor::Watcher;
use crate::service::scoring::deployment::Live;
use crate::store::Db;
use crate::telemetry::Metrics;

pub(super) struct Alerting {
    pub(super) alerts: Arc<Alerts>,
    pub(super) watcher: Watcher,
    pub(super) deliverer: Deliverer,
    pub(super) sender: Arc<Sender>,
}

pub(super) fn build(
    config: &Config,
    db: &Db,
    (live, drift): (&Arc<Live>, &Arc<Drift>),
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<Alerting, OutboundError> {
    let sender = Arc::new(Sender::new(&config.outbound)?);
    let alerts = Arc::new(Alerts {
        db: db.clone(),
        clock: clock.clone(),
        settings: config.alerts.clone(),
        metrics: Arc::clone(metrics),
        wake: Notify::new(),
    });
    let watcher =
        Watcher { alerts: Arc::clone(&alerts), drift: Arc::clone(drift), live: Arc::clone(live) };
    let deliverer = Deliverer::new(Arc::clone(&alerts), Arc::clone(&sender));
    Ok(Alerting { alerts, watcher, deliverer, sender })
}
