//! Request bodies: read whole, within a size limit, a deadline and a minimum rate.
//!
//! A client that sends a head and then one byte at a time would hold its permit for as
//! long as it likes (slow-body attack). A body therefore has to arrive at a minimum rate
//! after a grace period, and completely before a deadline; else the answer is 408.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::Instant;

use crate::api::state::BodyPace;
use crate::api::{ApiError, ApiState};
use crate::service::limits::memory::Reservation;
use crate::telemetry::Metrics;
use crate::telemetry::labels::BodyTimeout;

/// Of a body that is refused for its size, so much is read and thrown away.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// The whole body, of at most `most` bytes. What arrives is reserved before it is
/// copied: twice, as the buffer grows by doubling.
pub(crate) async fn read(
    body: Body,
    most: usize,
    state: &ApiState,
    memory: &mut Reservation,
) -> Result<Bytes, ApiError> {
    let mut body = Arriving::new(body, most, state.bounds.pace, &state.metrics).await?;
    let Some(first) = body.next().await? else { return Ok(Bytes::new()) };
    body.reserve(memory).await?;
    if body.is_complete() {
        return Ok(first);
    }
    // Copied together: many small pieces would each keep a read buffer alive.
    let mut whole = BytesMut::from(&*first);
    while let Some(piece) = body.next().await? {
        body.reserve(memory).await?;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads a part of a body that is refused: a client that is still sending when the
/// connection is closed sees a broken connection and not the answer.
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
    // Either way the answer is the same.
    let _ = tokio::time::timeout(LINGER, linger).await;
}

/// Reads a body as [`read`] does, and keeps nothing of it.
pub(crate) async fn discard(
    body: Body,
    most: usize,
    pace: BodyPace,
    metrics: &Metrics,
) -> Result<(), ApiError> {
    let mut body = Arriving::new(body, most, pace, metrics).await?;
    while body.next().await?.is_some() {}
    Ok(())
}

/// A body on its way in.
struct Arriving<'m> {
    body: Body,
    most: usize,
    pace: BodyPace,
    metrics: &'m Metrics,
    started: Instant,
    received: usize,
}

impl<'m> Arriving<'m> {
    /// Refuses a declared length above the limit before a byte is read.
    async fn new(
        body: Body,
        most: usize,
        pace: BodyPace,
        metrics: &'m Metrics,
    ) -> Result<Self, ApiError> {
        let declared = body.size_hint().lower();
        let mut body = Self { body, most, pace, metrics, started: Instant::now(), received: 0 };
        if declared > most as u64 {
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
            // Trailers are of no use.
            let Ok(data) = frame.into_data() else { continue };
            self.received += data.len();
            if self.received > self.most {
                return Err(self.too_large().await);
            }
            return Ok(Some(data));
        }
    }

    /// When to give up unless more arrives: each byte extends the deadline by the time
    /// that it may take at the minimum rate, up to the deadline of the whole body.
    fn deadline(&self) -> (Instant, BodyTimeout) {
        let BodyPace { timeout, grace, min_bytes_per_second } = self.pace;
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

    /// Reserves memory for what has arrived.
    async fn reserve(&mut self, memory: &mut Reservation) -> Result<(), ApiError> {
        let Err(error) = memory.cover(2 * self.received) else { return Ok(()) };
        linger_in(&mut self.body).await;
        Err(error.into())
    }

    /// The refusal, once a part of the rest has been read.
    async fn too_large(&mut self) -> ApiError {
        linger_in(&mut self.body).await;
        ApiError::too_large(format!("the body is larger than {} bytes", self.most))
    }
}

fn too_slow(reason: BodyTimeout, pace: BodyPace) -> ApiError {
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
