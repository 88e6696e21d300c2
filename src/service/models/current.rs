//! The deployment that this replica serves, for the API.

use crate::domain::id::ModelId;
use crate::service::models::registry::ModelRegistry;
use crate::store::models::DeploymentRow;

/// A deployment with its models in shadow.
#[derive(Debug)]
pub(crate) struct ServedDeployment {
    pub row: DeploymentRow,
    /// Whether the rule-based fallback answers. It also answers for an active model of another
    /// feature set.
    pub is_fallback: bool,
    pub shadows: Vec<ModelId>,
}

impl ModelRegistry {
    /// The deployment that this replica serves, without I/O; `None` before the first one is
    /// loaded.
    pub(crate) fn served_deployment(&self) -> Option<ServedDeployment> {
        let deployment = self.serving.snapshot();
        let row = deployment.stored.clone()?;
        let is_fallback = deployment.active.is_none();
        Some(ServedDeployment { row, is_fallback, shadows: self.shadows.ids() })
    }

    /// The deployment after a change that this replica has published.
    pub(crate) fn changed_deployment(&self, row: DeploymentRow) -> ServedDeployment {
        let served = self.serving.snapshot();
        let is_served = served.generation == row.generation;
        let is_fallback = if is_served { served.active.is_none() } else { row.active.is_none() };
        ServedDeployment { row, is_fallback, shadows: self.shadows.ids() }
    }
}
