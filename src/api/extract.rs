//! What handlers take from a request: who calls, the body, a page.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::{ApiError, ApiState};
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
needs!(Track Ingest Score Read Replay Train Admin);

impl<S: Needs> FromRequestParts<ApiState> for Caller<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let key = key_in(&parts.headers).ok_or_else(|| {
            ApiError::unauthenticated(
                "send `Authorization: Bearer <key>`; `segmentd keys create` makes one",
            )
        })?;
        Self::prove(state, &key)
    }
}

impl<S: Needs> Caller<S> {
    /// Whose key this is, if it has the scope.
    pub(super) fn prove(state: &ApiState, key: &str) -> Result<Self, ApiError> {
        let principal = state.access.check(key).map_err(|refusal| match refusal {
            Refusal::NotReady => ApiError::unavailable("the keys are being loaded", 1),
            Refusal::Unknown => ApiError::unauthenticated("the key is not valid"),
        })?;
        if !principal.may(S::SCOPE) {
            return Err(ApiError::forbidden(format!("the key lacks the scope `{}`", S::SCOPE)));
        }
        Ok(Self { principal, scope: PhantomData })
    }
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

/// What is asked for after the `?`.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
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

impl axum::extract::FromRequest<ApiState> for Body {
    type Rejection = ApiError;

    async fn from_request(
        request: axum::extract::Request,
        state: &ApiState,
    ) -> Result<Self, ApiError> {
        let most = state.max_body_bytes;
        let mut body = request.into_body();
        match Limited::new(&mut body, most).collect().await {
            Ok(whole) => Ok(Self(whole.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                linger(body).await;
                Err(ApiError::too_large(format!("the body is larger than {most} bytes")))
            }
            Err(_) => Err(ApiError::new(
                axum::http::StatusCode::BAD_REQUEST,
                "broken-body",
                "the body ended early",
            )),
        }
    }
}

/// So much of a refused body is read, and thrown away.
const LINGER_BYTES: usize = 1024 * 1024;

/// Who is still sending when the connection is closed sees it broken, not the
/// answer.
async fn linger(mut body: axum::body::Body) {
    let mut left = LINGER_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Reads JSON into `T`, told apart into malformed (400) and wrong (422).
pub(super) fn json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::json(&error))
}
