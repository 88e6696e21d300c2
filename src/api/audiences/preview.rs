//! `POST /v1/audiences/{name}/preview`: how many customers a rule selects.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::audiences::AudienceNamePath;
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, Read, heavy_work, parse_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::stats::Proportion;

/// A rule to try.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PreviewAudienceRequest {
    /// The rule, in the language of the guide to audiences.
    #[schema(
        min_length = 1,
        max_length = 4000,
        example = "value.predicted_clv >= 500 and value.churn_probability > 0.5"
    )]
    expression: String,
}

/// How many customers a rule selects, from a sample of at most 5,000 customers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AudiencePreviewBody {
    /// Customers of the workspace.
    #[schema(example = 20000)]
    customers: i64,
    /// Customers of the sample.
    #[schema(example = 5000)]
    sampled_customers: u64,
    /// Customers of the sample that the rule selects; null if these or the others are 1 to 4.
    #[schema(example = 103)]
    selected_customers: Option<u64>,
    /// Share of the customers that the rule selects; null as for `selected_customers`, and without
    /// customers.
    #[schema(minimum = 0, maximum = 1, example = 0.0206)]
    share: Option<f64>,
    /// Lower and upper bound of the share: 95 % confidence interval.
    #[schema(example = json!([0.017, 0.0249]))]
    share_interval: Option<[f64; 2]>,
}

/// Preview the size of an audience before it is saved.
///
/// Checks the rule as `PUT /v1/audiences/{name}` does, and evaluates it for a sample of the customers,
/// with the nearest segment of each (without hysteresis). Nothing is stored.
#[utoipa::path(
    post,
    path = "/v1/audiences/{name}/preview",
    tag = "Audiences",
    security(("key" = ["read"])),
    params(AudienceNamePath),
    request_body = PreviewAudienceRequest,
    responses((status = 200, body = AudiencePreviewBody, description = "The preview"))
)]
pub(super) async fn preview_audience(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(name): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<AudiencePreviewBody>, ApiError> {
    let PreviewAudienceRequest { expression } = parse_json(&body)?;
    let trial = state.definitions.audiences.prepare_preview(&name, &expression).await?;
    let preview = heavy_work::run(&state, caller.user(), true, move |_| Ok(trial.run())).await?;
    let share = preview.share();
    Ok(Json(AudiencePreviewBody {
        customers: preview.customers,
        sampled_customers: preview.sampled,
        selected_customers: preview.selected,
        share: share.map(|Proportion { share, .. }| share),
        share_interval: share.map(|Proportion { interval, .. }| interval),
    }))
}
