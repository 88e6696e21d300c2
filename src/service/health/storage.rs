//! Monitor of the database and its disk: for readiness, metrics and alerts, and to refuse
//! events before Postgres runs out of space.
//!
//! Postgres panics when it cannot write its write-ahead log, and cannot recover until the
//! disk has free space again. So below a floor events are refused; scoring of feature
//! rows continues.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::drift::Severity;
use crate::service::ServiceError;
use crate::service::alerts::{AlertService, NewAlert};
use crate::service::error::ErrorChain;
use crate::store::ReadOnlyDatabase;
use crate::store::database::private::{DiskSpace, disk_space};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::repeated_failures::count_failure;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A slower answer counts as no answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const ALERT_KEY: &str = "operations:disk";
/// Hysteresis: a bound that was crossed is left only at this percentage of it, so that
/// alerts do not flap.
const MARGIN_PERCENT: u64 = 110;

/// Bounds of free disk space, in bytes; 0: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskBounds {
    /// Less free space raises an alert.
    pub warn_free_bytes: u64,
    /// With less free space, events are refused.
    pub min_free_bytes: u64,
}

/// Level of free disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DiskSpaceLevel {
    Sufficient,
    Low,
    /// Events are refused.
    Critical,
}

/// State of the database and its disk at the last check.
#[derive(Debug)]
pub(crate) struct StorageMonitor {
    db: ReadOnlyDatabase,
    /// Directory on the disk of the private server; `None` with an external database.
    directory: Option<PathBuf>,
    bounds: DiskBounds,
    alerts: Arc<AlertService>,
    metrics: Arc<ServiceMetrics>,
    is_up: AtomicBool,
    free_bytes: AtomicU64,
    refuses_events: AtomicBool,
}

impl StorageMonitor {
    pub(crate) fn new(
        db: ReadOnlyDatabase,
        directory: Option<&Path>,
        bounds: DiskBounds,
        alerts: Arc<AlertService>,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        Self {
            db,
            directory: directory.map(Path::to_owned),
            bounds,
            alerts,
            metrics,
            is_up: AtomicBool::new(true),
            free_bytes: AtomicU64::new(u64::MAX),
            refuses_events: AtomicBool::new(false),
        }
    }

    /// Whether Postgres answered the last check.
    pub(crate) fn is_database_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Whether the disk has space for events.
    pub(crate) fn has_disk_space(&self) -> bool {
        !self.refuses_events.load(Ordering::Relaxed)
    }

    /// Fails while the disk has too little space for events.
    pub(crate) fn check_disk_space(&self) -> Result<(), ServiceError> {
        if self.has_disk_space() {
            return Ok(());
        }
        Err(ServiceError::DiskFull {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            min_free_bytes: self.bounds.min_free_bytes,
        })
    }

