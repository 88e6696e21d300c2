//! Where a channel sends, as it is declared and stored.

use serde::{Deserialize, Serialize};

use crate::domain::secret::{Secret, write, write_each};

/// One receiver. Stored as it is; never shown whole: addresses may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// Signed as Standard Webhooks say.
    Webhook {
        #[serde(serialize_with = "write")]
        url: Secret<String>,
        #[serde(default)]
        format: Envelope,
        /// `whsec_…` or `whsk_…`; each signs, so that a receiver may change from one to
        /// the next.
        #[serde(default, serialize_with = "write_each")]
        secrets: Vec<Secret<String>>,
    },
    /// Prometheus' Alertmanager, API version 2; the address is that of its root.
    Alertmanager {
        #[serde(serialize_with = "write")]
        url: Secret<String>,
    },
    /// An incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat).
    Slack {
        #[serde(serialize_with = "write")]
        url: Secret<String>,
    },
    /// Through the mail server of the settings.
    Email { to: Vec<String> },
}

/// In what a webhook's message is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// `{"type", "timestamp", "data"}`, as Standard Webhooks say.
    #[default]
    Standard,
    /// `CloudEvents` 1.0: the attributes as `ce-…` headers, the alert as body.
    CloudeventsBinary,
    /// `CloudEvents` 1.0: one JSON document.
    CloudeventsStructured,
}

impl Target {
    pub fn check(&self) -> Result<(), crate::domain::fault::Faults> {
        Ok(())
    }

    pub fn shown(&self) -> serde_json::Value {
        serde_json::json!({ "kind": self.kind() })
    }

    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
        }
    }
}

pub fn webhook_secret(bytes: [u8; 32]) -> Secret<String> {
    Secret::new(format!("whsec_{}", crate::domain::id::hex(&bytes)))
}
