//! `Content-Encoding` of request bodies (RFC 9110, section 8.4): gzip, deflate and zstd,
//! decompressed to a bounded size.

use std::io::{self, BufRead, Read};

use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Buf as _, Bytes};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::api::error::SUPPORTED_ENCODINGS;
use crate::api::request::heavy_work;
use crate::api::{ApiError, ApiState};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory::MemoryReservation;
use crate::service::limits::resource_user::ResourceUser;

/// The content encoding of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentEncoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// Greatest window of zstd, as a power of two: 8 MiB, the limit for HTTP (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;
/// Memory of a zstd decoder: its window, and its buffers.
pub(crate) const ZSTD_BYTES: usize = (1 << ZSTD_WINDOW_LOG) + 1024 * 1024;
/// Bytes decompressed between two cancellation checks: about 0.1 ms.
const CHUNK_BYTES: usize = 64 * 1024;
/// UTF-8 byte order mark, with which some programs begin every text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl ContentEncoding {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(encoding) = encodings.next() else { return Ok(Self::Identity) };
        let known = match encoding.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        };
        known.filter(|_| encodings.next().is_none()).ok_or_else(|| {
            let detail = format!(
                "the body's Content-Encoding must be one of {SUPPORTED_ENCODINGS}, or absent"
            );
            ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-encoding", detail)
        })
    }

    /// Decompresses a body on the pool for heavy work, and removes a byte order mark.
    pub(crate) async fn decode_body(
        self,
        state: &ApiState,
        user: ResourceUser,
        body: EncodedBody,
    ) -> Result<(Bytes, MemoryReservation), ApiError> {
        let EncodedBody { bytes, max_bytes, mut memory } = body;
        if self == Self::Identity {
            return Ok((without_byte_order_mark(bytes), memory));
        }
        heavy_work::run(state, user, true, move |cancellation| {
            let decoded = self.decode(bytes, max_bytes, &mut memory, cancellation)?;
            Ok((without_byte_order_mark(decoded), memory))
        })
        .await
    }

    /// Decompresses to at most `max_bytes` bytes, which stops decompression bombs. Reserves
    /// memory before the buffer grows.
    fn decode(
        self,
        body: Bytes,
        max_bytes: usize,
        memory: &mut MemoryReservation,
        cancellation: &Cancellation,
    ) -> Result<Bytes, ApiError> {
        if self == Self::Zstd {
            memory.grow(ZSTD_BYTES)?;
        }
        let start = body.clone();
        let Some(mut decoder) =
            BodyDecoder::new(self, &start, body.reader()).map_err(|error| broken(&error))?
        else {
            return Ok(start);
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut decoded: Vec<u8> = Vec::new();
        loop {
            if cancellation.is_cancelled() {
                return Err(ApiError::cancelled());
            }
            let read = decoder.read(&mut chunk).map_err(|error| broken(&error))?;
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

/// A whole body as received.
#[derive(Debug)]
pub(crate) struct EncodedBody {
    pub(crate) bytes: Bytes,
    /// Maximum size after decompression.
    pub(crate) max_bytes: usize,
    pub(crate) memory: MemoryReservation,
}

pub(crate) fn without_byte_order_mark(bytes: Bytes) -> Bytes {
    if bytes.starts_with(BYTE_ORDER_MARK) { bytes.slice(BYTE_ORDER_MARK.len()..) } else { bytes }
}

fn broken(error: &io::Error) -> ApiError {
    let detail = format!("the body cannot be decompressed by its Content-Encoding: {error}");
    ApiError::new(StatusCode::BAD_REQUEST, "broken-body", detail)
}

/// A decompressing reader.
enum BodyDecoder<R: BufRead> {
    Gzip(MultiGzDecoder<R>),
    Zlib(ZlibDecoder<R>),
    /// Without the header of zlib, as some clients send `deflate`.
    Deflate(DeflateDecoder<R>),
    Zstd(Box<zstd::Decoder<'static, R>>),
}

impl<R: BufRead> BodyDecoder<R> {
    /// The decoder of a body that begins with `start`; `None` if it needs none.
    fn new(encoding: ContentEncoding, start: &[u8], body: R) -> io::Result<Option<Self>> {
        Ok(Some(match encoding {
            ContentEncoding::Identity => return Ok(None),
            ContentEncoding::Gzip => Self::Gzip(MultiGzDecoder::new(body)),
            ContentEncoding::Deflate if has_zlib_header(start) => {
                Self::Zlib(ZlibDecoder::new(body))
            }
            ContentEncoding::Deflate => Self::Deflate(DeflateDecoder::new(body)),
            ContentEncoding::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(body)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        }))
    }

    fn source(&mut self) -> &mut R {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

impl<R: BufRead> Read for BodyDecoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(out),
            Self::Zlib(decoder) => decoder.read(out),
            Self::Deflate(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
        }
    }
}

/// Whether the text begins with the header of zlib (RFC 1950, section 2.2).
fn has_zlib_header(start: &[u8]) -> bool {
    let &[method, flags, ..] = start else { return false };
    method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)).is_multiple_of(31)
}

/// Decompresses a body that arrives in chunks, a bounded piece at a time: a chunk of a
/// decompression bomb never becomes one large buffer.
pub(crate) struct StreamDecoder {
    encoding: ContentEncoding,
    /// `None` until the first two bytes are known.
    decoder: Option<BodyDecoder<PendingChunk>>,
    start: Vec<u8>,
    piece: Box<[u8]>,
}

/// Result of one decoding step.
pub(crate) enum DecodedPiece<'d> {
    Bytes(&'d [u8]),
    /// The next chunk is needed.
    NeedsChunk,
    End,
}

impl StreamDecoder {
    /// `None` for a body that is not compressed.
    pub(crate) fn new(encoding: ContentEncoding) -> Option<Self> {
        let piece = vec![0; CHUNK_BYTES].into_boxed_slice();
        let decoder = Self { encoding, decoder: None, start: Vec::new(), piece };
        (encoding != ContentEncoding::Identity).then_some(decoder)
    }

    /// Adds a chunk, after a step that needed one.
    pub(crate) fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Some(decoder) = &mut self.decoder {
            decoder.source().chunk = chunk;
            return Ok(());
        }
        self.start.extend_from_slice(&chunk);
        if self.start.len() >= 2 { self.begin(false) } else { Ok(()) }
    }

    /// Ends the body.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match &mut self.decoder {
            Some(decoder) => {
                decoder.source().is_last = true;
                Ok(())
            }
            None => self.begin(true),
        }
    }

    fn begin(&mut self, is_last: bool) -> io::Result<()> {
        let start = std::mem::take(&mut self.start);
        let source = PendingChunk { chunk: start.clone().into(), is_last };
        self.decoder = BodyDecoder::new(self.encoding, &start, source)?;
        Ok(())
    }

    /// Decompresses the next piece.
    pub(crate) fn next_piece(&mut self) -> io::Result<DecodedPiece<'_>> {
        let Some(decoder) = &mut self.decoder else { return Ok(DecodedPiece::NeedsChunk) };
        match decoder.read(&mut self.piece) {
            Ok(0) => Ok(DecodedPiece::End),
            Ok(length) => Ok(DecodedPiece::Bytes(&self.piece[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(DecodedPiece::NeedsChunk),
            Err(error) => Err(error),
        }
    }
}

/// The chunk of a body that is being decompressed.
struct PendingChunk {
    chunk: Bytes,
    is_last: bool,
}

impl BufRead for PendingChunk {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() && !self.is_last {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl Read for PendingChunk {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}
