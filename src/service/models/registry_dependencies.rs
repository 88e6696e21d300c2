//! Construction of the model registry from its dependencies.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config;
use crate::domain::deployment::lifecycle::Thresholds;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::models::policy::Policies;
use crate::service::models::registry::Registry;
use crate::service::models::shadow::Shadows;
use crate::service::scoring::deployment::ServingState;
use crate::store::Db;

/// What the model registry depends on.
#[derive(Debug)]
pub struct RegistryDependencies {
    pub db: Db,
    pub live: Arc<ServingState>,
    pub shadows: Arc<Shadows>,
    pub clock: TimeSource,
    pub gates: Thresholds,
    pub life: config::Life,
    pub policies: Arc<Policies>,
}

impl Registry {
    pub fn new(dependencies: RegistryDependencies) -> Self {
        let RegistryDependencies { db, live, shadows, clock, gates, life, policies } = dependencies;
        let previews = Semaphore::new(1);
        Self { db, live, shadows, clock, gates, life, policies, previews }
    }

    /// Loads the shadow models that another replica has started or ended.
    pub async fn refresh_shadows(&self) -> Result<(), ServiceError> {
        self.shadows.refresh().await
    }
}
