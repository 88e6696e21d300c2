//! Effects of a check on alarms and alerts.

use crate::domain::drift::{AlertAnnouncement, ScoreSource};
use crate::service::alerts::{AnnouncementMode, NewAlert};
use crate::store::alerting::alarms::AlarmRow;

/// The effects of a check, which commit together.
#[derive(Default)]
pub(super) struct CheckChanges {
    pub(super) alarms: Vec<AlarmChange>,
    /// Of one key a resolution comes before a new alert.
    pub(super) alerts: Vec<AlertChange>,
}

pub(super) struct AlarmChange {
    pub(super) row: AlarmRow,
    /// Its state is deleted.
    pub(super) is_forgotten: bool,
}

pub(super) struct AlertChange {
    pub(super) key: String,
    pub(super) action: AlertAction,
}

pub(super) enum AlertAction {
    Raise(Box<NewAlert>, AnnouncementMode),
    Resolve(String),
}

impl CheckChanges {
    /// Ends alarms without another check, and the alerts of which they are parts.
    pub(super) fn forget(&mut self, rows: Vec<AlarmRow>, why: &str) {
        let mut keys: Vec<String> =
            rows.iter().filter_map(|row| row.record.alert_key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            self.alerts.push(AlertChange { key, action: AlertAction::Resolve(why.to_owned()) });
        }
        for row in rows {
            self.alarms.push(AlarmChange { row, is_forgotten: true });
        }
    }
}

/// Whether an alarm key belongs to this source.
pub(super) fn is_of_source(key: &str, source: ScoreSource) -> bool {
    key.rsplit(':').next() == Some(source.name())
}

pub(super) const fn mode_of(announcement: AlertAnnouncement) -> AnnouncementMode {
    match announcement {
        AlertAnnouncement::Normal => AnnouncementMode::Normal,
        AlertAnnouncement::ReopenSilently => AnnouncementMode::ReopenSilently,
        AlertAnnouncement::Louder => AnnouncementMode::ReopenAndNotify,
        AlertAnnouncement::Again => AnnouncementMode::AnnounceAgain,
    }
}
