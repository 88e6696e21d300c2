//! Change feed: readers of assignment changes, and how they learn of new ones.
//!
//! While any reader waits, this process polls Postgres for the newest change several
//! times a second, once for all its readers. `NOTIFY` instead would cost every ingestion
//! commit: it takes one lock for the whole server until its transaction is on disk, so
//! commits would queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::service::ServiceError;
use crate::service::error::ErrorChain;
use crate::service::limits::fair_share::{FairShare, ResourceShare};
use crate::store::ReadOnlyDatabase;
use crate::store::customers::changes;
use crate::store::customers::changes::{AssignmentChange, FeedPosition};
use crate::store::database::epoch;
use crate::telemetry::repeated_failures::count_failure;
use crate::telemetry::{FeedReaderGuard, ServiceMetrics};

/// Polling interval: the longest delay of a reader beyond the commit.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Pause after a failed poll: Postgres may be restarting.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// Changes scanned at once for the changes of one segment or audience.
const SELECTIVE_SCAN_CHANGES: i64 = 1000;
const RETRY_AFTER_SECONDS: u64 = 5;
/// Error text for a cursor of a change that a database restore has lost.
const LOST_CURSOR: &str = "the change of this cursor no longer exists: the database was restored to an \
    earlier point, or the cursor is of another database. Request `cursor=now`, then take an \
    export, then continue from the cursor of that response";

/// Start position of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartPosition {
    Oldest,
    Now,
    After(FeedPosition),
}

/// Selects changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeFilter {
    /// Only changes into or out of this segment.
    pub segment_id: Option<String>,
    /// Only changes into or out of this audience; with a segment, changes of either.
    pub audience: Option<String>,
    /// Without changes of the model alone.
    pub moves_only: bool,
}

/// The change feed of this process.
#[derive(Debug)]
pub struct ChangeFeed {
    db: ReadOnlyDatabase,
    metrics: Arc<ServiceMetrics>,
    /// Concurrent readers, shared fairly between keys.
    reader_slots: FairShare<String>,
    newest: watch::Sender<FeedPosition>,
    /// Signals that a reader began to wait.
    reader_waiting: Notify,
    /// Runtime that reads pages: decoding a thousand rows takes milliseconds.
    reading: Handle,
    stopped: CancellationToken,
}

/// A page of changes after a position.
#[derive(Debug)]
pub(crate) struct ChangePage {
    pub changes: Vec<AssignmentChange>,
    /// Position to continue from.
    pub next_position: FeedPosition,
    /// Whether more changes exist already.
    pub has_more: bool,
    /// Whether retention dropped changes between the requested position and the first of
    /// these.
    pub has_gap: bool,
}

/// A reader. It stores at most one page, and reads the next on request.
#[derive(Debug)]
pub(crate) struct ChangeReader {
    feed: Arc<ChangeFeed>,
    after: FeedPosition,
    /// Whether it received changes or started at a position: only then can it have missed
    /// some.
    has_begun: bool,
    filter: ChangeFilter,
    limit: usize,
    _slot: ResourceShare<String>,
    _open_reading: FeedReaderGuard,
}

impl ChangeFeed {
    /// Creates the feed. Pages are read on the runtime `reading`. Readers end once
    /// `stopped` is cancelled.
    pub fn new(
        db: ReadOnlyDatabase,
        max_readers: usize,
        reading: Handle,
        stopped: CancellationToken,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        Self {
            db,
            metrics,
            reader_slots: FairShare::new(max_readers),
            newest: watch::Sender::new(FeedPosition::default()),
            reader_waiting: Notify::new(),
            reading,
            stopped,
        }
    }