    /// Checks every second whether Postgres answers.
    pub(crate) async fn monitor_database(&self) {
        loop {
            let answered = tokio::time::timeout(PING_TIMEOUT, self.db.check_health()).await;
            let failure = match answered {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(ErrorChain(&error).to_string()),
                Err(_) => Some(format!("no answer within {PING_TIMEOUT:?}")),
            };
            // Only a change is logged, not every failed check.
            let was_up = self.is_up.swap(failure.is_none(), Ordering::Relaxed);
            self.metrics.database.up.set(i64::from(failure.is_none()));
            match failure {
                Some(error) if was_up => {
                    tracing::error!(
                        error,
                        "the database does not answer; scoring of feature rows continues without it"
                    );
                }
                None if !was_up => tracing::info!("the database answers again"),
                _ => {}
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Checks the disk every second; waits for ever if the database is external.
    pub(crate) async fn monitor_disk(&self) {
        let Some(directory) = self.directory.clone() else {
            return std::future::pending().await;
        };
        let mut room = DiskSpaceLevel::Sufficient;
        // The level at the last alert that was raised or resolved.
        let mut alerted = None;
        loop {
            let checked_directory = directory.clone();
            let space = tokio::task::spawn_blocking(move || disk_space(&checked_directory)).await;
            match space {
                Ok(Ok(space)) => {
                    let before = room;
                    room = self.publish(space, before);
                    if alerted != Some(room) {
                        match self.update_alert(room, space).await {
                            Ok(()) => alerted = Some(room),
                            Err(error) => {
                                log_repeated(
                                    "the disk-space alert is not stored; retrying",
                                    &error,
                                );
                            }
                        }
                    }
                }
                Ok(Err(error)) => log_repeated(&unreadable_space(&directory), &error),
                Err(error) => log_repeated(&unreadable_space(&directory), &error),
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Publishes a measurement and logs a change of level.
    fn publish(&self, space: DiskSpace, before: DiskSpaceLevel) -> DiskSpaceLevel {
        let room = self.bounds.level_for(space.free_bytes, before);
        self.metrics.database.set_disk_space(space.free_bytes, space.total_bytes);
        self.free_bytes.store(space.free_bytes, Ordering::Relaxed);
        self.refuses_events.store(room == DiskSpaceLevel::Critical, Ordering::Relaxed);
        let free_bytes = space.free_bytes;
        if room != before {
            match room {
                DiskSpaceLevel::Sufficient => {
                    tracing::info!(free_bytes, "the disk has enough free space again");
                }
                DiskSpaceLevel::Low => {
                    let warn_free_bytes = self.bounds.warn_free_bytes;
                    tracing::warn!(free_bytes, warn_free_bytes, "the disk has little free space");
                }
                DiskSpaceLevel::Critical => {
                    let min_free_bytes = self.bounds.min_free_bytes;
                    tracing::error!(
                        free_bytes,
                        min_free_bytes,
                        "the disk is almost full: events are refused, row scoring continues"
                    );
                }
            }
        }
        room
    }

    async fn update_alert(
        &self,
        room: DiskSpaceLevel,
        space: DiskSpace,
    ) -> Result<(), ServiceError> {
        match room {
            DiskSpaceLevel::Sufficient => {
                let why = "the disk has enough free space again";
                self.alerts.resolve_in_own_transaction(ALERT_KEY, why).await
            }
            DiskSpaceLevel::Low | DiskSpaceLevel::Critical => {
                let alert = disk_alert(room, space, self.bounds);
                self.alerts.raise_in_own_transaction(&alert).await
            }
        }
    }
}

impl DiskBounds {
    /// The level for `free_bytes`, after the level `before`.
    pub(crate) fn level_for(self, free_bytes: u64, before: DiskSpaceLevel) -> DiskSpaceLevel {
        for (bound, room) in [
            (self.min_free_bytes, DiskSpaceLevel::Critical),
            (self.warn_free_bytes, DiskSpaceLevel::Low),
        ] {
            let margin = if before >= room { MARGIN_PERCENT } else { 100 };
            if free_bytes < bound / 100 * margin {
                return room;
            }
        }
        DiskSpaceLevel::Sufficient
    }
}

fn unreadable_space(directory: &Path) -> String {
    format!("the free space of {} cannot be read", directory.display())
}

/// Logs the failure of a check, which is repeated every second.
fn log_repeated(message: &str, error: &(dyn std::error::Error + 'static)) {
    let error = ErrorChain(error).to_string();
    if let Some(repeated) = count_failure("disk check", &error) {
        tracing::warn!(error, "{message}{repeated}");
    }
}

fn fact(name: &str, bytes: u64) -> AlertFact {
    AlertFact { name: name.into(), value: bytes.to_string() }
}

fn disk_alert(room: DiskSpaceLevel, space: DiskSpace, bounds: DiskBounds) -> NewAlert {
    let is_refusing = room == DiskSpaceLevel::Critical;
    let what = if is_refusing {
        "The disk of the private Postgres is almost full. Events are refused with 503 until \
         space is free; scoring of feature rows continues."
    } else {
        "The disk of the private Postgres has little free space. Below \
         database.min_free_bytes, events are refused."
    };
    NewAlert {
        key: ALERT_KEY.into(),
        topic: AlertTopic::Operations,
        severity: if is_refusing { Severity::Critical } else { Severity::Warning },
        owner: None,
        subject: BTreeMap::from([("volume".to_owned(), "private_postgres".to_owned())]),
        title: "The database's disk has little free space".into(),
        description: what.into(),
        advice: "Free space or enlarge the disk. Events, history and failed events grow; \
                 see history.retention_days and failed_events.retention_days."
            .into(),
        facts: vec![
            fact("Free bytes", space.free_bytes),
            fact("Total bytes", space.total_bytes),
            fact("Events are refused below", bounds.min_free_bytes),
        ],
        parts: vec![],
        picture: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_left_with_a_margin() {
        let bounds = DiskBounds { warn_free_bytes: 1000, min_free_bytes: 100 };
        assert_eq!(bounds.level_for(1000, DiskSpaceLevel::Sufficient), DiskSpaceLevel::Sufficient);
        assert_eq!(bounds.level_for(999, DiskSpaceLevel::Sufficient), DiskSpaceLevel::Low);
        assert_eq!(bounds.level_for(1050, DiskSpaceLevel::Low), DiskSpaceLevel::Low);
        assert_eq!(bounds.level_for(1100, DiskSpaceLevel::Low), DiskSpaceLevel::Sufficient);
        assert_eq!(bounds.level_for(99, DiskSpaceLevel::Low), DiskSpaceLevel::Critical);
        assert_eq!(bounds.level_for(105, DiskSpaceLevel::Critical), DiskSpaceLevel::Critical);
        assert_eq!(bounds.level_for(105, DiskSpaceLevel::Low), DiskSpaceLevel::Low);
        assert_eq!(bounds.level_for(110, DiskSpaceLevel::Critical), DiskSpaceLevel::Low);
        let unbounded = DiskBounds { warn_free_bytes: 0, min_free_bytes: 0 };
        assert_eq!(unbounded.level_for(0, DiskSpaceLevel::Sufficient), DiskSpaceLevel::Sufficient);
    }
}
