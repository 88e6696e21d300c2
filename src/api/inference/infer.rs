//! Inference and model metadata: feature tensors in, score tensors out, without the
//! database.

use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::inference::ModelNamePath;
use crate::api::inference::ModelVersionPath;
use crate::api::inference::body::{BinaryTensorsBody, InferenceRequestBody, InferenceResponseBody};
use crate::api::inference::metadata::ModelMetadataBody;
use crate::api::inference::{ModelPath, answered_by, deployed_version};
use crate::api::request::{AuthorizedCaller, RequestBody, Score, heavy_work};
use crate::api::score::record_scores;
use crate::api::{ApiError, ApiState};
use crate::domain::drift::ScoreSource;
use crate::domain::model::ScoringScratch;
use crate::domain::wire::inference::{
    self, InferenceRequestError, InferenceResponse, ScoredOutputRow, SerializedResponse,
};
use crate::service::ServiceError;
use crate::service::scoring::deployment::RowScore;
use crate::service::scoring::observations::BatchCounts;
use crate::telemetry::labels::ScoringEndpoint;

/// Header of the binary tensor data extension: the length of the JSON before the data.
const JSON_BYTES: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Memory of one value of one row: parsed, and in the response.
const VALUE_BYTES: usize = 128;

/// Size above which a body blocks a thread for more than half a millisecond: tensors without
/// feature names pack several hundred rows into it.
const HEAVY_BODY_BYTES: usize = 4 * 1024;

/// Get the inputs and outputs of the model.
#[utoipa::path(
    get,
    path = "/v2/models/{name}",
    tag = "Open Inference Protocol",
    security(("key" = ["score"])),
    params(ModelNamePath),
    responses(
        (status = 200, body = ModelMetadataBody<'_>, description = "Inputs and outputs"),
        (status = 404, description = "There is no such model"),
    )
)]
pub(super) async fn get_model_metadata(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Score>,
    model_path: ModelPath,
) -> Result<Response, ApiError> {
    metadata_of(&state, &model_path)
}

/// Get the inputs and outputs of a deployed version.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/versions/{version}",
    tag = "Open Inference Protocol",
    security(("key" = ["score"])),
    params(
        ModelVersionPath,
    ),
    responses(
        (status = 200, body = ModelMetadataBody<'_>, description = "Inputs and outputs"),
        (status = 404, description = "There is no such model, or the version is not deployed"),
    )
)]
pub(super) async fn get_model_version_metadata(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Score>,
    model_path: ModelPath,
) -> Result<Response, ApiError> {
    metadata_of(&state, &model_path)
}

fn metadata_of(state: &ApiState, model_path: &ModelPath) -> Result<Response, ApiError> {
    let deployment = state.deployments.current();
    model_path.check_deployed_in(&deployment)?;
    let version = deployment.active.as_ref().map(|model| model.id());
    let metadata = ModelMetadataBody::new(
        &deployment.features,
        version,
        answered_by(&deployment),
        state.body_limits.max_rows,
    );
    Ok(axum::Json(metadata).into_response())
}

