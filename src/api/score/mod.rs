//! `POST /v1/score`: stateless scoring of feature rows, without the database.

mod answer;
mod body;

use std::time::Instant;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{AuthorizedCaller, RequestBody, Score, heavy_work};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::fault::ValidationFaults;
use crate::domain::feature::{FeatureRow, FeatureSet};
use crate::domain::wire::rows;
use crate::domain::wire::rows::ScoreRequestEnvelope;
use crate::service::ServiceError;
use crate::service::limits::heavy::Cancellation;
use crate::service::scoring::deployment::Deployment;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::{AnsweringModel, ScoringEndpoint};
use answer::ScoreWriter;
pub(super) use body::FeatureValueBody;
use body::{ScoreRequestBody, ScoreResponseBody};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![ApiRoute::new(routes!(score_rows), RouteKind::Score)]
}

/// Score feature rows without a database.
///
/// Each row is scored by the active model, or by the rule-based fallback while there is none.
/// The score of a row under `features` is the response itself; the scores of `rows` are a list,
/// in the order of the rows. All scores of a response are by one deployment. Scoring continues
/// while the database is away. At most `scoring.max_rows` rows.
///
/// `missing_inputs` is the number of inputs that a row lacks. A row without any value is refused,
/// and so is a value outside the bounds of its feature, which `GET /v1/features` lists.
#[utoipa::path(
    post,
    path = "/v1/score",
    tag = "Scores",
    security(("key" = ["score"])),
    request_body = ScoreRequestBody,
    responses((status = 200, body = ScoreResponseBody, description = "The score of each row"))
)]
pub(super) async fn score_rows(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Score>,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let RequestBody { bytes, mut memory, user } = body;
    let is_heavy = bytes.len() > HEAVY_BODY_BYTES;
    let scoring = state.clone();
    let json = heavy_work::run(&state, user, is_heavy, move |cancellation| {
        memory.grow_to(bytes.len() * SCORE_EXPANSION)?;
        let json = score(&scoring, &caller.principal.key_id, &bytes, cancellation)?;
        // The response outlives the body: a slow client may read it for a long time.
        memory.grow_to(bytes.len() + json.capacity())?;
        memory.shrink_to(json.capacity());
        Ok(memory.attach_to(json))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], json.await?).into_response())
}

/// Memory per byte of a body: the body itself, and the capacity of the response.
const SCORE_EXPANSION: usize = 4;

/// Parses a body once and scores each row once, as it is parsed.
fn score(
    state: &ApiState,
    key_id: &str,
    body: &[u8],
    cancellation: &Cancellation,
) -> Result<Vec<u8>, ApiError> {
    let started = Instant::now();
    let live = state.deployments.current();
    let mut writer = None;
    let max_rows = state.body_limits.max_rows;
    let on_row = &mut |row: &FeatureRow, single: Option<&ScoreRequestEnvelope>| {
        let writer = writer.get_or_insert_with(|| score_writer(&live, body, single));
        writer.add(row, single.is_some())
    };
    let envelope = rows::parse_score_request(body, &live.features, max_rows, on_row);
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(error) => {
            if let Some(fault) = writer.and_then(ScoreWriter::into_refused) {
                return Err(ServiceError::Invalid(ValidationFaults(vec![fault])).into());
            }
            let field = rows::invalid_field(body, &live.features, max_rows);
            return Err(ApiError::from_json_at(&field, &error));
        }
    };
    if cancellation.is_cancelled() {
        return Err(ApiError::cancelled());
    }
    let writer = writer.unwrap_or_else(|| ScoreWriter::new(&live, false, None, body.len()));
    let deployment = writer.deployment();
    let (json, tally) = writer.finish().map_err(ServiceError::internal)?;
    record_scores(
        &state.metrics,
        ScoringEndpoint::Stateless,
        deployment,
        envelope.rows as u64,
        started,
    );
    tally.publish_for_key(key_id);
    Ok(json)
}

/// The writer of a response, created with its first row. A single row comes with the options
/// of its request, and a canary may serve its customer. The rows of a list have no customer.
fn score_writer<'l>(
    live: &'l Deployment,
    body: &[u8],
    single: Option<&ScoreRequestEnvelope>,
) -> ScoreWriter<'l> {
    let Some(ScoreRequestEnvelope { wants_explanation, customer, .. }) = single else {
        let is_explained = is_explained_list(body, &live.features);
        return ScoreWriter::new(live, is_explained, None, body.len());
    };
    let deployment = customer.as_ref().map_or(live, |customer| live.for_customer(customer));
    ScoreWriter::new(deployment, *wants_explanation, customer.clone(), body.len())
}

/// Whether a request with a list of rows has the option `explain`. The option may follow the
/// list, but rows are scored as they are parsed, so it must be known before.
///
/// Every option is before the first `[` or after the last `]`: only a `customer_id` could
/// contain brackets, and the parser rejects `customer_id` beside a list.
fn is_explained_list(body: &[u8], features: &FeatureSet) -> bool {
    let start = body.iter().position(|byte| *byte == b'[').unwrap_or(body.len());
    let end = body.iter().rposition(|byte| *byte == b']').map_or(body.len(), |last| last + 1);
    let (head, tail) = (&body[..start], &body[end..]);
    // Without an option only `{"rows":` and `}` remain, so that most requests end here.
    if !head.contains(&b',') && !tail.contains(&b',') {
        return false;
    }
    let options = [head, b"[]", tail].concat();
    rows::parse_score_request(&options, features, 0, &mut |_, _| Ok(()))
        .is_ok_and(|options| options.wants_explanation)
}

/// Records scores of one deployment in the metrics.
pub(super) fn record_scores(
    metrics: &ServiceMetrics,
    endpoint: ScoringEndpoint,
    deployment: &Deployment,
    rows: u64,
    started: Instant,
) {
    let answer =
        if deployment.active.is_some() { AnsweringModel::Active } else { AnsweringModel::Fallback };
    metrics.scoring.scores.add((endpoint, answer), rows);
    metrics.scoring.seconds.observe(started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_explain_of_a_list_is_found_before_and_after_it() {
        let features = include_str!("../../../tests/data/segment_features.toml");
        let features = FeatureSet::parse(features).unwrap();
        let is_explained = |body: &str| is_explained_list(body.as_bytes(), &features);
        assert!(is_explained(r#"{"explain": true, "rows": [{"a": "["}]}"#));
        assert!(is_explained(r#"{"rows": [{"a": "]"}, {}], "explain": true}"#));
        assert!(is_explained(r#"{"customer_id": null, "rows": [], "\u0065xplain": true}"#));
        assert!(!is_explained(r#"{"rows": [{"explain": true, "b": 1}, {}]}"#));
        assert!(!is_explained(r#"{"explain": true, "rows": [], "explain": false}"#));
        assert!(!is_explained(r#"{"explain": true, "rows": [{}"#));
        assert!(!is_explained(r#"{"explain": true}"#));
    }
}
