//! `Content-Encoding` of request bodies: gzip, decompressed to a bounded size.

use std::io::Read;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use crate::api::ApiError;
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory::MemoryReservation;

/// The content encoding of a request body (RFC 9110, section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentEncoding {
    Identity,
    Gzip,
}

impl ContentEncoding {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        match encoding.as_bytes().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            _ => Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown-encoding",
                "the body's Content-Encoding must be gzip or absent",
            )),
        }
    }

    /// Decompresses to at most `max_bytes` bytes, which stops decompression bombs. Reserves
    /// memory before the buffer grows.
    pub(crate) fn decode(
        self,
        body: Bytes,
        max_bytes: usize,
        memory: &mut MemoryReservation,
        cancellation: &Cancellation,
    ) -> Result<Bytes, ApiError> {
        if self == Self::Identity {
            return Ok(body);
        }
        let mut decoder = MultiGzDecoder::new(&*body);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut decoded: Vec<u8> = Vec::new();
        loop {
            if cancellation.is_cancelled() {
                return Err(ApiError::cancelled());
            }
            let read = decoder.read(&mut chunk).map_err(|error| {
                let detail = format!("the body is not valid gzip, or ended early: {error}");
                ApiError::new(StatusCode::BAD_REQUEST, "broken-body", detail)
            })?;
            if read == 0 {
                return Ok(decoded.into());
            }
            if decoded.len() + read > max_bytes {
                return Err(ApiError::too_large(format!(
                    "the body is larger than {max_bytes} bytes when decompressed (http.max_body_bytes, \
                     or http.max_unidentified_body_bytes if the key is inside the body)"
                )));
            }
            if decoded.len() + read > decoded.capacity() {
                let more = decoded.capacity().max(CHUNK_BYTES);
                memory.grow(more)?;
                decoded.reserve_exact(more);
            }
            decoded.extend_from_slice(&chunk[..read]);
        }
    }
}

/// Bytes decompressed between two cancellation checks: about 0.1 ms.
const CHUNK_BYTES: usize = 64 * 1024;
