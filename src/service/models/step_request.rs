//! Requests to change the deployment: who asks, why, and which life-cycle step.

use crate::domain::deployment::lifecycle::StageTransition;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::service::ServiceError;

/// Author and reason of a deployment change, stored with each generation.
#[derive(Debug, Clone)]
pub struct DeploymentChange {
    pub author: String,
    pub reason: String,
}

impl DeploymentChange {
    /// A change requested through the API, with its bounded free-text reason.
    pub(crate) fn requested(by: String, reason: Option<&str>) -> Result<Self, ServiceError> {
        let reason =
            text::check_free_text("reason", reason.unwrap_or_default(), MAX_FREE_TEXT_CHARS)?;
        let reason = if reason.is_empty() { "requested".into() } else { reason };
        Ok(Self { author: by, reason })
    }
}

/// A requested life-cycle step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepRequest {
    pub step: StageTransition,
    /// Canary share of the customers; `None`: the configured share.
    pub share: Option<f64>,
    /// Takes the step even if gates refuse it.
    pub force: bool,
    /// Records a refusal.
    pub record_refusal: bool,
}

impl StepRequest {
    pub(crate) fn new(step: StageTransition) -> Self {
        Self { step, share: None, force: false, record_refusal: true }
    }
}