    /// A reader for the key `key_id`, of the changes that `filter` selects.
    pub(crate) async fn open_reader(
        self: &Arc<Self>,
        key_id: &str,
        start: StartPosition,
        filter: ChangeFilter,
        limit: usize,
    ) -> Result<ChangeReader, ServiceError> {
        let slot = self
            .reader_slots
            .try_acquire(key_id.to_owned(), 1)
            .ok_or(ServiceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS })?;
        let after = match start {
            StartPosition::Oldest => FeedPosition::default(),
            StartPosition::Now => {
                let dropped = changes::read_bounds(&self.db).await?.dropped.unwrap_or_default();
                changes::newest_position(&self.db).await?.max(dropped)
            }
            StartPosition::After(position) => self.check_position(position).await?,
        };
        let open_reading = self.metrics.output.begin_reading();
        let feed = Arc::clone(self);
        let has_begun = start != StartPosition::Oldest;
        Ok(ChangeReader {
            feed,
            after,
            has_begun,
            filter,
            limit,
            _slot: slot,
            _open_reading: open_reading,
        })
    }

    /// The position, if every change up to it still exists. A restore to an earlier point
    /// loses changes that readers may have seen, so these readers cannot simply continue.
    async fn check_position(&self, position: FeedPosition) -> Result<FeedPosition, ServiceError> {
        let is_lost = position > changes::read_bounds(&self.db).await?.end
            || epoch::last_surviving_position(&self.db, position).await?.is_some();
        if is_lost {
            return Err(ServiceError::Gone(LOST_CURSOR.to_owned()));
        }
        Ok(position)
    }

    async fn load_page(
        &self,
        after: FeedPosition,
        end: FeedPosition,
        limit: i64,
    ) -> Result<Vec<AssignmentChange>, ServiceError> {
        let db = self.db.clone();
        let page = async move { changes::read_page(&db, after, end, limit).await };
        let page = AbortOnDropHandle::new(self.reading.spawn(page));
        Ok(page.await.map_err(ServiceError::internal)??)
    }

    /// Polls for new changes for ever, but only while a reader waits.
    pub(crate) async fn poll(&self) {
        loop {
            if self.newest.receiver_count() == 0 {
                self.reader_waiting.notified().await;
            }
            match changes::newest_position(&self.db).await {
                Ok(newest) => {
                    self.newest
                        .send_if_modified(|known| std::mem::replace(known, newest) != newest);
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    if let Some(repeated) = count_failure("change feed", &error) {
                        tracing::warn!(error, "cannot poll for new changes{repeated}");
                    }
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }

    /// Waits for a change after `after`, the `deadline` or the process to stop. Returns
    /// whether a change came.
    async fn wait_for_change(&self, after: FeedPosition, deadline: Instant) -> bool {
        let mut newest = self.newest.subscribe();
        self.reader_waiting.notify_one();
        tokio::select! {
            known = newest.wait_for(|newest| *newest > after) => known.is_ok(),
            () = tokio::time::sleep_until(deadline) => false,
            () = self.stopped.cancelled() => false,
        }
    }
}

impl ChangeReader {
    /// The next page; waits up to `wait` for a first change.
    pub(crate) async fn next_page(&mut self, wait: Duration) -> Result<ChangePage, ServiceError> {
        let deadline = Instant::now() + wait;
        let mut gap = false;
        let page = loop {
            let mut page = self.read_page().await?;
            // Reported even if the first pages after the gap have no matching change.
            gap |= page.has_gap;
            page.has_gap = gap;
            self.after = page.next_position;
            self.has_begun = true;
            let is_over = wait.is_zero() || self.is_stopping() || Instant::now() >= deadline;
            if !page.changes.is_empty() || is_over {
                break page;
            }
            if !page.has_more && !self.feed.wait_for_change(self.after, deadline).await {
                break page;
            }
        };
        self.feed.metrics.output.changes.inc_by(page.changes.len() as u64);
        Ok(page)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.feed.stopped.is_cancelled()
    }

    /// The next page, without waiting.
    async fn read_page(&self) -> Result<ChangePage, ServiceError> {
        let reach = changes::read_bounds(&self.feed.db).await?;
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let scan =
            if self.filter.is_selective() { SELECTIVE_SCAN_CHANGES.max(limit) } else { limit };
        let found = self.feed.load_page(self.after, reach.end, scan).await?;
        let is_full = i64::try_from(found.len()).is_ok_and(|count| count == scan);
        // Always the position of a change, never merely the visible end of the feed:
        // after a restore, it shows whether the reader has seen changes that were lost.
        let scanned = found.last().map(|last| last.position);
        let mut matching: Vec<AssignmentChange> =
            found.into_iter().filter(|change| self.filter.selects(change)).collect();
        let is_cut = matching.len() > self.limit;
        matching.truncate(self.limit);
        let next = match matching.last() {
            Some(last) if is_cut => last.position,
            _ => scanned.or(reach.dropped).unwrap_or_default().max(self.after),
        };
        Ok(ChangePage {
            changes: matching,
            next_position: next,
            has_more: is_cut || is_full,
            has_gap: self.has_begun && reach.dropped.is_some_and(|dropped| self.after < dropped),
        })
    }
}

impl ChangeFilter {
    /// Whether few changes may match.
    fn is_selective(&self) -> bool {
        self.segment_id.is_some() || self.audience.is_some()
    }

    fn selects(&self, change: &AssignmentChange) -> bool {
        match (&self.segment_id, &self.audience) {
            (None, None) => {
                !self.moves_only || change.is_move() || change.changed_audiences().next().is_some()
            }
            (segment, audience) => {
                let has_segment =
                    segment.as_ref().is_some_and(|segment| change.enters_or_leaves(segment));
                let has_audience = audience.as_ref().is_some_and(|audience| {
                    change.changed_audiences().any(|name| name == audience)
                });
                has_segment || has_audience
            }
        }
    }
}

impl AssignmentChange {
    /// Whether the customer is in another segment than before, or was merged into another id.
    pub(crate) fn is_move(&self) -> bool {
        let is_same = self.before.as_ref().is_some_and(|it| it.segment.id == self.now.segment.id);
        self.merged_into.is_some() || !is_same
    }

    /// Names of the audiences that the customer entered or left.
    fn changed_audiences(&self) -> impl Iterator<Item = &str> {
        self.audiences_entered.iter().chain(&self.audiences_left).map(String::as_str)
    }

    /// Whether the customer entered or left `segment`. A merged id leaves its segment and enters
    /// none.
    fn enters_or_leaves(&self, segment: &str) -> bool {
        let was_inside = self.before.as_ref().is_some_and(|it| *it.segment.id == *segment);
        let is_inside = self.merged_into.is_none() && *self.now.segment.id == *segment;
        was_inside != is_inside
    }
}
