//! Path and query parameters.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::api::json_fault::query_fault;
use crate::api::request::storable;
use crate::api::{ApiError, ApiState};
use crate::service::ServiceError;

/// Path parameters. Like axum's extractor, but a path that cannot be decoded is answered
/// with a problem document.
#[derive(Debug)]
pub(crate) struct PathParameters<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        storable::check_path(parts, state).await.map_err(ServiceError::Invalid)?;
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|_| {
            let detail = "the path is not valid: each part must be percent-encoded UTF-8";
            ApiError::new(StatusCode::BAD_REQUEST, "malformed-path", detail)
        })
    }
}

/// Query parameters, checked for storable text.
#[derive(Debug)]
pub(crate) struct QueryParameters<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for QueryParameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if percent_decode_str(query).decode_utf8().is_err() {
            let detail = "the query is not valid: it must be percent-encoded UTF-8";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "malformed-query", detail));
        }
        storable::check_query(query).map_err(ServiceError::Invalid)?;
        let pairs = form_urlencoded::parse(query.as_bytes());
        serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
            .map(Self)
            .map_err(|error| {
                let fault = query_fault(&error.path().to_string(), &error.inner().to_string());
                ServiceError::from(fault).into()
            })
    }
}
