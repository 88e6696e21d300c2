//! Open Inference Protocol, version 2 (KServe): the same scores as `/v1/score`, for clients
//! of that protocol.
//!
//! *Authorization.* Health and server metadata require no key, as probes send none. Model
//! metadata requires the scope `score`: feature names are confidential, and clients that
//! score need them. The model repository requires `read` to list and `train` to change.

mod describe;
mod health;
mod infer;
mod repository;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::{Deserialize, Serialize};

use crate::api::request::Path;
use crate::api::request_layer::{ANY_METHOD, Work};
use crate::api::{ApiError, ApiState, Route, error};
use crate::domain::wire::inference::{AnsweredBy, MODEL_NAME};
use crate::service::scoring::deployment::Lineup;

pub(super) use describe::{OPERATIONS, schemas};

pub(super) fn routes() -> [Route; 15] {
    const MODEL: &str = "/v2/models/{name}";
    [
        ("/v2", &["GET"], get(health::get_server), Work::Health),
        ("/v2/", &["GET"], get(health::get_server), Work::Health),
        ("/v2/health/live", &["GET"], get(health::get_live), Work::Health),
        ("/v2/health/ready", &["GET"], get(health::get_ready), Work::Health),
        (MODEL, &["GET"], get(infer::get_model), Work::Score),
        ("/v2/models/{name}/ready", &["GET"], get(health::get_model_ready), Work::Health),
        ("/v2/models/{name}/infer", &["POST"], post(infer::post_infer), Work::Score),
        ("/v2/models/{name}/versions/{version}", &["GET"], get(infer::get_model), Work::Score),
        (
            "/v2/models/{name}/versions/{version}/ready",
            &["GET"],
            get(health::get_model_ready),
            Work::Health,
        ),
        (
            "/v2/models/{name}/versions/{version}/infer",
            &["POST"],
            post(infer::post_infer),
            Work::Score,
        ),
        ("/v2/repository/index", &["POST"], post(repository::post_index), Work::Manage),
        ("/v2/repository/models/{name}/load", &["POST"], post(repository::post_load), Work::Manage),
        (
            "/v2/repository/models/{name}/versions/{version}/load",
            &["POST"],
            post(repository::post_load),
            Work::Manage,
        ),
        (
            "/v2/repository/models/{name}/unload",
            &["POST"],
            post(repository::post_unload),
            Work::Manage,
        ),
        ("/v2/{*path}", &[ANY_METHOD], any(error::no_such_route), Work::Public),
    ]
}

/// Converts an error to the protocol's shape: one text under `error`.
pub(super) fn in_protocol(mut response: Response) -> Response {
    #[derive(Serialize)]
    struct Failure {
        error: String,
    }
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let failure = Failure { error: error.detail().to_owned() };
    let body = serde_json::to_vec(&failure).unwrap_or_default();
    let (mut head, _) = response.into_parts();
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.remove(header::CONTENT_LENGTH);
    (head, body).into_response()
}

/// The model in the path, which exists, and the optional version, which is not checked yet.
#[derive(Debug)]
struct Addressed {
    version: Option<String>,
}

impl FromRequestParts<ApiState> for Addressed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Names {
            name: String,
            version: Option<String>,
        }
        let Path(names) = Path::<Names>::from_request_parts(parts, state).await?;
        if names.name != MODEL_NAME {
            let what = format!("model `{}`; the only one is `{MODEL_NAME}`", names.name);
            return Err(ApiError::not_found(&what));
        }
        Ok(Self { version: names.version })
    }
}

impl Addressed {
    /// Whether this deployment serves the requested version, if there is one.
    fn is_live(&self, lineup: &Lineup) -> bool {
        self.version.as_deref().is_none_or(|version| version_of(lineup) == Some(version))
    }

    /// Returns 404 unless the version is deployed: no request waits for a model to load.
    fn check_live(&self, lineup: &Lineup) -> Result<(), ApiError> {
        match &self.version {
            Some(version) if !self.is_live(lineup) => {
                let live = version_of(lineup).unwrap_or("the rule-based fallback");
                Err(ApiError::not_found(&format!(
                    "deployed version `{version}`: {live} is deployed; to deploy another version, \
                     POST /v2/repository/models/{MODEL_NAME}/versions/{{version}}/load"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The version of the active model; `None` for the rule-based fallback.
fn version_of(lineup: &Lineup) -> Option<&str> {
    lineup.active.as_ref().map(|model| model.id().as_str())
}

fn answered_by(lineup: &Lineup) -> AnsweredBy {
    lineup.active.as_ref().map_or(AnsweredBy::Fallback, |model| AnsweredBy::Model {
        segments: model.segments().len(),
    })
}
