//! Bodies that come packed: gzip, to a bounded size.

use std::io::Read;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use crate::api::ApiError;

/// What `Content-Encoding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
}

impl Packing {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Plain) };
        match encoding.as_bytes().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::Plain),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            _ => Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown-encoding",
                "the body's Content-Encoding must be gzip, or left out",
            )),
        }
    }

    /// Unpacks at most `most` bytes, however little they were packed into.
    pub(super) fn unpack(self, body: Bytes, most: usize) -> Result<Bytes, ApiError> {
        if self == Self::Plain {
            return Ok(body);
        }
        let mut unpacked = Vec::new();
        let one_too_many = most as u64 + 1;
        MultiGzDecoder::new(&*body).take(one_too_many).read_to_end(&mut unpacked).map_err(
            |error| {
                let detail = format!("the body is not gzip, or ended early: {error}");
                ApiError::new(StatusCode::BAD_REQUEST, "broken-body", detail)
            },
        )?;
        if unpacked.len() > most {
            return Err(ApiError::too_large(format!(
                "the body is larger than {most} bytes, unpacked"
            )));
        }
        Ok(unpacked.into())
    }
}
