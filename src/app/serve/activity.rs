//! Connection activity, and the timeouts based on it.
//!
//! The stream and the service only record times, with one atomic operation each. The
//! connection's task checks them when the next deadline may have passed. So a request arms
//! no timer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::config::ConnectionLimits;
use crate::telemetry::labels::ConnectionClosure;

/// Activity of one connection. Times are milliseconds since it was accepted, plus one; 0
/// means unset.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    accepted: Instant,
    /// Requests without a completely sent response.
    in_progress: AtomicUsize,
    /// End of the last response.
    idle_since: AtomicU64,
    /// Start of the current request head.
    head_since: AtomicU64,
    /// Start of the current write stall: the client does not read.
    write_stalled_since: AtomicU64,
    /// Signals that the connection must close in favour of another.
    pub(super) evicted: Notify,
}

impl ConnectionActivity {
    /// Activity of a new connection: the head of its first request is due.
    pub(super) fn new() -> Self {
        Self {
            accepted: Instant::now(),
            in_progress: AtomicUsize::new(0),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(1),
            write_stalled_since: AtomicU64::new(0),
            evicted: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        let millis = self.accepted.elapsed().as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn is_idle(&self) -> bool {
        self.in_progress.load(Ordering::Relaxed) == 0
    }

    /// Start of the idle time; `None` while a request is in progress or a response is
    /// partly unsent.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let is_waiting = self.is_idle() && self.write_stalled_since.load(Ordering::Relaxed) == 0;
        let since = self.idle_since.load(Ordering::Relaxed).saturating_sub(1);
        is_waiting.then(|| self.accepted + Duration::from_millis(since))
    }

    /// The exceeded timeout as an error, else the time of the next check.
    pub(super) fn check(&self, limits: &ConnectionLimits) -> Result<Instant, ConnectionClosure> {
        let now = self.now();
        let head = self.head_since.load(Ordering::Relaxed);
        let idle = self.idle_since.load(Ordering::Relaxed);
        let stalled = self.write_stalled_since.load(Ordering::Relaxed);
        let waiting = if self.is_idle() { idle } else { 0 };
        let heading = if self.is_idle() { head } else { 0 };
        let rules = [
            (stalled, limits.write_timeout, ConnectionClosure::WriteTimeout),
            (heading, limits.header_timeout, ConnectionClosure::HeaderTimeout),
            (waiting, limits.idle_timeout, ConnectionClosure::IdleTimeout),
        ];
        // A state that begins after now is due after the shortest timeout at the earliest.
        let mut next = limits.write_timeout.min(limits.header_timeout).min(limits.idle_timeout);
        for (since, timeout, reason) in rules {
            if since == 0 {
                continue;
            }
            let passed = Duration::from_millis(now.saturating_sub(since));
            match timeout.checked_sub(passed) {
                None | Some(Duration::ZERO) => return Err(reason),
                Some(left) => next = next.min(left),
            }
        }
        Ok(Instant::now() + next)
    }

    pub(super) fn begin_request(&self) {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    pub(super) fn end_request(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.in_progress.fetch_sub(1, Ordering::Relaxed);
    }

    fn note_read(&self) {
        if self.is_idle() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        let stalled = self.write_stalled_since.load(Ordering::Relaxed) != 0;
        if written.is_pending() != stalled {
            let since = if stalled { 0 } else { self.now() };
            self.write_stalled_since.store(since, Ordering::Relaxed);
        }
    }
}

/// A stream that records its activity.
#[derive(Debug)]
pub(super) struct ClientStream {
    stream: TcpStream,
    activity: Arc<ConnectionActivity>,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, activity: Arc<ConnectionActivity>) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.note_read();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.activity.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(header: u64, idle: u64, write: u64) -> ConnectionLimits {
        ConnectionLimits {
            max_connections: 1,
            header_timeout: Duration::from_secs(header),
            idle_timeout: Duration::from_secs(idle),
            write_timeout: Duration::from_secs(write),
        }
    }

    /// Activity of a connection accepted `seconds` ago.
    fn aged(seconds: u64) -> ConnectionActivity {
        let accepted = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        ConnectionActivity { accepted, ..ConnectionActivity::new() }
    }

    #[test]
    fn a_silent_connection_and_a_half_sent_head_run_into_the_header_timeout() {
        let silent = aged(11);
        assert_eq!(silent.check(&limits(10, 75, 60)), Err(ConnectionClosure::HeaderTimeout));
        assert!(silent.check(&limits(12, 75, 60)).is_ok());
        silent.begin_request();
        silent.end_request();
        assert!(silent.check(&limits(10, 75, 60)).is_ok(), "it waits for the next request");
        silent.note_read();
        assert!(silent.head_since.load(Ordering::Relaxed) >= 11_000);
    }

    #[test]
    fn a_request_in_progress_is_never_idle() {
        let busy = aged(100);
        busy.begin_request();
        assert!(busy.check(&limits(10, 75, 60)).is_ok());
        assert_eq!(busy.waiting_since(), None);
        busy.end_request();
        busy.idle_since.store(1, Ordering::Relaxed);
        assert_eq!(busy.check(&limits(10, 75, 60)), Err(ConnectionClosure::IdleTimeout));
        assert!(busy.waiting_since().is_some());
    }

    #[test]
    fn a_client_that_stops_reading_runs_into_the_write_timeout() {
        let stalled = aged(100);
        stalled.begin_request();
        stalled.note_write(&Poll::Pending);
        assert!(stalled.check(&limits(10, 75, 60)).is_ok());
        stalled.write_stalled_since.store(1, Ordering::Relaxed);
        assert_eq!(stalled.check(&limits(10, 75, 60)), Err(ConnectionClosure::WriteTimeout));
        stalled.note_write(&Poll::Ready(Ok(1)));
        assert!(stalled.check(&limits(10, 75, 60)).is_ok());
    }
}
