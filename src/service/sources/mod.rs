//! Who sends events, and whether it is as much as usual.
//!
//! A request adds its count to its source's, in memory; once a minute that is written
//! down, where replicas add up. Then one of them looks at every source for all:
//! [`crate::domain::event::source_volume`] tells who has gone quiet, or sends far more or less than
//! usual, and that is raised as an alert, and over once it is as usual again.

mod tell;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex as Lock, PoisonError};

use tokio::sync::Mutex;

use crate::config::Sources as Settings;
use crate::domain::event::source_volume::{Assessment, HISTORY_DAYS, Status, assess};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::domain::wire::Door;
use crate::service::ServiceError;
use crate::service::alerts::{Alerts, Voice};
use crate::service::clock::Clock;
use crate::service::error::Chain;
use crate::service::failed_events::Source;
use crate::service::health::clock_check::ClockCheck;
use crate::service::ingestion::Outcome;
use crate::store::alerting::alarms;
use crate::store::alerting::alarms::Job;
use crate::store::sources::{self as stored, Arrived, SourceRow};
use crate::store::{Db, alerting as raised};
use crate::telemetry::Metrics;

use tell::{found, is_ours, name};

#[derive(Debug)]
pub struct Sources {
    db: Db,
    clock: Clock,
    settings: Settings,
    alerts: Arc<Alerts>,
    metrics: Arc<Metrics>,
    /// What came since the last time.
    seen: Lock<Seen>,
    /// Taken from there, and not written down yet.
    pending: Mutex<BTreeMap<(Door, String, i64), Arrived>>,
}

/// By door and key: sources are few, and known ones.
type Seen = [HashMap<String, Vec<(i64, Arrived)>>; Door::ALL.len()];

/// A source, and how it stands.
#[derive(Debug)]
pub struct Watched {
    pub source: SourceRow,
    pub assessment: Assessment,
}

impl Sources {
    pub fn new(
        db: Db,
        clock: Clock,
        settings: Settings,
        alerts: Arc<Alerts>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (seen, pending) = (Lock::default(), Mutex::default());
        Self { db, clock, settings, alerts, metrics, seen, pending }
    }

    /// What became of the events of one request: the new ones count. Once a source is
    /// known, it allocates nothing.
    pub fn count(&self, source: Source<'_>, received_at: Timestamp, outcomes: &[Outcome]) {
        let is_new = |outcome: &&Outcome| matches!(outcome, Outcome::Accepted { .. });
        let events = outcomes.iter().filter(is_new).count() as u64;
        if events == 0 {
            return;
        }
        let arrived = Arrived { events, first_at: received_at, last_at: received_at };
        let hour = received_at.hour();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_door = &mut seen[source.door as usize];
        let Some(hours) = of_door.get_mut(source.key_id) else {
            of_door.insert(source.key_id.to_owned(), vec![(hour, arrived)]);
            return;
        };
        match hours.iter_mut().find(|(known, _)| *known == hour) {
            Some((_, sum)) => merge(sum, arrived),
            None => hours.push((hour, arrived)),
        }
    }

    /// Writes down what this process has seen.
    pub async fn flush(&self) -> Result<(), ServiceError> {
        let mut pending = self.pending.lock().await;
        for (door, key_id, hour, arrived) in self.take() {
            let sum =
                pending.entry((door, key_id, hour)).or_insert(Arrived { events: 0, ..arrived });
            merge(sum, arrived);
        }
        if pending.is_empty() {
            return Ok(());
        }
        // Commits together: all that came since the last time, once.
        let mut tx = self.db.begin().await?;
        for ((door, key_id, hour), arrived) in &*pending {
            stored::add(&mut tx, *door, key_id, *hour, *arrived).await?;
        }
        tx.commit().await?;
        pending.clear();
        Ok(())
    }

