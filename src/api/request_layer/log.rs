//! Request log (access log): one line for each request, or for a share of them, and for every
//! server error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::api::ApiError;

/// Fixed-point representation of a share of 1.
const WHOLE: u64 = 1 << 32;

/// Selects the requests that are logged at the level info. Sampling is systematic: the logged
/// requests are evenly spaced.
#[derive(Debug)]
pub(crate) struct RequestLog {
    /// The logged share as a multiple of 1 / [`WHOLE`].
    step: u64,
    /// Sum of the steps of all requests; a request is logged when the sum passes a multiple of
    /// [`WHOLE`].
    phase: AtomicU64,
}

/// A request and its response, as logged. The route is the declared pattern: the path and the
/// query can contain personal data.
#[derive(Debug)]
pub(super) struct FinishedRequest<'r> {
    pub(super) method: &'r str,
    pub(super) route: &'r str,
    pub(super) status: u16,
    pub(super) duration: Duration,
    pub(super) key_id: Option<&'r str>,
    pub(super) request_id: &'r str,
    pub(super) is_health_check: bool,
}

/// Writes a line. The level of `tracing` must be a constant, therefore a macro.
macro_rules! write_line {
    ($level:ident, $request:expr, $error:expr, $message:literal) => {
        tracing::$level!(
            target: "segmentd::request",
            method = $request.method,
            route = $request.route,
            status = $request.status,
            duration_milliseconds = milliseconds($request.duration),
            key_id = $request.key_id,
            request_id = $request.request_id,
            error = $error,
            $message
        )
    };
}

impl RequestLog {
    /// Logs `share` of the requests, from 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "from 0 to 2^32, which a double represents exactly"
    )]
    pub(crate) fn new(share: f64) -> Self {
        let step = (share.clamp(0.0, 1.0) * WHOLE as f64).round() as u64;
        Self { step, phase: AtomicU64::new(0) }
    }

    /// Logs a request. `error` is the error of the response, if any.
    pub(super) fn record(&self, request: &FinishedRequest<'_>, error: Option<&ApiError>) {
        // The 503 of a health check is its answer, not an error.
        let is_answer = request.is_health_check && error.is_none();
        let is_server_error = request.status >= 500 && !is_answer;
        if is_server_error && error.is_some_and(ApiError::is_fault) {
            let error = error.map(ApiError::log_text);
            write_line!(error, request, error, "request failed: internal error");
        } else if is_server_error {
            let error = error.map(ApiError::log_text);
            write_line!(warn, request, error, "request failed: not available");
        } else if request.is_health_check || !self.is_sampled() {
            write_line!(debug, request, None::<&str>, "request finished");
        } else {
            write_line!(info, request, None::<&str>, "request finished");
        }
    }

    fn is_sampled(&self) -> bool {
        let before = self.phase.fetch_add(self.step, Ordering::Relaxed);
        before / WHOLE != before.wrapping_add(self.step) / WHOLE
    }
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_evenly_spaced() {
        for (share, expected) in [
            (0.0, "........"),
            (0.25, "...x...x"),
            (0.5, ".x.x.x.x"),
            (0.75, ".xxx.xxx"),
            (1.0, "xxxxxxxx"),
        ] {
            let log = RequestLog::new(share);
            let sampled: String =
                (0..8).map(|_| if log.is_sampled() { 'x' } else { '.' }).collect();
            assert_eq!(sampled, expected, "{share}");
        }
        let log = RequestLog::new(0.01);
        assert_eq!((0..100_000).filter(|_| log.is_sampled()).count(), 1000);
    }

    #[test]
    fn durations_have_microseconds() {
        assert_eq!(milliseconds(Duration::from_nanos(184_499)).to_string(), "0.184");
        assert_eq!(milliseconds(Duration::from_secs(2)).to_string(), "2000");
    }
}
