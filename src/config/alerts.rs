//! Settings of drift alarms and alert notifications.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::drift::{DriftAlarmRules, MAX_ALARM_CHECKS};

/// Alert notifications and drift checks.
#[derive(Debug, Clone)]
pub struct AlertSettings {
    /// Public base URL of this service, without a trailing slash; `None` omits links from
    /// messages.
    pub external_url: Option<String>,
    /// Retention of resolved alerts in days; 0 retains all.
    pub retention_days: u32,
    /// Interval of the search for due notifications.
    pub poll_interval: Duration,
    /// Interval at which firing alerts are sent to an Alertmanager again.
    pub keep_alive: Duration,
    /// Time after which another replica takes over a delivery that a replica has started.
    pub takeover_after: Duration,
    /// Interval of drift checks.
    pub drift_check_interval: Duration,
    pub drift_check_sources: DriftCheckSources,
    pub alarm_rules: DriftAlarmRules,
}

/// Sources of drift alerts, in addition to the sample of stored customers drawn each hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftCheckSources {
    /// Feature rows in scoring requests.
    Rows,
    /// Customers with new events.
    Events,
    Both,
}

impl AlertSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        let alerts = Self {
            external_url: external_url(reader),
            retention_days: reader.integer("alerts.retention_days", 0..=36_500),
            poll_interval: reader.seconds("alerts.poll_seconds", 1..=3600),
            keep_alive: reader.seconds("alerts.repeat_interval_seconds", 5..=240),
            takeover_after: reader.seconds("alerts.claim_timeout_seconds", 2..=3600),
            drift_check_interval: reader.seconds("drift.check_seconds", 1..=86_400 * 7),
            drift_check_sources: reader.choice(
                "drift.check_sources",
                [
                    ("rows", DriftCheckSources::Rows),
                    ("events", DriftCheckSources::Events),
                    ("both", DriftCheckSources::Both),
                ],
            ),
            alarm_rules: DriftAlarmRules {
                findings: reader.integer("drift.alarm_findings", 1..=i64::from(MAX_ALARM_CHECKS)),
                checks: reader.integer("drift.alarm_checks", 1..=i64::from(MAX_ALARM_CHECKS)),
                critical_checks: reader.integer("drift.alarm_critical_checks", 1..=1000),
                recovery_checks: reader.integer("drift.recovery_checks", 1..=1000),
                cool_down_millis: 1000
                    * reader.integer::<i64>("drift.cool_down_seconds", 0..=86_400 * 365),
            },
        };
        let DriftAlarmRules { findings, checks, .. } = alerts.alarm_rules;
        if findings > checks {
            let problem = format!("is {findings}, more than drift.alarm_checks, which is {checks}");
            reader.refuse("drift.alarm_findings", &problem);
        }
        alerts
    }
}

fn external_url(reader: &mut SettingsReader) -> Option<String> {
    let url = reader.text("alerts.external_url");
    if url.is_empty() {
        return None;
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        let problem = format!("is `{url}`, not an address that begins with http:// or https://");
        reader.refuse("alerts.external_url", &problem);
    }
    Some(url.trim_end_matches('/').into())
}
