//! Inference and model metadata: feature tensors in, score tensors out, without the
//! database.

use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::inference::{Addressed, answered_by, version_of};
use crate::api::request::{Caller, Payload, Score, heavy_work};
use crate::api::score::note_scores;
use crate::api::{ApiError, ApiState};
use crate::domain::drift::Source;
use crate::domain::model::Scratch;
use crate::domain::wire::inference::{self, Metadata, Reply, Scored, Unreadable, Written};
use crate::service::ServiceError;
use crate::service::limits::heavy::Cancellation;
use crate::service::scoring::deployment::Verdict;
use crate::service::scoring::observations::Tally;
use crate::telemetry::labels::Door;

/// Header of the binary tensor data extension: the length of the JSON before the data.
const JSON_BYTES: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Memory of one value of one row: parsed, and in the response.
const VALUE_BYTES: usize = 128;

/// Size above which a body blocks a thread for more than half a millisecond: tensors without
/// feature names pack several hundred rows into it.
const HEAVY_BODY_BYTES: usize = 4 * 1024;

pub(super) async fn get_model(
    State(state): State<ApiState>,
    _: Caller<Score>,
    addressed: Addressed,
) -> Result<Response, ApiError> {
    let lineup = state.live.lineup();
    addressed.check_live(&lineup)?;
    let version = lineup.active.as_ref().map(|model| model.id());
    let metadata =
        Metadata::new(&lineup.features, version, answered_by(&lineup), state.bounds.max_rows);
    Ok(axum::Json(metadata).into_response())
}

pub(super) async fn post_infer(
    State(state): State<ApiState>,
    caller: Caller<Score>,
    addressed: Addressed,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, ApiError> {
    let json_bytes = json_bytes(&headers)?;
    let Payload { bytes, mut memory, user } = payload;
    let heavy = bytes.len() > HEAVY_BODY_BYTES;
    let inferring = state.clone();
    let work = move |_: &Cancellation| {
        let row_bytes = inferring.live.lineup().features.features().len() * VALUE_BYTES;
        memory.cover(2 * bytes.len() + inferring.bounds.max_rows * row_bytes)?;
        let (written, tally) = infer(&inferring, &addressed, json_bytes, &bytes)?;
        tally.hand_over_for(&caller.principal.key_id);
        memory.shrink_to(written.body.capacity());
        Ok((memory.hold(written.body), written.json_bytes))
    };
    let (body, json_bytes) = heavy_work::run(&state, user, heavy, work).await?;
    Ok(match json_bytes {
        None => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Some(bytes) => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            (kind, [(JSON_BYTES, bytes.to_string())], body).into_response()
        }
    })
}

fn json_bytes(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(JSON_BYTES) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        let problem = "Inference-Header-Content-Length must be the length of the JSON in bytes";
        ApiError::new(StatusCode::BAD_REQUEST, "malformed-header", problem)
    })
}

/// Scores the request. Returns the response and the drift counts of its scores.
fn infer(
    state: &ApiState,
    addressed: &Addressed,
    json_bytes: Option<usize>,
    body: &[u8],
) -> Result<(Written, Tally), ApiError> {
    let started = Instant::now();
    let lineup = state.live.lineup();
    addressed.check_live(&lineup)?;
    let request = inference::read(body, json_bytes, &lineup.features, state.bounds.max_rows)?;
    let (mut scratch, mut tally) = (Scratch::default(), Tally::of(Source::Rows));
    let score = |row| {
        let verdict = lineup.score(row, &mut scratch);
        lineup.note(&mut tally, row, &verdict);
        scored(&verdict)
    };
    let rows: Vec<Scored<'_>> = request.rows.iter().map(score).collect();
    let reply = Reply {
        id: request.id,
        version: version_of(&lineup),
        by: answered_by(&lineup),
        generation: lineup.generation,
        outputs: &request.outputs,
        rows: &rows,
    };
    let written = reply.write().map_err(ServiceError::internal)?;
    let count = rows.len() as u64;
    note_scores(&state.metrics, Door::Inference, &lineup, count, started);
    Ok((written, tally))
}

fn scored<'l>(verdict: &Verdict<'l>) -> Scored<'l> {
    Scored {
        segment: verdict.index,
        key: verdict.segment,
        label: verdict.label,
        runner_up: verdict.runner_up,
        score: verdict.score,
        outlier: verdict.outlier,
    }
}

impl From<Unreadable> for ApiError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Json(error) => Self::json(&error),
            Unreadable::Faults(faults) => ServiceError::Invalid(faults).into(),
        }
    }
}
