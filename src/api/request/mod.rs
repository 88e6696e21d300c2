//! Extractors: the authenticated caller, path and query parameters, body and page.

pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod content_encoding;
pub(crate) mod heavy_work;
pub(crate) mod lines;
pub mod slow_reads;
pub(crate) mod storable;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::{ApiError, ApiState};
use crate::domain::access::{Principal, Scope};
use crate::domain::fault::Faults;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::Refusal;
use crate::service::limits::memory;
use crate::service::limits::memory::{Reservation, VALUE_EXPANSION};
use crate::service::limits::resource_user::ResourceUser;

/// The authenticated caller; its key has the scope `S`.
#[derive(Debug)]
pub(crate) struct Caller<S> {
    pub(crate) principal: Arc<Principal>,
    scope: PhantomData<S>,
}

/// A required scope, as a type parameter of [`Caller`].
pub(crate) trait Needs: Send + Sync {
    const SCOPE: Scope;
}

macro_rules! needs {
    ($($name:ident)+) => {$(
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Needs for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )+};
}
needs!(Track Ingest Score Read Replay Train Admin);

impl<S: Needs> FromRequestParts<ApiState> for Caller<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        // Inserted by admission control, which has authenticated the request already.
        match parts.extensions.get::<Arc<Principal>>() {
            Some(principal) => Self::with_scope(Arc::clone(principal)),
            None => Self::with_scope(authenticate(state, &parts.headers)?),
        }
    }
}

impl<S: Needs> Caller<S> {
    /// The key as a unit of fair sharing of memory and threads.
    pub(crate) fn user(&self) -> ResourceUser {
        ResourceUser::of_key(&self.principal.key_id)
    }

    /// Authenticates the key and checks its scope.
    pub(crate) fn prove(state: &ApiState, key: &str) -> Result<Self, ApiError> {
        Self::with_scope(check(state, key)?)
    }

    pub(crate) fn with_scope(principal: Arc<Principal>) -> Result<Self, ApiError> {
        if !principal.may(S::SCOPE) {
            return Err(ApiError::forbidden(format!("the key lacks the scope `{}`", S::SCOPE)));
        }
        Ok(Self { principal, scope: PhantomData })
    }
}

/// Authenticates the key in the `Authorization` header.
pub(crate) fn authenticate(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Arc<Principal>, ApiError> {
    authenticate_if_given(state, headers)?.ok_or_else(|| {
        ApiError::unauthenticated(
            "send `Authorization: Bearer <key>`; `segmentd keys create` creates a key",
        )
    })
}

/// As [`authenticate`]; `None` if the request has no `Authorization` header with a key.
pub(crate) fn authenticate_if_given(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Option<Arc<Principal>>, ApiError> {
    key_in(headers).map(|key| check(state, &key)).transpose()
}

fn check(state: &ApiState, key: &str) -> Result<Arc<Principal>, ApiError> {
    state.access.check(key).map_err(|refusal| match refusal {
        Refusal::NotReady => ApiError::unavailable("the API keys are being loaded", 1),
        Refusal::Unknown => ApiError::unauthenticated("the API key is not valid"),
    })
}

/// The key in `Authorization`: a Bearer token (RFC 6750), or the user name of Basic
/// authentication (RFC 7617), as `curl -u "$KEY:"` sends it.
pub(crate) fn key_in(headers: &HeaderMap) -> Option<Cow<'_, str>> {
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

/// Path parameters. Like axum's extractor, but a path that cannot be decoded is answered
/// with a problem document.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
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
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if percent_decode_str(query).decode_utf8().is_err() {
            let detail = "the query is not valid: it must be percent-encoded UTF-8";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "malformed-query", detail));
        }
        storable::check_query(query).map_err(ServiceError::Invalid)?;
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|error| ServiceError::Invalid(Faults::one("query", error.body_text())).into())
    }
}

/// Pagination parameters of a list that is ordered newest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) before: Option<Timestamp>,
    pub(crate) limit: i64,
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

/// The `limit` parameter: from 1 to `most`, `default` where absent.
pub(crate) fn limit(asked: Option<i64>, default: i64, most: i64) -> Result<i64, ApiError> {
    let limit = asked.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let range = format!("must be from 1 to {most}");
    Err(ServiceError::Invalid(Faults::one("limit", range)).into())
}

/// The body of a request that is one small JSON document. Its memory reservation lasts as
/// long as the bytes, and covers the parsed form.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Bytes);

/// Largest JSON document: its parsed form may take almost 200 times as much memory.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

impl FromRequest<ApiState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let mut memory = state.memory.reserve_nothing(user_of(&request))?;
        let most = state.bounds.max_body_bytes.min(MAX_DOCUMENT_BYTES);
        let bytes = body::read(request.into_body(), most, state, &mut memory).await?;
        memory.cover(bytes.len() * (1 + VALUE_EXPANSION))?;
        Ok(Self(memory.hold(bytes)))
    }
}

/// The whole body of a request, up to the configured size, with its memory reservation.
/// Handlers enlarge the reservation for the data that they derive from the body.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) memory: Reservation,
    pub(crate) user: ResourceUser,
}

impl FromRequest<ApiState> for Payload {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        Self::read(request, state.bounds.max_body_bytes, state).await
    }
}

impl Payload {
    /// Reads a body of at most `most` bytes.
    pub(crate) async fn read(
        request: Request,
        most: usize,
        state: &ApiState,
    ) -> Result<Self, ApiError> {
        let user = user_of(&request);
        let body = request.into_body();
        // A small body is reserved in full. A large one is reserved as it arrives, as a
        // client may announce bytes and never send them.
        let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let small = announced.filter(|bytes| *bytes <= HEAVY_BODY_BYTES);
        let first = small.map_or(0, |bytes| bytes + memory::of_events(1, bytes));
        let mut memory = match state.memory.reserve(user, first) {
            Ok(memory) => memory,
            Err(error) => {
                body::linger(body).await;
                return Err(error.into());
            }
        };
        let bytes = body::read(body, most, state, &mut memory).await?;
        Ok(Self { bytes, memory, user })
    }
}

/// The user of a request, from the principal that admission control has inserted.
fn user_of(request: &Request) -> ResourceUser {
    let principal = request.extensions().get::<Arc<Principal>>();
    principal
        .map_or(ResourceUser::UNAUTHENTICATED, |principal| ResourceUser::of_key(&principal.key_id))
}

/// Deserialises JSON: 400 for malformed JSON, 422 for well-formed JSON of the wrong shape.
pub(crate) fn json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    storable::check_json(body).map_err(ServiceError::Invalid)?;
    serde_json::from_slice(body).map_err(|error| ApiError::json(&error))
}
