//! Streaming line reader for NDJSON bodies, compressed or not.

use std::io;
use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::api::request::content_encoding::{self, ContentEncoding, DecodedPiece, StreamDecoder};
use crate::domain::wire::lines::{self, LineLimits, LineSplitter};
use crate::service::failed_events::TRUNCATED_EVENT_BYTES;

/// Splits a body into lines. Buffers at most one line and one chunk.
pub(crate) struct LineReader {
    chunks: axum::body::BodyDataStream,
    /// `None` for a body that is not compressed.
    decoder: Option<StreamDecoder>,
    splitter: LineSplitter,
    idle: Duration,
}

pub(crate) enum BodyLine {
    Text(Bytes),
    /// A line above the size limit: its first bytes.
    TooLong(Bytes),
    End,
    Broken(String),
    /// No byte arrived within the idle timeout.
    Idle,
}

impl LineReader {
    pub(crate) fn new(
        body: HttpBody,
        encoding: ContentEncoding,
        max_line_bytes: usize,
        idle: Duration,
    ) -> Self {
        let limits = LineLimits { max_line_bytes, head_bytes: TRUNCATED_EVENT_BYTES };
        Self {
            chunks: body.into_data_stream(),
            decoder: StreamDecoder::new(encoding),
            splitter: LineSplitter::new(limits),
            idle,
        }
    }

    /// Number of the last returned line, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.splitter.number()
    }

    /// Reads the next line. Cancel safe: a dropped call loses no data.
    pub(crate) async fn next(&mut self) -> BodyLine {
        loop {
            match self.splitter.take_line() {
                Some(lines::NdjsonLine::Text(text)) if self.splitter.number() == 1 => {
                    return BodyLine::Text(content_encoding::without_byte_order_mark(text));
                }
                Some(lines::NdjsonLine::Text(text)) => return BodyLine::Text(text),
                Some(lines::NdjsonLine::TooLong(head)) => return BodyLine::TooLong(head),
                None if self.splitter.is_at_end() => return BodyLine::End,
                None => {}
            }
            let added = match self.next_piece() {
                Ok(true) => {
                    // A few bytes can decompress to gigabytes: other tasks run in between.
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(false) => self.add_chunk().await,
                Err(error) => Err(broken(&error)),
            };
            if let Err(end) = added {
                return end;
            }
        }
    }

    /// Adds the next decompressed piece to the splitter. Returns false if the next chunk is
    /// needed.
    fn next_piece(&mut self) -> io::Result<bool> {
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        match decoder.next_piece()? {
            DecodedPiece::Bytes(piece) => self.splitter.push(piece),
            DecodedPiece::End => self.splitter.end(),
            DecodedPiece::NeedsChunk => return Ok(false),
        }
        Ok(true)
    }

    /// Waits for the next chunk of the body, or for its end.
    async fn add_chunk(&mut self) -> Result<(), BodyLine> {
        let chunk = match tokio::time::timeout(self.idle, self.chunks.next()).await {
            Ok(Some(Ok(chunk))) => Some(chunk),
            Ok(Some(Err(error))) => {
                return Err(BodyLine::Broken(format!("the body ended early: {error}")));
            }
            Ok(None) => None,
            Err(_) => return Err(BodyLine::Idle),
        };
        match (&mut self.decoder, chunk) {
            (None, Some(chunk)) => self.splitter.push(&chunk),
            (None, None) => self.splitter.end(),
            (Some(decoder), Some(chunk)) => decoder.push(chunk).map_err(|error| broken(&error))?,
            (Some(decoder), None) => decoder.end().map_err(|error| broken(&error))?,
        }
        Ok(())
    }
}

fn broken(error: &io::Error) -> BodyLine {
    BodyLine::Broken(format!("the body cannot be decompressed by its Content-Encoding: {error}"))
}
