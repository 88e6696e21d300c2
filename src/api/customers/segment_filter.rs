//! The query parameter `segment`: a segment that a customer can have or can have had.

use crate::api::{ApiError, ApiState};
use crate::domain::feature::rfm;
use crate::domain::model::UNASSIGNED;
use crate::service::scoring::deployment::Deployment;
use crate::store::models::lineage;

/// Refuses a segment that no deployed model has had: its list would be empty for ever.
pub(super) async fn refuse_unknown_segment(
    state: &ApiState,
    segment: Option<&str>,
) -> Result<(), ApiError> {
    let Some(segment) = segment else { return Ok(()) };
    let deployment = state.deployments.snapshot();
    let served = served_segments(&deployment);
    let is_served = served.contains(&segment) || segment == UNASSIGNED;
    if is_served || rule_segment_keys().any(|key| key == segment) {
        return Ok(());
    }
    if lineage::is_deployed_key(&state.db, segment).await? {
        return Ok(());
    }
    let known = served.join("`, `");
    let problem = format!("there is no segment `{segment}`; the segments are `{known}`");
    Err(ApiError::invalid("segment", problem))
}

/// The segments of the active model or the rule-based fallback, and of the canary.
fn served_segments(deployment: &Deployment) -> Vec<&str> {
    let canary = deployment.canary.as_ref().map(|canary| &*canary.deployment);
    let mut keys: Vec<&str> = Vec::new();
    for deployment in [deployment].into_iter().chain(canary) {
        if let Some(model) = &deployment.active {
            keys.extend(model.segments().iter().map(|segment| &*segment.key));
        } else {
            for key in rule_segment_keys() {
                keys.push(key);
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The segments of the rule-based fallback.
fn rule_segment_keys() -> impl Iterator<Item = &'static str> {
    rfm::SEGMENTS.into_iter().map(|(key, _)| key)
}
