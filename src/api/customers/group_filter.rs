//! The query parameters `segment_id` and `audience`: groups in which a customer can be or can have
//! been.

use crate::api::{ApiError, ApiState};
use crate::domain::feature::rfm;
use crate::domain::model::UNASSIGNED;
use crate::service::scoring::deployment::Deployment;
use crate::store::audiences;
use crate::store::models::lineage;

/// Refuses a segment that no deployed model has had: its list would be empty for ever.
pub(super) async fn refuse_unknown_segment(
    state: &ApiState,
    segment_id: Option<&str>,
) -> Result<(), ApiError> {
    let Some(segment_id) = segment_id else { return Ok(()) };
    let deployment = state.deployments.snapshot();
    let served = served_segments(&deployment);
    let is_served = served.contains(&segment_id) || segment_id == UNASSIGNED;
    if is_served || rule_segment_ids().any(|id| id == segment_id) {
        return Ok(());
    }
    if lineage::has_been_deployed(&state.db, segment_id).await? {
        return Ok(());
    }
    let known = served.join("`, `");
    let problem = format!("there is no segment `{segment_id}`; the segments are `{known}`");
    Err(ApiError::invalid("segment_id", problem))
}

/// Refuses an audience that has never existed.
pub(super) async fn refuse_unknown_audience(
    state: &ApiState,
    audience: Option<&str>,
) -> Result<(), ApiError> {
    let Some(audience) = audience else { return Ok(()) };
    if !audiences::list_versions(&state.db, audience, None, 1).await?.is_empty() {
        return Ok(());
    }
    let known = audiences::list_in_force(&state.db).await?;
    let known: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
    let right = if known.is_empty() {
        "define it with `PUT /v1/audiences/{name}`".to_owned()
    } else {
        format!("the audiences are `{}`", known.join("`, `"))
    };
    let problem = format!("there is no audience `{audience}`; {right}");
    Err(ApiError::invalid("audience", problem))
}

/// The segments of the active model or the rule-based fallback, and of the canary.
fn served_segments(deployment: &Deployment) -> Vec<&str> {
    let canary = deployment.canary.as_ref().map(|canary| &*canary.deployment);
    let mut ids: Vec<&str> = Vec::new();
    for deployment in [deployment].into_iter().chain(canary) {
        if let Some(model) = &deployment.active {
            ids.extend(model.segments().iter().map(|segment| &*segment.id));
        } else {
            for id in rule_segment_ids() {
                ids.push(id);
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The segments of the rule-based fallback.
fn rule_segment_ids() -> impl Iterator<Item = &'static str> {
    rfm::SEGMENTS.into_iter().map(|(id, _)| id)
}
