//! What handlers take from a request: who calls, the body, a page.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::{ApiError, ApiState, body};
use crate::domain::access::{Principal, Scope};
use crate::domain::fault::Faults;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::access::Refusal;

/// Who calls, proved to have the scope `S`.
#[derive(Debug)]
pub(super) struct Caller<S> {
    pub(super) principal: Arc<Principal>,
    scope: PhantomData<S>,
}

pub(super) trait Needs: Send + Sync {
    const SCOPE: Scope;
}

macro_rules! needs {
    ($($name:ident)+) => {$(
        #[derive(Debug)]
        pub(super) struct $name;
        impl Needs for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )+};
}
needs!(Ingest Score Read Train Admin);

impl<S: Needs> FromRequestParts<ApiState> for Caller<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        // Found by the admission layer, which let the request in.
        match parts.extensions.get::<Arc<Principal>>() {
            Some(principal) => Self::with_scope(Arc::clone(principal)),
            None => Self::with_scope(authenticate(state, &parts.headers)?),
        }
    }
}

impl<S: Needs> Caller<S> {
    /// Whose key this is, if it has the scope.
    pub(super) fn prove(state: &ApiState, key: &str) -> Result<Self, ApiError> {
        Self::with_scope(check(state, key)?)
    }

    pub(super) fn with_scope(principal: Arc<Principal>) -> Result<Self, ApiError> {
        if !principal.may(S::SCOPE) {
            return Err(ApiError::forbidden(format!("the key lacks the scope `{}`", S::SCOPE)));
        }
        Ok(Self { principal, scope: PhantomData })
    }
}

/// The principal of the key in the head.
pub(super) fn authenticate(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Arc<Principal>, ApiError> {
    authenticate_if_given(state, headers)?.ok_or_else(|| {
        ApiError::unauthenticated(
            "send `Authorization: Bearer <key>`; `segmentd keys create` makes one",
        )
    })
}

/// As [`authenticate`]; `None` if the head has no key.
pub(super) fn authenticate_if_given(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Option<Arc<Principal>>, ApiError> {
    key_in(headers).map(|key| check(state, &key)).transpose()
}

fn check(state: &ApiState, key: &str) -> Result<Arc<Principal>, ApiError> {
    state.access.check(key).map_err(|refusal| match refusal {
        Refusal::NotReady => ApiError::unavailable("the keys are being loaded", 1),
        Refusal::Unknown => ApiError::unauthenticated("the key is not valid"),
    })
}

/// The key in `Authorization`: as Bearer, or as the user of Basic (what
/// `curl -u "$KEY:"` sends).
pub(super) fn key_in(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("Bearer") {
        return Some(credentials.trim().into());
    }
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let user = pair.split_once(':').map_or(&*pair, |(user, _)| user);
    Some(user.to_owned().into())
}

/// The variable parts of the path. As axum's extractor, but a path that cannot be
/// decoded is answered as a problem document.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|_| {
            let detail = "the path is not valid: each part must be percent-encoded UTF-8";
            ApiError::new(StatusCode::BAD_REQUEST, "malformed-path", detail)
        })
    }
}

/// What is asked for after the `?`.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if percent_decode_str(query).decode_utf8().is_err() {
            let detail = "the query is not valid: it must be percent-encoded UTF-8";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "malformed-query", detail));
        }
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|error| ServiceError::Invalid(Faults::one("query", error.body_text())).into())
    }
}

/// Part of a list, newest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) before: Option<Timestamp>,
    pub(super) limit: i64,
}

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

impl FromRequestParts<ApiState> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            before: Option<Timestamp>,
            limit: Option<i64>,
        }
        let Asked(raw) = Asked::<Raw>::from_request_parts(parts, state).await?;
        let limit = limit(raw.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
        Ok(Self { before: raw.before, limit })
    }
}

/// How many entries of a list are asked for.
pub(super) fn limit(asked: Option<i64>, default: i64, most: i64) -> Result<i64, ApiError> {
    let limit = asked.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let range = format!("must be from 1 to {most}");
    Err(ServiceError::Invalid(Faults::one("limit", range)).into())
}

/// The whole body, at most as large as configured.
#[derive(Debug)]
pub(super) struct Body(pub(super) bytes::Bytes);

impl FromRequest<ApiState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let (most, pace) = (state.max_body_bytes, state.body_pace);
        body::read(request.into_body(), most, pace, &state.metrics).await.map(Self)
    }
}

/// Reads JSON into `T`, told apart into malformed (400) and wrong (422).
pub(super) fn json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::json(&error))
}
