//! `POST /v1/score`: stateless scoring of feature rows, without the database.

mod answer;

use std::time::Instant;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{Caller, Payload, Score, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::feature::FeatureRow;
use crate::domain::wire::rows;
use crate::service::ServiceError;
use crate::service::limits::heavy::Cancellation;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::observations::Tally;
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Answer, Door};

pub(super) use answer::value_body;

pub(super) async fn post_score(
    State(state): State<ApiState>,
    caller: Caller<Score>,
    payload: Payload,
) -> Result<Response, ApiError> {
    let Payload { bytes, mut memory, user } = payload;
    let heavy = bytes.len() > HEAVY_BODY_BYTES;
    let scoring = state.clone();
    let work = move |cancellation: &Cancellation| {
        memory.cover(bytes.len() * SCORE_EXPANSION)?;
        let json = score(&scoring, &caller.principal.key_id, &bytes, cancellation)?;
        // The response outlives the body: a slow client may read it for a long time.
        memory.cover(bytes.len() + json.capacity())?;
        memory.shrink_to(json.capacity());
        Ok(memory.hold(json))
    };
    let json = heavy_work::run(&state, user, heavy, work).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Memory per byte of a body: the body itself, and the capacity of the response.
const SCORE_EXPANSION: usize = 4;

fn score(
    state: &ApiState,
    key_id: &str,
    body: &[u8],
    cancellation: &Cancellation,
) -> Result<Vec<u8>, ApiError> {
    let started = Instant::now();
    let live = state.live.lineup();
    let (asked, answered) = answer(state, &live, body, false)?;
    if cancellation.is_cancelled() {
        return Err(ApiError::given_up());
    }
    // `explain` and `customer_id` may follow the rows, so they are known only now.
    let lineup = asked.customer.as_ref().map_or(&**live, |customer| live.of(customer));
    let is_answered = !asked.explain && lineup.generation == live.generation;
    let (asked, (json, tally)) = if is_answered {
        (asked, answered)
    } else {
        let explain = asked.explain;
        answer(state, lineup, body, explain)?
    };
    note_scores(&state.metrics, Door::Stateless, lineup, asked.rows as u64, started);
    tally.hand_over_for(key_id);
    Ok(json)
}

/// Parses and scores a body. Returns the options of the request, the JSON and its counts.
fn answer(
    state: &ApiState,
    lineup: &Lineup,
    body: &[u8],
    explain: bool,
) -> Result<(rows::Envelope, (Vec<u8>, Tally)), ApiError> {
    let mut scores = answer::Scores::new(lineup, explain, body.len());
    let on_row = &mut |row: &FeatureRow, bare| scores.add(row, bare);
    let envelope = rows::parse(body, &lineup.features, state.bounds.max_rows, on_row)
        .map_err(|error| ApiError::json(&error))?;
    let answer = scores.finish().map_err(ServiceError::internal)?;
    Ok((envelope, answer))
}

/// Records scores of one deployment in the metrics.
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
