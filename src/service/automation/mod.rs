//! Automation: probation and rollback of new models, policy actions on drift.

pub mod actions;
pub mod probation;

use std::sync::Arc;

use crate::service::alerts::AlertService;
use crate::service::clock::TimeSource;
use crate::service::drift::DriftService;
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry::ModelRegistry;
use crate::service::scoring::serving::ServingState;
use crate::store::DatabaseHandle;
use crate::telemetry::ServiceMetrics;

/// What the automatic policy depends on.
#[derive(Debug, Clone)]
pub struct AutomationDependencies {
    pub db: DatabaseHandle,
    pub serving: Arc<ServingState>,
    pub clock: TimeSource,
    pub policies: Arc<AutomationPolicies>,
    pub registry: Arc<ModelRegistry>,
    pub drift: Arc<DriftService>,
    pub alerts: Arc<AlertService>,
    pub metrics: Arc<ServiceMetrics>,
}
