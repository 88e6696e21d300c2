//! `Content-Encoding` of request bodies: gzip, decompressed to a bounded size.

use std::io::Read;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use crate::api::ApiError;
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory::Reservation;

/// The content encoding of a request body (RFC 9110, section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
}

impl Packing {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Plain) };
        match encoding.as_bytes().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::Plain),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            _ => Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown-encoding",
                "the body's Content-Encoding must be gzip or absent",
            )),
        }
    }

    /// Decompresses to at most `most` bytes, which stops decompression bombs. Reserves
    /// memory before the buffer grows.
    pub(crate) fn unpack(
        self,
        body: Bytes,
        most: usize,
        memory: &mut Reservation,
        cancellation: &Cancellation,
    ) -> Result<Bytes, ApiError> {
        if self == Self::Plain {
            return Ok(body);
        }
        let mut decoder = MultiGzDecoder::new(&*body);
        let mut step = vec![0; STEP_BYTES];
        let mut unpacked: Vec<u8> = Vec::new();
        loop {
            if cancellation.is_cancelled() {
                return Err(ApiError::given_up());
            }
            let read = decoder.read(&mut step).map_err(|error| {
                let detail = format!("the body is not valid gzip, or ended early: {error}");
                ApiError::new(StatusCode::BAD_REQUEST, "broken-body", detail)
            })?;
            if read == 0 {
                return Ok(unpacked.into());
            }
            if unpacked.len() + read > most {
                return Err(ApiError::too_large(format!(
                    "the body is larger than {most} bytes when decompressed (http.max_body_bytes)"
                )));
            }
            if unpacked.len() + read > unpacked.capacity() {
                let more = unpacked.capacity().max(STEP_BYTES);
                memory.grow(more)?;
                unpacked.reserve_exact(more);
            }
            unpacked.extend_from_slice(&step[..read]);
        }
    }
}

/// Bytes decompressed between two cancellation checks: about 0.1 ms.
const STEP_BYTES: usize = 64 * 1024;
