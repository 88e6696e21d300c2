//! The columns of a stored alert, and their conversion.

use crate::domain::alert::RoutedAlert;
use crate::store::alerting::{
    AlertAcknowledgement, AlertResolution, AlertRow, from_json, parse_severity, parse_topic,
};
use crate::store::{StoreError, from_sql};

/// A row as selected, with its JSON and its enumerations as text.
pub(super) struct RawAlert {
    pub(super) alert_id: String,
    pub(super) position: i64,
    pub(super) key: String,
    pub(super) topic: String,
    pub(super) severity: String,
    pub(super) owner: Option<String>,
    pub(super) subject: serde_json::Value,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) advice: String,
    pub(super) facts: serde_json::Value,
    pub(super) parts: serde_json::Value,
    pub(super) has_picture: bool,
    pub(super) started_at: chrono::DateTime<chrono::Utc>,
    pub(super) fired_at: chrono::DateTime<chrono::Utc>,
    pub(super) announced_at: chrono::DateTime<chrono::Utc>,
    pub(super) last_seen_at: chrono::DateTime<chrono::Utc>,
    pub(super) is_notification_suppressed: bool,
    pub(super) resolved_at: Option<chrono::DateTime<chrono::Utc>>,
    pub(super) resolved_reason: Option<String>,
    pub(super) acknowledged_at: Option<chrono::DateTime<chrono::Utc>>,
    pub(super) acknowledged_by: Option<String>,
    pub(super) acknowledged_note: Option<String>,
}

impl TryFrom<RawAlert> for AlertRow {
    type Error = StoreError;

    fn try_from(raw: RawAlert) -> Result<Self, StoreError> {
        let resolved = raw.resolved_at.zip(raw.resolved_reason);
        let acknowledged = raw.acknowledged_at.zip(raw.acknowledged_by);
        Ok(Self {
            alert_id: raw.alert_id,
            position: raw.position,
            state: RoutedAlert {
                key: raw.key,
                topic: parse_topic(&raw.topic)?,
                owner: raw.owner,
                severity: parse_severity(&raw.severity)?,
                fired_at: from_sql(raw.fired_at),
                announced_at: from_sql(raw.announced_at),
                is_acknowledged: acknowledged.is_some(),
                is_notification_suppressed: raw.is_notification_suppressed,
            },
            subject: from_json("subject", raw.subject)?,
            title: raw.title,
            description: raw.description,
            advice: raw.advice,
            facts: from_json("facts", raw.facts)?,
            parts: from_json("parts", raw.parts)?,
            has_picture: raw.has_picture,
            started_at: from_sql(raw.started_at),
            last_seen_at: from_sql(raw.last_seen_at),
            resolved: resolved.map(|(at, why)| AlertResolution { at: from_sql(at), reason: why }),
            acknowledged: acknowledged.map(|(at, by)| AlertAcknowledgement {
                at: from_sql(at),
                by,
                note: raw.acknowledged_note.unwrap_or_default(),
            }),
        })
    }
}
