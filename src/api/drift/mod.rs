//! `GET /v1/drift…`: scored rows compared with the model's drift baseline, and churn.

mod churn;
mod features;
mod findings;
mod history;
mod report;
mod segments;
mod statistics;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::models::parse_model_id;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::drift::ScoreSource;
use crate::service::drift::{DriftPeriod, DriftQuery, MAX_WINDOW_HOURS};

pub(super) fn routes() -> Vec<ApiRoute> {
    let routes = [
        routes!(report::get_drift_report),
        routes!(history::get_drift_history),
        routes!(churn::get_churn),
        routes!(get_drift_picture),
    ];
    routes.into_iter().map(|routes| ApiRoute::new(routes, RouteKind::Manage)).collect()
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DriftReportQuery {
    /// Number of hours, including the one in progress; default `drift.window_hours`.
    #[param(minimum = 1, maximum = 2208)]
    hours: Option<u32>,
    /// Id of a model that served in this period; default the active model.
    model_id: Option<String>,
    /// The scores to compare; default `rows`.
    #[serde(default)]
    #[param(inline)]
    source: DriftSource,
}

/// Scores that are compared with training. `rows`: rows of scoring requests. `events`: customers
/// with new events, which are the active ones and differ for that reason. `customers`: a sample
/// of the stored customers each hour, each at most once a day, as in training. `all`: `rows` and
/// `events`.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DriftSource {
    #[default]
    Rows,
    Events,
    Customers,
    All,
}

impl DriftSource {
    fn score_source(self) -> Option<ScoreSource> {
        match self {
            Self::Rows => Some(ScoreSource::Rows),
            Self::Events => Some(ScoreSource::Events),
            Self::Customers => Some(ScoreSource::Customers),
            Self::All => None,
        }
    }
}

impl DriftReportQuery {
    fn parse(&self) -> Result<DriftQuery, ApiError> {
        check_hours(self.hours)?;
        let model = self.model_id.as_deref().map(parse_model_id).transpose()?;
        let period = self.hours.map_or(DriftPeriod::ConfiguredHours, DriftPeriod::Hours);
        Ok(DriftQuery { model, source: self.source.score_source(), period })
    }
}

fn check_hours(hours: Option<u32>) -> Result<(), ApiError> {
    if hours.is_some_and(|hours| !(1..=MAX_WINDOW_HOURS).contains(&hours)) {
        let range = format!("must be from 1 to {MAX_WINDOW_HOURS}");
        return Err(ApiError::invalid("hours", range));
    }
    Ok(())
}

/// Draw a feature at training and now.
///
/// An SVG without scripts.
#[utoipa::path(
    get,
    path = "/v1/drift/features/{name}/picture.svg",
    tag = "Drift",
    security(("key" = ["read"])),
    params(("name" = String, Path, description = "Name of the feature"), DriftReportQuery),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml", description = "The picture"),
        (status = 404, description = "The feature is not among those compared, or there is no such model"),
        (status = 409, description = "No model is active"),
    )
)]
async fn get_drift_picture(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<DriftReportQuery>,
) -> Result<Response, ApiError> {
    let picture = state.drift.draw_picture(&query.parse()?, &name).await?;
    Ok(html_page::svg(picture.svg))
}
