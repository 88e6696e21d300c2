//! Extractors: the authenticated caller, path and query parameters, and bodies.

pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod client_address;
pub(crate) mod content_encoding;
pub(crate) mod fields;
pub(crate) mod heavy_work;
pub(crate) mod lines;
pub(crate) mod page;
pub(crate) mod parameters;
pub mod slow_reads;
pub(crate) mod storable;
mod strict_objects;

use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::Deserialize;

use crate::api::request::content_encoding::{ContentEncoding, EncodedBody};
use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::{ApiError, ApiState};
use crate::domain::access::Principal;
use crate::service::ServiceError;
use crate::service::limits::memory;
use crate::service::limits::memory::{MemoryReservation, VALUE_EXPANSION};
use crate::service::limits::resource_user::ResourceUser;

use strict_objects::StrictObjects;

pub(crate) use caller::{Admin, AuthorizedCaller, Ingest, Read, Replay, Score, Track, Train};
pub(crate) use parameters::{PathParameters, QueryParameters};

/// The body of a request that is one small JSON document. Its memory reservation lasts as
/// long as the bytes, and covers the parsed form.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Bytes);

/// Largest JSON document: its parsed form may take almost 200 times as much memory.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

impl FromRequest<ApiState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let user = user_of(&request);
        let encoding = ContentEncoding::from_headers(request.headers())?;
        let mut memory = state.memory.reserve_nothing(user)?;
        let max_bytes = state.body_limits.max_body_bytes.min(MAX_DOCUMENT_BYTES);
        let bytes = body::read(request.into_body(), max_bytes, state, &mut memory).await?;
        let encoded = EncodedBody { bytes, max_bytes, memory };
        let (bytes, mut memory) = encoding.decode_body(state, user, encoded).await?;
        memory.grow_to(bytes.len() * (1 + VALUE_EXPANSION))?;
        Ok(Self(memory.attach_to(bytes)))
    }
}

/// The whole body of a request, up to the configured size, with its memory reservation.
/// Handlers enlarge the reservation for the data that they derive from the body.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) bytes: Bytes,
    pub(crate) memory: MemoryReservation,
    pub(crate) user: ResourceUser,
}

impl FromRequest<ApiState> for RequestBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        Self::read(request, state.body_limits.max_body_bytes, state).await
    }
}

impl RequestBody {
    /// Reads and decompresses a body of at most `max_bytes` bytes.
    pub(crate) async fn read(
        request: Request,
        max_bytes: usize,
        state: &ApiState,
    ) -> Result<Self, ApiError> {
        let user = user_of(&request);
        let encoding = ContentEncoding::from_headers(request.headers())?;
        let body = request.into_body();
        // A small body is reserved in full. A large one is reserved as it arrives, as a
        // client may announce bytes and never send them.
        let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let small = announced.filter(|bytes| *bytes <= HEAVY_BODY_BYTES);
        let first = small.map_or(0, |bytes| bytes + memory::event_memory_bytes(1, bytes));
        let mut memory = match state.memory.reserve(user, first) {
            Ok(memory) => memory,
            Err(error) => {
                body::linger(body).await;
                return Err(error.into());
            }
        };
        let bytes = body::read(body, max_bytes, state, &mut memory).await?;
        let encoded = EncodedBody { bytes, max_bytes, memory };
        let (bytes, memory) = encoding.decode_body(state, user, encoded).await?;
        Ok(Self { bytes, memory, user })
    }
}

/// The user of a request, from the principal that admission control has inserted.
fn user_of(request: &Request) -> ResourceUser {
    let principal = request.extensions().get::<Arc<Principal>>();
    principal
        .map_or(ResourceUser::UNAUTHENTICATED, |principal| ResourceUser::of_key(&principal.key_id))
}

/// Deserialises JSON: 400 for malformed JSON, 422 with the field for well-formed JSON of the
/// wrong shape.
pub(crate) fn parse_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    storable::check_json(body).map_err(ServiceError::Invalid)?;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(StrictObjects(&mut deserializer))
        .map_err(|error| ApiError::from_json_at(&error.path().to_string(), error.inner()))?;
    deserializer.end().map_err(|error| ApiError::from_json(&error))?;
    Ok(value)
}

/// As [`parse_json`]; the default value for an empty body.
pub(crate) fn parse_optional_json<T>(body: &[u8]) -> Result<T, ApiError>
where
    T: Default + for<'de> Deserialize<'de>,
{
    if body.is_empty() { Ok(T::default()) } else { parse_json(body) }
}
