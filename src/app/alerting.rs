//! Wiring of alerting: drift monitor, alert store, and delivery.

use std::sync::Arc;

use anyhow::Context as _;

use crate::app::parts::CommonParts;
use crate::config::AppConfig;
use crate::outbound::{NotificationSender, OutboundError};
use crate::service::alerts::AlertService;
use crate::service::alerts::deliver::DeliveryWorker;
use crate::service::alerts::moves::MoveDeliveryWorker;
use crate::service::clock::TimeSource;
use crate::service::drift::DriftService;
use crate::service::drift::monitor::{DriftMonitor, DriftMonitorDependencies};
use crate::service::scoring::serving::ServingState;
use crate::store::DatabaseHandle;
use crate::telemetry::ServiceMetrics;

pub(super) struct AlertingParts {
    pub(super) alerts: Arc<AlertService>,
    pub(super) drift_monitor: DriftMonitor,
    pub(super) deliverers: Deliverers,
    pub(super) sender: Arc<NotificationSender>,
}

/// The workers that send messages to channels.
#[derive(Debug)]
pub(super) struct Deliverers {
    pub(super) notifications: DeliveryWorker,
    pub(super) moves: MoveDeliveryWorker,
}

pub(super) fn build(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    drift: &Arc<DriftService>,
) -> Result<AlertingParts, OutboundError> {
    let &CommonParts { config, db, clock, metrics } = common;
    let sender = Arc::new(NotificationSender::new(&config.outbound)?);
    let settings = config.alerts.clone();
    let alerts = AlertService::new(db.clone(), clock.clone(), settings, Arc::clone(metrics));
    let alerts = Arc::new(alerts);
    let drift_monitor = DriftMonitor::new(DriftMonitorDependencies {
        db: db.clone(),
        clock: clock.clone(),
        settings: config.alerts.clone(),
        alerts: Arc::clone(&alerts),
        drift: Arc::clone(drift),
        serving: Arc::clone(serving),
        metrics: Arc::clone(metrics),
    });
    let (theirs, settings) = (Arc::clone(&alerts), config.alerts.clone());
    let notifications =
        DeliveryWorker::new(theirs, Arc::clone(&sender), db, clock.clone(), settings);
    let moves = MoveDeliveryWorker::new(
        Arc::clone(&alerts),
        Arc::clone(&sender),
        db,
        clock.clone(),
        Arc::clone(metrics),
    );
    let deliverers = Deliverers { notifications, moves };
    Ok(AlertingParts { alerts, drift_monitor, deliverers, sender })
}

/// The alert service of a command, without delivery.
pub fn alert_service(config: &AppConfig, db: &DatabaseHandle) -> anyhow::Result<AlertService> {
    let clock = TimeSource::System;
    let metrics = ServiceMetrics::new(clock.now(), config.objectives).context("metrics")?;
    Ok(AlertService::new(db.clone(), clock, config.alerts.clone(), Arc::new(metrics)))
}