    fn take(&self) -> Vec<(Door, String, i64, Arrived)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for (door, of_door) in Door::ALL.into_iter().zip(seen.iter_mut()) {
            for (key_id, hours) in of_door {
                let hours = hours.drain(..);
                taken.extend(hours.map(|(hour, arrived)| (door, key_id.clone(), hour, arrived)));
            }
        }
        taken
    }

    /// Every source, and how it stands.
    pub async fn list(&self) -> Result<Vec<Watched>, ServiceError> {
        let (now, rules) = (self.clock.now(), self.settings.rules);
        // What came until then, every replica has written down.
        let every = i64::try_from(self.settings.check.as_millis()).unwrap_or(i64::MAX);
        let known = now.plus_millis(every.saturating_mul(-2));
        let sources = stored::all(self.db.read()).await?;
        let assessed = tokio::task::spawn_blocking(move || {
            let assessed = sources.into_iter().map(|source| {
                let source = SourceRow { past: source.past.until(now), ..source };
                let assessment = assess(&source.past, (known, now), &rules);
                Watched { source, assessment }
            });
            assessed.collect()
        });
        assessed.await.map_err(ServiceError::internal)
    }

    /// Looks at every source, and tells of those that are not as usual, unless another
    /// replica has just done so.
    pub async fn check(&self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let watched = self.list().await?;
        self.show(&watched, now);
        let every = i64::try_from(self.settings.check.as_millis()).unwrap_or(i64::MAX);
        // Replicas' naps are not exactly as long as each other.
        let before = now.plus_millis(-every / 2);
        if !alarms::take_turn(&self.db, Job::Sources, before, now).await? {
            return Ok(());
        }
        let found: BTreeMap<String, _> = watched
            .iter()
            .filter_map(|watched| found(watched, now))
            .map(|found| (found.key.clone(), found))
            .collect();
        let fires = raised::firing(self.db.read()).await?;
        let over = fires.into_iter().map(|alert| alert.standing.key);
        let over: Vec<String> =
            over.filter(|key| is_ours(key) && !found.contains_key(key)).collect();
        // Commits together: the alerts that fire or are over, the messages about them,
        // and that what is too old is forgotten.
        let mut tx = self.db.begin().await?;
        let mut keys: Vec<&String> = found.keys().chain(&over).collect();
        keys.sort();
        for key in keys {
            match found.get(key) {
                Some(found) => self.alerts.raise(&mut tx, found, Voice::Plain).await?,
                None => self.alerts.resolve(&mut tx, key, why_over(&watched, key)).await?,
            }
        }
        stored::drop_before(&mut tx, now.plus_millis(-HISTORY_DAYS * MILLIS_PER_DAY)).await?;
        Ok(tx.commit().await?)
    }

    fn show(&self, watched: &[Watched], now: Timestamp) {
        let shown = &self.metrics.sources;
        for door in Door::ALL {
            let of_door = watched.iter().filter(|one| one.source.door == door);
            shown.show_last(door, of_door.map(|one| one.source.past.last_at).max(), now);
        }
        for status in Status::ALL {
            let count = watched.iter().filter(|one| one.assessment.status == status).count();
            shown.show_status(status, count);
        }
    }

    /// Writes down and looks, again and again, until `stopped`. What comes after that is
    /// for [`Self::flush`], once nobody is answered any more.
    /// By a wrong clock nothing is done.
    pub async fn run(self: Arc<Self>, check: Arc<ClockCheck>, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.settings.check) => {}
                () = &mut stopped => return,
            }
            if !check.is_right() {
                continue;
            }
            // Never cut off in between: what was written would be written again.
            let done = async {
                self.flush().await?;
                self.check().await
            };
            if let Err(error) = done.await {
                tracing::warn!(error = %Chain(&error), "sources: will be tried again");
            }
        }
    }
}

fn why_over(watched: &[Watched], key: &str) -> &'static str {
    if watched.iter().any(|one| key.ends_with(&name(&one.source))) {
        "the source is as usual again"
    } else {
        "its key was revoked, or nothing has come for five weeks"
    }
}

fn merge(sum: &mut Arrived, more: Arrived) {
    sum.events = sum.events.saturating_add(more.events);
    sum.first_at = sum.first_at.min(more.first_at);
    sum.last_at = sum.last_at.max(more.last_at);
}
