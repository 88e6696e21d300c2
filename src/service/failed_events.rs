//! Rejected events, kept as they came: to see what is wrong with a sender, and
//! to replay after a fix (`intake::replay`).
//!
//! A flood of rubbish must fill no disk. So a key gets only so many kept a
//! minute, the rest are counted; and the oldest go when there are too many.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::FailedEvents as Settings;
use crate::domain::access::Sender;
use crate::domain::fault::{Fault, Faults};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::domain::wire::Door;
use crate::domain::wire::redact::redact_keys;
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::store::failed_events::{FailedSource, NewFailed};
use crate::store::{Db, failed_events};
use crate::telemetry::Metrics;
use crate::telemetry::labels::Failed;

/// Of an event that is too large, enough to recognise it by.
pub const HEAD_BYTES: usize = 1024;
/// Reasons are names to count by; a sender's own field names can be in them.
const MAX_REASON_BYTES: usize = 200;
/// A sender can be wrong in as many ways as its event has fields.
const MAX_FAULTS_BYTES: usize = 2000;
/// Rows dropped in one transaction.
const DROP_ROWS: u32 = 5000;

/// Searched for keys, which takes some 0.2 ms, and written before more are searched.
const WRITTEN_AT_ONCE_BYTES: usize = 64 * 1024;

const MILLIS_PER_MINUTE: i64 = 60_000;

/// Who sends, and where it comes in.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    pub door: Door,
    pub key_id: &'s str,
    /// The key is a public one: its events are of its own namespace.
    pub is_public: bool,
}

impl Source<'_> {
    pub(in crate::service) fn sender(&self) -> Sender {
        if self.is_public { Sender::public(self.key_id) } else { Sender::TRUSTED }
    }
}

/// An event that is not let in: why, and what it was.
#[derive(Debug)]
pub struct Refused {
    pub faults: Faults,
    /// As it came, with the keys in it.
    raw: Box<[u8]>,
    is_cut_short: bool,
}

#[derive(Debug)]
pub struct FailedEvents {
    db: Db,
    clock: Clock,
    metrics: Arc<Metrics>,
    settings: Settings,
    this_minute: Mutex<Minute>,
}

/// How many each key sent in one minute. Keys are few, and known ones.
#[derive(Debug, Default)]
struct Minute {
    number: i64,
    sent: HashMap<String, usize>,
}

impl Refused {
    /// One that can be replayed, unless it is no text.
    pub fn new(faults: Faults, raw: &[u8]) -> Self {
        Self { faults, raw: raw.into(), is_cut_short: false }
    }

    /// One of which `raw` is only the head; it cannot be replayed.
    pub fn cut_short(faults: Faults, raw: &[u8]) -> Self {
        let head = &raw[..raw.len().min(HEAD_BYTES)];
        Self { is_cut_short: true, ..Self::new(faults, head) }
    }

    /// In the form in which it is stored: text, without keys.
    pub fn stored(&self) -> NewFailed {
        let text = String::from_utf8_lossy(&self.raw);
        // Replaced, it might be let in some day as what it never was.
        let is_text = matches!(text, Cow::Borrowed(_)) && !self.raw.contains(&0);
        NewFailed {
            reason: self.reason(),
            faults: self.explanation(),
            raw: storable(redact_keys(&text).into_owned()),
            whole: is_text && !self.is_cut_short,
        }
    }

    pub(in crate::service) fn reason(&self) -> String {
        self.faults.0.first().map(Fault::gist).map(|r| cut(r, MAX_REASON_BYTES)).unwrap_or_default()
    }

    pub(in crate::service) fn explanation(&self) -> String {
        cut(self.faults.to_string(), MAX_FAULTS_BYTES)
    }
}

impl FailedEvents {
    pub fn new(db: Db, clock: Clock, metrics: Arc<Metrics>, settings: Settings) -> Self {
        Self { db, clock, metrics, settings, this_minute: Mutex::default() }
    }

    /// Keeps what came together from one source, as far as the source may.
    pub async fn keep(
        &self,
        source: Source<'_>,
        received_at: Timestamp,
        refused: impl Iterator<Item = &Refused>,
    ) -> Result<(), ServiceError> {
        let refused: Vec<&Refused> = refused.collect();
        if refused.is_empty() {
            return Ok(());
        }
        let (kept, left_out) = refused.split_at(self.room(source.key_id, refused.len()));
        if !kept.is_empty() {
            self.insert(source, received_at, kept).await?;
        }
        let counter = &self.metrics.intake.failed;
        counter.add(Failed::Kept, kept.len() as u64);
        counter.add(Failed::NotKept, left_out.len() as u64);
        Ok(())
    }

    async fn insert(
        &self,
        source: Source<'_>,
        received_at: Timestamp,
        refused: &[&Refused],
    ) -> Result<(), ServiceError> {
        let Source { door, key_id, is_public } = source;
        let source = FailedSource { door, key_id, is_public };
        // Commits together: the rejected events of one request.
        let mut tx = self.db.begin().await?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        for refused in refused {
            rows.push(refused.stored());
            bytes += refused.raw.len();
            if bytes > WRITTEN_AT_ONCE_BYTES {
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

    /// How many of `asked` more this key may have kept in this minute.
    fn room(&self, key_id: &str, asked: usize) -> usize {
        let most = usize::try_from(self.settings.max_per_minute).unwrap_or(usize::MAX);
        let number = self.clock.now().millis().div_euclid(MILLIS_PER_MINUTE);
        let before = {
            let mut minute = self.this_minute.lock().unwrap_or_else(PoisonError::into_inner);
            if minute.number != number {
                *minute = Minute { number, sent: HashMap::new() };
            }
            let sent = minute.sent.entry(key_id.to_owned()).or_default();
            std::mem::replace(sent, sent.saturating_add(asked))
        };
        // Said once a minute.
        if before <= most && before.saturating_add(asked) > most {
            tracing::warn!(key_id, most, "too many rejected events: the rest are not kept");
        }
        asked.min(most.saturating_sub(before))
    }

    /// Drops what is too old and what is too many; returns how many.
    pub async fn clean_up(&self) -> Result<u64, ServiceError> {
        let Settings { keep_days, max_rows, .. } = self.settings;
        let oldest = self.clock.now().plus_millis(-i64::from(keep_days) * MILLIS_PER_DAY);
        let mut dropped = 0;
        loop {
            // Commits together: nothing that must; small, so that nobody waits.
            let mut tx = self.db.begin().await?;
            let limit = i64::from(DROP_ROWS);
            let older = match keep_days {
                0 => 0,
                _ => failed_events::drop_older(&mut tx, oldest, limit).await?,
            };
            let beyond = failed_events::drop_beyond(&mut tx, i64::from(max_rows), limit).await?;
            tx.commit().await?;
            dropped += older + beyond;
            if older.max(beyond) < u64::from(DROP_ROWS) {
                return Ok(dropped);
            }
        }
    }
}

/// At most so many bytes, in a form that Postgres keeps.
fn cut(mut text: String, most: usize) -> String {
    // A fault names the sender's own fields.
    if let Cow::Owned(redacted) = redact_keys(&text) {
        text = redacted;
    }
    text.truncate(text.floor_char_boundary(most));
    storable(text)
}

/// Postgres keeps every character but NUL.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