/// Score rows as tensors, without a database.
///
/// Binary tensor data follows the JSON if the header `Inference-Header-Content-Length` gives the
/// length of the JSON, in the request and in the response. While the fallback answers, outputs
/// that need a distance are left out. At most `scoring.max_rows` rows.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/infer",
    tag = "Open Inference Protocol",
    security(("key" = ["score"])),
    params(
        ModelNamePath,
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "Number of bytes of the JSON, if binary data follows it"),
    ),
    request_body(
        content((InferenceRequestBody = "application/json"), (BinaryTensorsBody = "application/octet-stream")),
        description = "JSON, or JSON and binary data",
    ),
    responses(
        (
            status = 200,
            content((InferenceResponseBody = "application/json"), (BinaryTensorsBody = "application/octet-stream")),
            description = "JSON, or JSON and binary data if a binary output is requested",
            headers(("Inference-Header-Content-Length" = u64, description = "Number of bytes of the JSON, if binary data follows it")),
        ),
        (status = 404, description = "There is no such model"),
    )
)]
pub(super) async fn infer(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Score>,
    model_path: ModelPath,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, ApiError> {
    answer(state, caller, model_path, headers, body).await
}

/// Score rows as tensors by a deployed version.
///
/// As without a version.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/versions/{version}/infer",
    tag = "Open Inference Protocol",
    security(("key" = ["score"])),
    params(
        ModelVersionPath,
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "Number of bytes of the JSON, if binary data follows it"),
    ),
    request_body(
        content((InferenceRequestBody = "application/json"), (BinaryTensorsBody = "application/octet-stream")),
        description = "JSON, or JSON and binary data",
    ),
    responses(
        (
            status = 200,
            content((InferenceResponseBody = "application/json"), (BinaryTensorsBody = "application/octet-stream")),
            description = "JSON, or JSON and binary data if a binary output is requested",
            headers(("Inference-Header-Content-Length" = u64, description = "Number of bytes of the JSON, if binary data follows it")),
        ),
        (status = 404, description = "There is no such model, or the version is not deployed"),
    )
)]
pub(super) async fn infer_version(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Score>,
    model_path: ModelPath,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, ApiError> {
    answer(state, caller, model_path, headers, body).await
}

async fn answer(
    state: ApiState,
    caller: AuthorizedCaller<Score>,
    model_path: ModelPath,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let json_bytes = header_json_bytes(&headers)?;
    let RequestBody { bytes, mut memory, user } = body;
    let is_heavy = bytes.len() > HEAVY_BODY_BYTES;
    let inferring = state.clone();
    let response = heavy_work::run(&state, user, is_heavy, move |_| {
        let row_bytes = inferring.deployments.current().features.features().len() * VALUE_BYTES;
        memory.grow_to(2 * bytes.len() + inferring.body_limits.max_rows * row_bytes)?;
        let (written, tally) = score_request(&inferring, &model_path, json_bytes, &bytes)?;
        tally.publish_for_key(&caller.principal.key_id);
        memory.shrink_to(written.body.capacity());
        Ok((memory.attach_to(written.body), written.json_bytes))
    });
    let (body, json_bytes) = response.await?;
    Ok(match json_bytes {
        None => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Some(bytes) => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            (kind, [(JSON_BYTES, bytes.to_string())], body).into_response()
        }
    })
}

/// The length of the JSON before binary data; `None` if the body is JSON only.
fn header_json_bytes(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(JSON_BYTES) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        let problem = "Inference-Header-Content-Length must be the length of the JSON in bytes";
        ApiError::new(StatusCode::BAD_REQUEST, "malformed-header", problem)
    })
}

/// Scores the request. Returns the response and the drift counts of its scores.
fn score_request(
    state: &ApiState,
    model_path: &ModelPath,
    json_bytes: Option<usize>,
    body: &[u8],
) -> Result<(SerializedResponse, BatchCounts), ApiError> {
    let started = Instant::now();
    let deployment = state.deployments.current();
    model_path.check_deployed_in(&deployment)?;
    let request =
        inference::read(body, json_bytes, &deployment.features, state.body_limits.max_rows)?;
    let (mut scratch, mut tally) = (ScoringScratch::default(), BatchCounts::new(ScoreSource::Rows));
    let mut rows = Vec::with_capacity(request.rows.len());
    for (index, row) in request.rows.iter().enumerate() {
        let inputs = deployment.check_inputs(row);
        if inputs.is_empty {
            let problem = deployment.empty_row_problem();
            return Err(ApiError::invalid("inputs", format!("row {index} {problem}")));
        }
        let verdict = deployment.score_row(row, &mut scratch);
        deployment.count_score(&mut tally, row, &verdict, None);
        rows.push(ScoredOutputRow { missing_inputs: inputs.missing, ..score_tensors(&verdict) });
    }
    let reply = InferenceResponse {
        id: request.id,
        version: deployed_version(&deployment),
        by: answered_by(&deployment),
        generation: deployment.generation,
        outputs: &request.outputs,
        rows: &rows,
    };
    let written = reply.serialize_response().map_err(ServiceError::internal)?;
    let count = rows.len() as u64;
    record_scores(&state.metrics, ScoringEndpoint::Inference, &deployment, count, started);
    Ok((written, tally))
}

fn score_tensors<'l>(verdict: &RowScore<'l>) -> ScoredOutputRow<'l> {
    ScoredOutputRow {
        segment_index: verdict.segment_index,
        segment_id: verdict.segment_id,
        segment_name: verdict.segment_name,
        runner_up_segment_id: verdict.runner_up_segment_id,
        score: verdict.score,
        outlier: verdict.is_outlier,
        missing_inputs: 0,
    }
}

impl From<InferenceRequestError> for ApiError {
    fn from(error: InferenceRequestError) -> Self {
        match error {
            InferenceRequestError::Json(error) => Self::from_json(&error),
            InferenceRequestError::Faults(faults) => ServiceError::Invalid(faults).into(),
        }
    }
}
