//! Open Inference Protocol, version 2 (KServe): the same scores as `/v1/score`, for clients
//! of that protocol.
//!
//! *Authorization.* Health and server metadata require no key, as probes send none. Model
//! metadata requires the scope `score`: feature names are confidential, and clients that
//! score need them. The model repository requires `read` to list and `train` to change.

mod body;
mod health;
mod infer;
mod metadata;
mod repository;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::request::PathParameters;
use crate::api::request_layer::{ANY_METHOD, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState, error};
use crate::domain::wire::inference::{AnsweringScorer, MODEL_NAME};
use crate::service::scoring::deployment::Deployment;

/// The path parameter of the model, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
struct ModelNamePath {
    /// Name of the model: always `segments`.
    #[param(example = "segments")]
    name: String,
}

/// The path parameters of a version of the model, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes parameters only")]
struct ModelVersionPath {
    /// Name of the model: always `segments`.
    #[param(example = "segments")]
    name: String,
    /// A model id.
    #[param(example = "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c")]
    version: String,
}

pub(super) fn routes() -> Vec<ApiRoute> {
    let metadata = get(health::get_server_metadata);
    vec![
        ApiRoute::new(routes!(health::get_server_metadata), RouteKind::Health),
        ApiRoute::undescribed("/v2/", &["GET"], metadata, RouteKind::Health),
        ApiRoute::new(routes!(health::check_server_live), RouteKind::Health),
        ApiRoute::new(routes!(health::check_server_ready), RouteKind::Health),
        ApiRoute::new(routes!(infer::get_model_metadata), RouteKind::Score),
        ApiRoute::new(routes!(infer::get_model_version_metadata), RouteKind::Score),
        ApiRoute::new(routes!(health::check_model_ready), RouteKind::Health),
        ApiRoute::new(routes!(health::check_model_version_ready), RouteKind::Health),
        ApiRoute::new(routes!(infer::infer), RouteKind::Score),
        ApiRoute::new(routes!(infer::infer_version), RouteKind::Score),
        ApiRoute::new(routes!(repository::list_model_versions), RouteKind::Manage),
        ApiRoute::new(routes!(repository::load_model), RouteKind::Manage),
        ApiRoute::new(routes!(repository::load_model_version), RouteKind::Manage),
        ApiRoute::new(routes!(repository::unload_model), RouteKind::Manage),
        ApiRoute::undescribed(
            "/v2/{*path}",
            &[ANY_METHOD],
            any(error::no_such_route),
            RouteKind::Public,
        ),
    ]
}

/// An error of the Open Inference Protocol.
#[derive(Serialize, ToSchema)]
pub(super) struct InferenceErrorBody {
    /// The fault, and how to correct it.
    #[schema(example = "inputs: is required")]
    error: String,
}

/// Converts an error to the protocol's shape: one text under `error`.
pub(super) fn convert_error(mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let failure = InferenceErrorBody { error: error.detail().to_owned() };
    let body = serde_json::to_vec(&failure).unwrap_or_default();
    let (mut head, _) = response.into_parts();
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.remove(header::CONTENT_LENGTH);
    (head, body).into_response()
}

/// The model in the path, which exists, and the optional version, which is not checked yet.
#[derive(Debug)]
struct ModelPath {
    version: Option<String>,
}

impl FromRequestParts<ApiState> for ModelPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct PathNames {
            name: String,
            version: Option<String>,
        }
        let PathParameters(names) =
            PathParameters::<PathNames>::from_request_parts(parts, state).await?;
        if names.name != MODEL_NAME {
            let what = format!("model `{}`; the only one is `{MODEL_NAME}`", names.name);
            return Err(ApiError::not_found(&what));
        }
        Ok(Self { version: names.version })
    }
}

impl ModelPath {
    /// Whether this deployment serves the requested version, if there is one.
    fn is_deployed_in(&self, deployment: &Deployment) -> bool {
        self.version.as_deref().is_none_or(|version| deployed_version(deployment) == Some(version))
    }

    /// Returns 404 unless the version is deployed: no request waits for a model to load.
    fn check_deployed_in(&self, deployment: &Deployment) -> Result<(), ApiError> {
        match &self.version {
            Some(version) if !self.is_deployed_in(deployment) => {
                let live = deployed_version(deployment).unwrap_or("the rule-based fallback");
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
fn deployed_version(deployment: &Deployment) -> Option<&str> {
    deployment.active.as_ref().map(|model| model.id().as_str())
}

fn answered_by(deployment: &Deployment) -> AnsweringScorer {
    deployment.active.as_ref().map_or(AnsweringScorer::Fallback, |model| AnsweringScorer::Model {
        segments: model.segments().len(),
    })
}
