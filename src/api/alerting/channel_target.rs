//! Bodies of the target of a channel: the receiver of its notifications. A response never has
//! the address or the secrets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::alert::{DeliveryTarget, RedactedTarget, WebhookEnvelope};
use crate::domain::secret::SecretValue;

/// The receiver of a channel's notifications. An address in a private network requires the
/// setting `alerts.allow_private_addresses`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ChannelTargetRequest {
    /// A webhook, signed as Standard Webhooks defines.
    Webhook {
        /// Address of the webhook. A user name and a password in it are sent as HTTP Basic
        /// authentication.
        #[schema(value_type = String, max_length = 2048, example = "https://example.com/hooks/alerts")]
        url: SecretValue<String>,
        /// Envelope of the message; default `standard`.
        #[serde(default)]
        format: WebhookFormatBody,
        /// Signing secrets, `whsec_…` (symmetric) or `whsk_…` (asymmetric). Each secret signs,
        /// so that a receiver can rotate its secret. Default: generated for a new channel,
        /// unchanged for an existing webhook.
        #[serde(default)]
        #[schema(value_type = Vec<String>, max_items = 20, example = json!([]))]
        secrets: Vec<SecretValue<String>>,
    },
    /// Prometheus Alertmanager, API version 2.
    Alertmanager {
        /// Root address of the Alertmanager.
        #[schema(value_type = String, max_length = 2048, example = "https://alertmanager.example.com")]
        url: SecretValue<String>,
    },
    /// An incoming webhook of Slack or of a compatible service, such as Mattermost.
    Slack {
        /// Address of the incoming webhook.
        #[schema(value_type = String, max_length = 2048, example = "https://hooks.example.com/services/T0")]
        url: SecretValue<String>,
    },
    /// E-mail through the configured SMTP server.
    Email {
        /// Addresses of the recipients.
        #[schema(min_items = 1, max_items = 20, example = json!(["data-team@example.com"]))]
        to: Vec<String>,
    },
}

/// The envelope of a webhook's message.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WebhookFormatBody {
    /// `type`, `timestamp` and `data`, as Standard Webhooks defines.
    #[default]
    Standard,
    /// `CloudEvents` 1.0 in binary mode: attributes as `ce-…` headers, the alert as body.
    CloudeventsBinary,
    /// `CloudEvents` 1.0 in structured mode: one JSON document.
    CloudeventsStructured,
}

/// The receiver of a channel's notifications, without its address and its secrets.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum ChannelTargetBody {
    /// A webhook, signed as Standard Webhooks defines.
    Webhook {
        /// Host of the address.
        #[schema(example = "example.com")]
        host: Option<String>,
        /// Envelope of the message.
        format: WebhookFormatBody,
        /// Public keys (`whpk_…`) of the asymmetric secrets.
        #[schema(example = json!([]))]
        public_keys: Vec<String>,
    },
    /// Prometheus Alertmanager, API version 2.
    Alertmanager {
        /// Host of the address.
        #[schema(example = "alertmanager.example.com")]
        host: Option<String>,
    },
    /// An incoming webhook of Slack or of a compatible service.
    Slack {
        /// Host of the address.
        #[schema(example = "hooks.example.com")]
        host: Option<String>,
    },
    /// E-mail through the configured SMTP server.
    Email {
        /// Addresses of the recipients.
        #[schema(example = json!(["data-team@example.com"]))]
        to: Vec<String>,
    },
}

impl From<ChannelTargetRequest> for DeliveryTarget {
    fn from(target: ChannelTargetRequest) -> Self {
        match target {
            ChannelTargetRequest::Webhook { url, format, secrets } => {
                Self::Webhook { url, format: format.into(), secrets }
            }
            ChannelTargetRequest::Alertmanager { url } => Self::Alertmanager { url },
            ChannelTargetRequest::Slack { url } => Self::Slack { url },
            ChannelTargetRequest::Email { to } => Self::Email { to },
        }
    }
}

impl From<&DeliveryTarget> for ChannelTargetBody {
    fn from(target: &DeliveryTarget) -> Self {
        let RedactedTarget { host, public_keys, .. } = target.redacted();
        match target {
            DeliveryTarget::Webhook { format, .. } => {
                Self::Webhook { host, format: (*format).into(), public_keys }
            }
            DeliveryTarget::Alertmanager { .. } => Self::Alertmanager { host },
            DeliveryTarget::Slack { .. } => Self::Slack { host },
            DeliveryTarget::Email { to } => Self::Email { to: to.clone() },
        }
    }
}

impl From<WebhookFormatBody> for WebhookEnvelope {
    fn from(format: WebhookFormatBody) -> Self {
        match format {
            WebhookFormatBody::Standard => Self::Standard,
            WebhookFormatBody::CloudeventsBinary => Self::CloudeventsBinary,
            WebhookFormatBody::CloudeventsStructured => Self::CloudeventsStructured,
        }
    }
}

impl From<WebhookEnvelope> for WebhookFormatBody {
    fn from(envelope: WebhookEnvelope) -> Self {
        match envelope {
            WebhookEnvelope::Standard => Self::Standard,
            WebhookEnvelope::CloudeventsBinary => Self::CloudeventsBinary,
            WebhookEnvelope::CloudeventsStructured => Self::CloudeventsStructured,
        }
    }
}
