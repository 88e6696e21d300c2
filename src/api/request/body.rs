//! Request bodies, read whole within a size limit, a deadline and a minimum rate.
//!
//! A client that sends the header and then one byte at a time would occupy its permit
//! indefinitely (slow-body attack, "R.U.D.Y."). A body must therefore arrive at a minimum
//! rate after a grace period, and completely before a deadline; otherwise the answer is 408.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::Instant;

use crate::api::state::BodyRateLimit;
use crate::api::{ApiError, ApiState};
use crate::service::limits::memory::MemoryReservation;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::BodyTimeout;

/// Bytes of a rejected body that are read and discarded (lingering close).
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// Reads the whole body, of at most `max_bytes` bytes. Reserves twice the received bytes before
/// copying them, as the buffer grows by doubling.
pub(crate) async fn read(
    body: Body,
    max_bytes: usize,
    state: &ApiState,
    memory: &mut MemoryReservation,
) -> Result<Bytes, ApiError> {
    let mut body =
        IncomingBody::new(body, max_bytes, state.body_limits.rate, &state.metrics).await?;
    let Some(first) = body.next().await? else { return Ok(Bytes::new()) };
    body.reserve(memory).await?;
    if body.is_complete() {
        return Ok(first);
    }
    // Copied into one buffer: each small piece would keep a whole read buffer alive.
    let mut whole = BytesMut::from(&*first);
    while let Some(piece) = body.next().await? {
        body.reserve(memory).await?;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Lingering close: reads part of a rejected body. A client that is still sending when the
/// connection closes sees a broken connection instead of the response.
pub(crate) async fn linger(mut body: Body) {
    linger_in(&mut body).await;
}

async fn linger_in(body: &mut Body) {
    let mut left = LINGER_BYTES;
    let linger = async {
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // The response is the same after a timeout.
    let _ = tokio::time::timeout(LINGER, linger).await;
}

/// Reads a body within the limits of [`read`] and discards it.
pub(crate) async fn discard(
    body: Body,
    max_bytes: usize,
    pace: BodyRateLimit,
    metrics: &ServiceMetrics,
) -> Result<(), ApiError> {
    let mut body = IncomingBody::new(body, max_bytes, pace, metrics).await?;
    while body.next().await?.is_some() {}
    Ok(())
}

/// A body that is being received, with its limits.
struct IncomingBody<'m> {
    body: Body,
    max_bytes: usize,
    pace: BodyRateLimit,
    metrics: &'m ServiceMetrics,
    started: Instant,
    received: usize,
}

impl<'m> IncomingBody<'m> {
    /// Rejects a declared length above the limit before reading a byte.
    async fn new(
        body: Body,
        max_bytes: usize,
        pace: BodyRateLimit,
        metrics: &'m ServiceMetrics,
    ) -> Result<Self, ApiError> {
        let declared = body.size_hint().lower();
        let mut body =
            Self { body, max_bytes, pace, metrics, started: Instant::now(), received: 0 };
        if declared > max_bytes as u64 {
            return Err(body.too_large().await);
        }
        Ok(body)
    }

    fn is_complete(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The next piece, or `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let (deadline, reason) = self.deadline();
            let Ok(frame) = tokio::time::timeout_at(deadline, self.body.frame()).await else {
                self.metrics.http.body_timeouts.add(reason, 1);
                return Err(too_slow(reason, self.pace));
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| {
                ApiError::new(StatusCode::BAD_REQUEST, "broken-body", "the body ended early")
            })?;
            // Trailers are ignored.
            let Ok(data) = frame.into_data() else { continue };
            self.received += data.len();
            if self.received > self.max_bytes {
                return Err(self.too_large().await);
            }
            return Ok(Some(data));
        }
    }

    /// The deadline for the next piece. Each received byte extends it by the byte's time at
    /// the minimum rate, up to the deadline of the whole body.
    fn deadline(&self) -> (Instant, BodyTimeout) {
        let BodyRateLimit { timeout, grace, min_bytes_per_second } = self.pace;
        let whole = self.started + timeout;
        if min_bytes_per_second == 0 {
            return (whole, BodyTimeout::Deadline);
        }
        let millis = (self.received as u64).saturating_mul(1000) / min_bytes_per_second;
        let allowed = grace.saturating_add(Duration::from_millis(millis));
        if allowed < timeout {
            (self.started + allowed, BodyTimeout::Rate)
        } else {
            (whole, BodyTimeout::Deadline)
        }
    }

    /// Reserves memory for the bytes received so far.
    async fn reserve(&mut self, memory: &mut MemoryReservation) -> Result<(), ApiError> {
        let Err(error) = memory.grow_to(2 * self.received) else { return Ok(()) };
        linger_in(&mut self.body).await;
        Err(error.into())
    }

    /// Returns the 413 error, after a lingering close.
    async fn too_large(&mut self) -> ApiError {
        linger_in(&mut self.body).await;
        ApiError::too_large(format!("the body is larger than {} bytes", self.max_bytes))
    }
}

fn too_slow(reason: BodyTimeout, pace: BodyRateLimit) -> ApiError {
    let detail = match reason {
        BodyTimeout::Deadline => {
            format!("the body did not arrive completely within {} s", pace.timeout.as_secs())
        }
        BodyTimeout::Rate => format!(
            "the body arrived more slowly than {} bytes a second after the first {} s",
            pace.min_bytes_per_second,
            pace.grace.as_secs()
        ),
    };
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail)
}
