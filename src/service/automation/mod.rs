//! Automation: probation and rollback of new models, policy actions on drift.

pub mod actions;
pub mod probation;

use std::sync::Arc;

use crate::service::alerts::AlertService;
use crate::service::clock::TimeSource;
use crate::service::drift::DriftService;
use crate::service::models::policy::Policies;
use crate::service::models::registry::Registry;
use crate::service::scoring::deployment::ServingState;
use crate::store::Db;
use crate::telemetry::Metrics;

/// What the automatic policy depends on.
#[derive(Debug, Clone)]
pub struct AutomationDependencies {
    pub db: Db,
    pub live: Arc<ServingState>,
    pub clock: TimeSource,
    pub policies: Arc<Policies>,
    pub registry: Arc<Registry>,
    pub drift: Arc<DriftService>,
    pub alerts: Arc<AlertService>,
    pub metrics: Arc<Metrics>,
}
