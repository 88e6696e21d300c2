//! Rejected events (dead-letter store): retained as received, to diagnose a sender and to
//! replay after a fix (`ingestion::replay`).
//!
//! A flood of invalid events must not fill the disk. So the number stored per key and
//! minute is bounded, and further ones are only counted. The oldest are dropped above a
//! maximum.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::FailedEventSettings as Settings;
use crate::domain::access::MessageIdNamespace;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::domain::wire::IngestionEndpoint;
use crate::domain::wire::redact::redact_keys;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::store::failed_events::{FailedEventSource, NewFailedEvent};
use crate::store::{DatabaseHandle, failed_events};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::FailedEventOutcome;

/// Bytes stored of an event that is too large: enough to recognise it.
pub const TRUNCATED_EVENT_BYTES: usize = 1024;
/// Maximum length of a reason. Reasons group rejected events, and may contain the
/// sender's own field names.
const MAX_REASON_BYTES: usize = 200;
/// Maximum length of the explanation: every field of an event can have a fault.
const MAX_FAULTS_BYTES: usize = 2000;
/// Rows dropped in one transaction.
const DROP_ROWS: u32 = 5000;

/// Bytes searched for API keys (some 0.2 ms) before the rows are written.
const INSERT_BYTES: usize = 64 * 1024;

const MILLIS_PER_MINUTE: i64 = 60_000;

/// Origin of an event: the sender's key and the endpoint.
#[derive(Debug, Clone, Copy)]
pub struct EventSource<'s> {
    pub endpoint: IngestionEndpoint,
    pub key_id: &'s str,
    /// Whether the key is public: its events have a namespace of their own.
    pub is_public: bool,
}

impl EventSource<'_> {
    pub(in crate::service) fn sender(&self) -> MessageIdNamespace {
        if self.is_public {
            MessageIdNamespace::of_public_key(self.key_id)
        } else {
            MessageIdNamespace::TRUSTED
        }
    }
}

/// A rejected event, with its faults.
#[derive(Debug)]
pub struct RejectedEvent {
    pub faults: ValidationFaults,
    /// As received, API keys included.
    raw: Box<[u8]>,
    is_cut_short: bool,
}

#[derive(Debug)]
pub struct FailedEventStore {
    db: DatabaseHandle,
    clock: TimeSource,
    metrics: Arc<ServiceMetrics>,
    settings: Settings,
    this_minute: Mutex<MinuteCounts>,
}

/// Rejected events per key in one minute. Keys are few, and authenticated.
#[derive(Debug, Default)]
struct MinuteCounts {
    number: i64,
    sent: HashMap<String, usize>,
}

impl RejectedEvent {
    /// A rejected event that can be replayed, unless it is not valid text.
    pub fn new(faults: ValidationFaults, raw: &[u8]) -> Self {
        Self { faults, raw: raw.into(), is_cut_short: false }
    }

    /// A rejected event of which only the head of `raw` is stored; it cannot be replayed.
    pub fn truncated(faults: ValidationFaults, raw: &[u8]) -> Self {
        let head = &raw[..raw.len().min(TRUNCATED_EVENT_BYTES)];
        Self { is_cut_short: true, ..Self::new(faults, head) }
    }

    /// The event as text. Bytes that are not UTF-8 are read as Latin-1, which keeps each of
    /// them, except in a head that was cut within a character.
    fn text(&self) -> Cow<'_, str> {
        match std::str::from_utf8(&self.raw) {
            Err(error) if !self.is_cut_short || error.error_len().is_some() => {
                self.raw.iter().copied().map(char::from).collect()
            }
            _ => String::from_utf8_lossy(&self.raw),
        }
    }

    /// The stored form: text, with API keys redacted.
    pub fn stored(&self) -> NewFailedEvent {
        let text = self.text();
        // As Latin-1 it could be accepted on replay as something never sent.
        let is_text = matches!(text, Cow::Borrowed(_)) && !self.raw.contains(&0);
        NewFailedEvent {
            reason: self.reason(),
            faults: self.explanation(),
            raw: storable(redact_keys(&text).into_owned()),
            is_complete: is_text && !self.is_cut_short,
        }
    }

    pub(in crate::service) fn reason(&self) -> String {
        self.faults
            .0
            .first()
            .map(ValidationFault::broken_rule)
            .map(|r| truncate_for_storage(r, MAX_REASON_BYTES))
            .unwrap_or_default()
    }

    pub(in crate::service) fn explanation(&self) -> String {
        truncate_for_storage(self.faults.to_string(), MAX_FAULTS_BYTES)
    }
}

