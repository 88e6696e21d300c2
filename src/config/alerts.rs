//! Who is told of what, how often, and how long it is remembered.

use std::time::Duration;

use crate::config::load::reader::Reader;
use crate::domain::drift::{AlarmRules, MOST_CHECKS};

/// Telling people.
#[derive(Debug, Clone)]
pub struct Alerts {
    /// Where people reach this service, without a slash at its end; `None`: messages
    /// have no link.
    pub external_url: Option<String>,
    /// What is over is dropped after so long; 0 keeps all.
    pub keep_days: u32,
    /// How often to look for what is due.
    pub poll: Duration,
    /// How often an Alertmanager hears of what still fires.
    pub keep_alive: Duration,
    /// After so long another replica takes up what one has begun to send.
    pub claim: Duration,
    /// Between two checks for drift.
    pub check: Duration,
    pub check_sources: CheckSources,
    pub alarm: AlarmRules,
}

/// Whose drift is told of, beside that of the customers drawn by the hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckSources {
    /// Rows that are sent to be scored.
    Rows,
    /// Customers with new events.
    Events,
    Both,
}

impl Alerts {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let alerts = Self {
            external_url: external_url(reader),
            keep_days: reader.integer("alerts.keep_days", 0..=36_500),
            poll: reader.seconds("alerts.poll_seconds", 1..=3600),
            keep_alive: reader.seconds("alerts.keep_alive_seconds", 5..=240),
            claim: reader.seconds("alerts.claim_seconds", 2..=3600),
            check: reader.seconds("drift.check_seconds", 1..=86_400 * 7),
            check_sources: reader.choice(
                "drift.check_sources",
                [
                    ("rows", CheckSources::Rows),
                    ("events", CheckSources::Events),
                    ("both", CheckSources::Both),
                ],
            ),
            alarm: AlarmRules {
                findings: reader.integer("drift.alarm_findings", 1..=i64::from(MOST_CHECKS)),
                checks: reader.integer("drift.alarm_checks", 1..=i64::from(MOST_CHECKS)),
                critical_checks: reader.integer("drift.alarm_critical_checks", 1..=1000),
                recovery_checks: reader.integer("drift.recovery_checks", 1..=1000),
                cool_down_millis: 1000
                    * reader.integer::<i64>("drift.cool_down_seconds", 0..=86_400 * 365),
            },
        };
        let AlarmRules { findings, checks, .. } = alerts.alarm;
        if findings > checks {
            let problem = format!("is {findings}, more than drift.alarm_checks, which is {checks}");
            reader.refuse("drift.alarm_findings", &problem);
        }
        alerts
    }
}

fn external_url(reader: &mut Reader) -> Option<String> {
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
