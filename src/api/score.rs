//! `POST /v1/score`: feature rows in, scores out; no database on the path.

use std::time::Instant;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::blocking::{self, HEAVY_BODY_BYTES};
use crate::api::extract::{Body, Caller, Score};
use crate::api::{ApiError, ApiState};
use crate::domain::feature::Value;
use crate::domain::model::{Direction, Model, Reason, Scratch};
use crate::domain::wire::rows;
use crate::service::ServiceError;
use crate::service::live::{Lineup, Verdict};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Answer, Door};

#[derive(Serialize)]
struct ScoreBody<'l> {
    #[serde(flatten)]
    from: From<'l>,
    #[serde(flatten)]
    score: Scored<'l>,
}

#[derive(Serialize)]
struct ScoresBody<'l> {
    #[serde(flatten)]
    from: From<'l>,
    scores: Vec<Scored<'l>>,
}

/// What the answer was made with; one lineup for all of it.
#[derive(Serialize)]
struct From<'l> {
    model: Option<&'l str>,
    fallback: bool,
    generation: i64,
}

#[derive(Serialize)]
struct Scored<'l> {
    segment: &'l str,
    label: &'l str,
    distance: Option<f32>,
    runner_up: Option<&'l str>,
    margin: Option<f32>,
    confidence: Option<f32>,
    p_value: Option<f64>,
    outlier: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<ReasonBody>>,
}

/// One feature's part in the distance, in the feature's own unit.
#[derive(Serialize)]
struct ReasonBody {
    feature: String,
    unit: String,
    share: f64,
    value: serde_json::Value,
    typical: serde_json::Value,
    direction: &'static str,
}

impl ReasonBody {
    fn new(model: &Model, reason: Reason) -> Self {
        let def = &model.features()[reason.feature];
        Self {
            feature: def.name.to_string(),
            unit: def.unit.to_string(),
            share: reason.share,
            value: value_body(reason.value),
            typical: value_body(reason.typical),
            direction: match reason.direction {
                Direction::Higher => "higher",
                Direction::Lower => "lower",
                Direction::Same => "same",
                Direction::Different => "different",
            },
        }
    }
}

/// A feature's value as JSON; null where it is missing.
pub(super) fn value_body(value: Value) -> serde_json::Value {
    match value {
        Value::Missing => serde_json::Value::Null,
        Value::Number(number) => number.into(),
        Value::Category(text) => text.into_string().into(),
    }
}

pub(super) async fn post_score(
    State(state): State<ApiState>,
    _: Caller<Score>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let heavy = body.len() > HEAVY_BODY_BYTES;
    let json = blocking::run(heavy, move || score(&state, &body)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

fn score(state: &ApiState, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let started = Instant::now();
    let lineup = state.live.lineup();
    let request = rows::parse(body, &lineup.features, state.max_rows)
        .map_err(|error| ApiError::json(&error))?;
    let mut scratch = Scratch::default();
    let mut scores = request.rows.iter().map(|row| {
        let verdict = lineup.score(row, &mut scratch);
        let reasons = match (&lineup.active, &verdict.score) {
            (Some(model), Some(score)) if request.explain => {
                let reasons = model.explain(row, score).into_iter();
                Some(reasons.map(|reason| ReasonBody::new(model, reason)).collect())
            }
            _ => None,
        };
        scored(verdict, reasons)
    });
    let from = from(&lineup);
    let rows = request.rows.len() as u64;
    let json = match scores.next() {
        Some(score) if request.single => serde_json::to_vec(&ScoreBody { from, score }),
        first => {
            let scores = first.into_iter().chain(scores).collect();
            serde_json::to_vec(&ScoresBody { from, scores })
        }
    };
    note_scores(&state.metrics, Door::Stateless, &lineup, rows, started);
    json.map_err(|error| ServiceError::internal(error).into())
}

fn from(lineup: &Lineup) -> From<'_> {
    From {
        model: lineup.active.as_ref().map(|model| model.id().as_str()),
        fallback: lineup.active.is_none(),
        generation: lineup.generation,
    }
}

fn scored(verdict: Verdict<'_>, reasons: Option<Vec<ReasonBody>>) -> Scored<'_> {
    Scored {
        segment: verdict.segment,
        label: verdict.label,
        distance: verdict.score.map(|score| score.distance),
        runner_up: verdict.runner_up,
        margin: verdict.score.map(|score| score.margin()),
        confidence: verdict.score.map(|score| score.confidence()),
        p_value: verdict.score.map(|score| score.p_value),
        outlier: verdict.outlier,
        reasons,
    }
}

/// Counts scores given from one lineup.
pub(super) fn note_scores(
    metrics: &Metrics,
    door: Door,
    lineup: &Lineup,
    rows: u64,
    started: Instant,
) {
    let answer = if lineup.active.is_some() { Answer::Active } else { Answer::Fallback };
    metrics.scoring.scores.add((door, answer), rows);
    metrics.scoring.seconds.observe(started.elapsed().as_secs_f64());
}
