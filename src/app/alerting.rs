//! Wiring of alerting: drift monitor, alert store, and delivery.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::app::parts::CommonParts;
use crate::outbound::{NotificationSender, OutboundError};
use crate::service::alerts::AlertService;
use crate::service::alerts::deliver::DeliveryWorker;
use crate::service::drift::DriftService;
use crate::service::drift::monitor::DriftMonitor;
use crate::service::scoring::deployment::ServingState;

pub(super) struct AlertingParts {
    pub(super) alerts: Arc<AlertService>,
    pub(super) watcher: DriftMonitor,
    pub(super) deliverer: DeliveryWorker,
    pub(super) sender: Arc<NotificationSender>,
}

pub(super) fn build(
    common: &CommonParts<'_>,
    live: &Arc<ServingState>,
    drift: &Arc<DriftService>,
) -> Result<AlertingParts, OutboundError> {
    let &CommonParts { config, db, clock, metrics } = common;
    let sender = Arc::new(NotificationSender::new(&config.outbound)?);
    let alerts = Arc::new(AlertService {
        db: db.clone(),
        clock: clock.clone(),
        settings: config.alerts.clone(),
        metrics: Arc::clone(metrics),
        wake: Notify::new(),
    });
    let watcher = DriftMonitor {
        alerts: Arc::clone(&alerts),
        drift: Arc::clone(drift),
        live: Arc::clone(live),
    };
    let deliverer = DeliveryWorker::new(Arc::clone(&alerts), Arc::clone(&sender));
    Ok(AlertingParts { alerts, watcher, deliverer, sender })
}
