//! Wiring of alerting: drift monitor, alert store, and delivery.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::app::parts::CommonParts;
use crate::outbound::{OutboundError, Sender};
use crate::service::alerts::Alerts;
use crate::service::alerts::deliver::Deliverer;
use crate::service::drift::Drift;
use crate::service::drift::monitor::Watcher;
use crate::service::scoring::deployment::Live;

pub(super) struct AlertingParts {
    pub(super) alerts: Arc<Alerts>,
    pub(super) watcher: Watcher,
    pub(super) deliverer: Deliverer,
    pub(super) sender: Arc<Sender>,
}

pub(super) fn build(
    common: &CommonParts<'_>,
    live: &Arc<Live>,
    drift: &Arc<Drift>,
) -> Result<AlertingParts, OutboundError> {
    let &CommonParts { config, db, clock, metrics } = common;
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
    Ok(AlertingParts { alerts, watcher, deliverer, sender })
}
