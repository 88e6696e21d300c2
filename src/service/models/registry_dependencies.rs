//! Construction of the model registry from its dependencies.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config;
use crate::domain::deployment::lifecycle::GateThresholds;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry::ModelRegistry;
use crate::service::models::shadow::ShadowModels;
use crate::service::scoring::deployment::ServingState;
use crate::store::DatabaseHandle;

/// What the model registry depends on.
#[derive(Debug)]
pub struct RegistryDependencies {
    pub db: DatabaseHandle,
    pub live: Arc<ServingState>,
    pub shadows: Arc<ShadowModels>,
    pub clock: TimeSource,
    pub gate_thresholds: GateThresholds,
    pub rollout_settings: config::LifecycleSettings,
    pub policies: Arc<AutomationPolicies>,
}

impl ModelRegistry {
    pub fn new(dependencies: RegistryDependencies) -> Self {
        let RegistryDependencies {
            db,
            live,
            shadows,
            clock,
            gate_thresholds,
            rollout_settings,
            policies,
        } = dependencies;
        let preview_slot = Semaphore::new(1);
        Self { db, live, shadows, clock, gate_thresholds, rollout_settings, policies, preview_slot }
    }

    /// Loads the shadow models that another replica has started or ended.
    pub async fn refresh_shadows(&self) -> Result<(), ServiceError> {
        self.shadows.refresh().await
    }
}