impl FailedEventStore {
    pub fn new(
        db: DatabaseHandle,
        clock: TimeSource,
        metrics: Arc<ServiceMetrics>,
        settings: Settings,
    ) -> Self {
        Self { db, clock, metrics, settings, this_minute: Mutex::default() }
    }

    /// Stores the rejected events of one request, up to the key's limit per minute.
    pub(crate) async fn store_events(
        &self,
        source: EventSource<'_>,
        received_at: Timestamp,
        refused: impl Iterator<Item = &RejectedEvent>,
    ) -> Result<(), ServiceError> {
        let refused: Vec<&RejectedEvent> = refused.collect();
        if refused.is_empty() {
            return Ok(());
        }
        // The first rejected events of a request are stored, the rest only counted.
        let (stored, not_stored) = refused.split_at(self.allowance(source.key_id, refused.len()));
        if !stored.is_empty() {
            self.insert(source, received_at, stored).await?;
        }
        let counter = &self.metrics.ingestion.failed_events;
        counter.add(FailedEventOutcome::Stored, stored.len() as u64);
        counter.add(FailedEventOutcome::NotStored, not_stored.len() as u64);
        Ok(())
    }

    async fn insert(
        &self,
        source: EventSource<'_>,
        received_at: Timestamp,
        refused: &[&RejectedEvent],
    ) -> Result<(), ServiceError> {
        let EventSource { endpoint, key_id, is_public } = source;
        let source = FailedEventSource { endpoint, key_id, is_public };
        // Commits together: the rejected events of one request.
        let mut tx = self.db.begin().await?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        for refused in refused {
            rows.push(refused.stored());
            bytes += refused.raw.len();
            if bytes > INSERT_BYTES {
                failed_events::insert(&mut tx, received_at, source, &rows).await?;
                rows.clear();
                bytes = 0;
            }
        }
        if !rows.is_empty() {
            failed_events::insert(&mut tx, received_at, source, &rows).await?;
        }
        Ok(tx.commit().await?)
    }

    /// How many of `requested` further events this key may store in this minute.
    fn allowance(&self, key_id: &str, requested: usize) -> usize {
        let max_per_minute = usize::try_from(self.settings.max_per_minute).unwrap_or(usize::MAX);
        let number = self.clock.now().millis().div_euclid(MILLIS_PER_MINUTE);
        let before = {
            let mut minute = self.this_minute.lock().unwrap_or_else(PoisonError::into_inner);
            if minute.number != number {
                *minute = MinuteCounts { number, sent: HashMap::new() };
            }
            let sent = minute.sent.entry(key_id.to_owned()).or_default();
            std::mem::replace(sent, sent.saturating_add(requested))
        };
        // Logged once per minute and key.
        if before <= max_per_minute && before.saturating_add(requested) > max_per_minute {
            tracing::warn!(
                key_id,
                max_per_minute,
                "too many rejected events from one key in this minute: the rest are not stored"
            );
        }
        requested.min(max_per_minute.saturating_sub(before))
    }

    /// Drops rows that are too old and rows above the maximum. Returns the number
    /// dropped.
    pub async fn delete_expired(&self) -> Result<u64, ServiceError> {
        let Settings { retention_days: keep_days, max_rows, .. } = self.settings;
        let oldest = self.clock.now().plus_millis(-i64::from(keep_days) * MILLIS_PER_DAY);
        let mut dropped = 0;
        loop {
            // Commits together: no invariant; small batches, so that no other transaction
            // waits long.
            let mut tx = self.db.begin().await?;
            let limit = i64::from(DROP_ROWS);
            let older = match keep_days {
                0 => 0,
                _ => failed_events::delete_older(&mut tx, oldest, limit).await?,
            };
            let beyond =
                failed_events::delete_beyond_newest(&mut tx, i64::from(max_rows), limit).await?;
            tx.commit().await?;
            dropped += older + beyond;
            if older.max(beyond) < u64::from(DROP_ROWS) {
                return Ok(dropped);
            }
        }
    }
}

/// Truncates to at most `max_bytes` bytes, in a form that Postgres can store.
fn truncate_for_storage(mut text: String, max_bytes: usize) -> String {
    // Fault texts contain the sender's own field names, which may be API keys.
    if let Cow::Owned(redacted) = redact_keys(&text) {
        text = redacted;
    }
    text.truncate(text.floor_char_boundary(max_bytes));
    storable(text)
}

/// Replaces NUL, the only character that Postgres cannot store.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
