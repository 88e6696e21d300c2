//! `POST /v1/events/bulk`: bidirectional NDJSON streaming of events and their results.

use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, timeout_at};

use crate::api::events::event_result::{EventResultBody, FaultBudget};
use crate::api::openapi::ByteStream;
use crate::api::request::content_encoding::{ContentEncoding, ZSTD_BYTES};
use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::lines::{BodyLine, LineReader};
use crate::api::request::{AuthorizedCaller, Ingest, body, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::JsonElement;
use crate::domain::wire::{IngestionEndpoint, ParsedMessage};
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent, TRUNCATED_EVENT_BYTES};
use crate::service::ingestion::{FullQueuePolicy, IngestionOutcome, ReceivedMessages};
use crate::service::limits::memory;
use crate::service::limits::memory::{EVENT_EXPANSION, MemoryReservation};
use crate::service::limits::resource_user::ResourceUser;
use crate::telemetry::labels::RefusingLimit;

/// Memory of an idle stream besides its lines: the chunk that is being split, at most as
/// large as the connection's buffer.
const STREAM_BYTES: usize = 512 * 1024;

/// Send events as a stream of lines.
///
/// The body is NDJSON, one event per line. The response is NDJSON too: one line per event, after
/// its commit, with the fields of `EventResult` except `customer_id` and `score`. Read it while you
/// write. Lines are committed after at most `limits.stream_flush_milliseconds`, so memory is
/// constant for any number of lines.
///
/// If the database becomes unavailable, or no byte arrives for `limits.stream_idle_seconds`, the
/// response ends with a line of status `failed`. Events without a result can be sent again.
#[utoipa::path(
    post,
    path = "/v1/events/bulk",
    tag = "Events",
    security(("key" = ["ingest"])),
    request_body(
        content = ByteStream,
        content_type = "application/x-ndjson",
        description = "One `Event` per line",
        example = "{\"type\": \"track\", \"name\": \"Order Completed\", \"message_id\": \"order-1\", \"customer_id\": \"c0001\"}\n",
    ),
    responses((
        status = 200,
        body = ByteStream,
        content_type = "application/x-ndjson",
        description = "One `EventResult` per line",
        example = "{\"line\":1,\"status\":\"accepted\",\"message_id\":\"order-1\"}\n",
    ))
)]
pub(crate) async fn ingest_event_stream(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Ingest>,
    request: Request,
) -> Result<Response, ApiError> {
    let encoding = ContentEncoding::from_headers(request.headers())?;
    let window_bytes = if encoding == ContentEncoding::Zstd { ZSTD_BYTES } else { 0 };
    let base_bytes = STREAM_BYTES + window_bytes + 2 * state.body_limits.max_line_bytes;
    let memory = match state.memory.reserve(caller.user(), base_bytes) {
        Ok(memory) => memory,
        Err(error) => {
            body::linger(request.into_body()).await;
            return Err(error.into());
        }
    };
    let lines = LineReader::new(
        request.into_body(),
        encoding,
        state.body_limits.max_line_bytes,
        state.body_limits.bulk_upload.idle,
    );
    let key_id = caller.principal.key_id.clone();
    let user = caller.user();
    let upload = BulkUpload { state, key_id, user, lines, memory, base_bytes, pending: None };
    let batches = stream::unfold(Some(upload), |upload| async move {
        let mut upload = upload?;
        let (results, more) = upload.next_batch().await;
        Some((Ok::<_, std::convert::Infallible>(results), more.then_some(upload)))
    });
    let body = HttpBody::from_stream(batches);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// State of one bulk upload.
struct BulkUpload {
    state: ApiState,
    key_id: String,
    user: ResourceUser,
    lines: LineReader,
    memory: MemoryReservation,
    /// Bytes reserved while no lines are gathered.
    base_bytes: usize,
    /// A line that did not fit into the previous batch.
    pending: Option<BodyLine>,
}

/// The text of a line; `Err` with its first bytes if the line is too long.
type BoundedLine = Result<Bytes, Bytes>;

/// A batch of lines for one commit.
#[derive(Default)]
struct LineBatch {
    numbers: Vec<u64>,
    texts: Vec<BoundedLine>,
    text_bytes: usize,
    /// Set once the upload has ended.
    end: Option<UploadEnd>,
}

/// The end of an upload: complete, or broken off with a reason.
enum UploadEnd {
    Whole,
    Failed(String),
}

impl BulkUpload {
    /// Commits one batch. Returns its results as NDJSON, and whether more may follow.
    async fn next_batch(&mut self) -> (Bytes, bool) {
        // The results of the previous batch are in the connection's buffer now.
        self.memory.shrink_to(self.base_bytes);
        let received_at = self.state.ingestion.now();
        let LineBatch { numbers, texts, text_bytes, end } = self.gather().await;
        let first = numbers.first().copied();
        let mut out = Vec::new();
        let queued = self.memory.split(text_bytes.saturating_mul(EVENT_EXPANSION));
        match self.commit(texts, text_bytes, queued, received_at).await {
            Ok(outcomes) => {
                let mut fault_budget = FaultBudget::default();
                for (line, outcome) in numbers.into_iter().zip(&outcomes) {
                    let result = EventResultBody::new(outcome, &mut fault_budget);
                    let line = Some(line);
                    let result = EventResultBody { line, score: None, customer_id: None, ..result };
                    write_line(&mut out, &result);
                }
            }
            Err(error) => {
                error.log_aborted_response("/v1/events/bulk");
                write_line(&mut out, &EventResultBody::of_failed_stream(first, error.detail()));
                return (out.into(), false);
            }
        }
        if let Some(UploadEnd::Failed(why)) = &end {
            write_line(&mut out, &EventResultBody::of_failed_stream(None, why));
        }
        (out.into(), end.is_none())
    }

    /// Gathers lines until the batch is full or its flush interval has passed.
    async fn gather(&mut self) -> LineBatch {
        let mut batch = LineBatch::default();
        let mut flush_at = None;
        let max_events = self.state.ingestion.max_batch_events();
        while batch.texts.len() < max_events
            && batch.text_bytes < self.state.body_limits.bulk_upload.batch_bytes
        {
            let Some(line) = self.next_line(flush_at).await else { break };
            let text = match line {
                BodyLine::Text(text) if text.trim_ascii().is_empty() => continue,
                BodyLine::Text(text) => Ok(text),
                BodyLine::TooLong(head) => Err(head),
                BodyLine::End => {
                    batch.end = Some(UploadEnd::Whole);
                    break;
                }
                BodyLine::Broken(why) => {
                    batch.end = Some(UploadEnd::Failed(why));
                    break;
                }
                BodyLine::Idle => {
                    batch.end = Some(UploadEnd::Failed(self.idle_reason()));
                    break;
                }
            };
            let text_bytes = text.as_ref().map_or(TRUNCATED_EVENT_BYTES, Bytes::len);
            if !self.memory.try_grow(memory::event_memory_bytes(1, text_bytes)) {
                if !batch.texts.is_empty() {
                    self.pending = Some(text.map_or_else(BodyLine::TooLong, BodyLine::Text));
                    break;
                }
                if let Err(error) = self.wait_for_memory(text_bytes).await {
                    batch.end = Some(UploadEnd::Failed(error.to_string()));
                    break;
                }
            }
            flush_at
                .get_or_insert_with(|| Instant::now() + self.state.body_limits.bulk_upload.flush);
            batch.text_bytes += text_bytes;
            batch.numbers.push(self.lines.number());
            batch.texts.push(text);
        }
        batch
    }

    async fn commit(
        &mut self,
        texts: Vec<BoundedLine>,
        text_bytes: usize,
        memory: MemoryReservation,
        received_at: Timestamp,
    ) -> Result<Vec<IngestionOutcome>, ApiError> {
        let state = self.state.clone();
        let is_heavy = text_bytes > HEAVY_BODY_BYTES;
        let items = heavy_work::run(&self.state, self.user, is_heavy, move |cancellation| {
            let texts = texts.into_iter().take_while(|_| !cancellation.is_cancelled());
            Ok(texts.map(|text| read_line(&state, text, received_at)).collect())
        });
        let received = ReceivedMessages { messages: items.await?, reservation: Some(memory) };
        let source = EventSource {
            endpoint: IngestionEndpoint::Bulk,
            key_id: &self.key_id,
            is_public: false,
        };
        let ingestion = &self.state.ingestion;
        let outcomes =
            ingestion.accept_events(received, source, received_at, FullQueuePolicy::Wait).await?;
        self.state.sources.count_events(source, received_at, &outcomes);
        Ok(outcomes)
    }

    /// The next line; `None` when the flush interval has ended.
    async fn next_line(&mut self, flush_at: Option<Instant>) -> Option<BodyLine> {
        if let Some(line) = self.pending.take() {
            return Some(line);
        }
        match flush_at {
            None => Some(self.lines.next().await),
            Some(at) => timeout_at(at, self.lines.next()).await.ok(),
        }
    }

    /// Backpressure: waits until other requests of the key release memory. Meanwhile this
    /// upload reads no further line.
    async fn wait_for_memory(&mut self, text_bytes: usize) -> Result<(), ServiceError> {
        let needed = memory::event_memory_bytes(1, text_bytes);
        self.memory.grow_within(needed, self.state.body_limits.bulk_upload.idle).await
    }

    fn idle_reason(&self) -> String {
        self.state.metrics.limits.refusals.add(RefusingLimit::StreamIdle, 1);
        let seconds = self.state.body_limits.bulk_upload.idle.as_secs();
        format!("no byte arrived for {seconds} s (limits.stream_idle_seconds)")
    }
}

fn read_line(
    state: &ApiState,
    text: BoundedLine,
    received_at: Timestamp,
) -> Result<ParsedMessage, RejectedEvent> {
    match text {
        Ok(text) => state.ingestion.read(JsonElement::parse(&text), received_at),
        Err(head) => Err(state.ingestion.reject_too_large(&head)),
    }
}

fn write_line(out: &mut Vec<u8>, result: &EventResultBody<'_>) {
    // A result contains only text and numbers: serialising it into memory cannot fail.
    if serde_json::to_writer(&mut *out, result).is_ok() {
        out.push(b'\n');
    }
}
