//! Delivery target of a notification channel, as declared and stored.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::domain::alert::signing::SigningKey;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::secret::{SecretValue, serialize_secret, serialize_secrets};

/// One receiver. Stored unchanged, and shown only as [`RedactedTarget`]: addresses may contain
/// secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeliveryTarget {
    /// A webhook, signed by Standard Webhooks.
    Webhook {
        #[serde(serialize_with = "serialize_secret")]
        url: SecretValue<String>,
        #[serde(default)]
        format: WebhookEnvelope,
        /// `whsec_…` or `whsk_…`. Every secret signs, so that a receiver can rotate them.
        #[serde(default, serialize_with = "serialize_secrets")]
        secrets: Vec<SecretValue<String>>,
    },
    /// Prometheus Alertmanager, API version 2; the address is its root.
    Alertmanager {
        #[serde(serialize_with = "serialize_secret")]
        url: SecretValue<String>,
    },
    /// An incoming webhook of Slack or of a compatible service (Mattermost, Rocket.Chat).
    Slack {
        #[serde(serialize_with = "serialize_secret")]
        url: SecretValue<String>,
    },
    /// E-mail through the configured SMTP server.
    Email { to: Vec<String> },
}

/// Message envelope of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookEnvelope {
    /// `{"type", "timestamp", "data"}` of Standard Webhooks.
    #[default]
    Standard,
    /// `CloudEvents` 1.0, binary mode: attributes as `ce-…` headers, the alert as body.
    CloudeventsBinary,
    /// `CloudEvents` 1.0, structured mode: one JSON document.
    CloudeventsStructured,
}

impl DeliveryTarget {
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
        }
    }
}

/// Redacted view of a target, safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedactedTarget {
    pub kind: &'static str,
    /// Host of the address. The path and a password in the address may be secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<WebhookEnvelope>,
    /// Public key (`whpk_…`) of each asymmetric secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub to: Vec<String>,
}

/// Longest address: common servers and proxies accept this length.
const MAX_URL_BYTES: usize = 2048;
/// Most signatures of one message, and most recipients of one mail.
const MOST: usize = 20;

impl DeliveryTarget {
    /// Validates the target; the error lists every fault with its field and the right form.
    /// Whether the address may be reached (server-side request forgery) is checked at each
    /// delivery, after name resolution.
    pub fn check(&self) -> Result<(), ValidationFaults> {
        let mut faults = ValidationFaults::default();
        if let Some(Err(problem)) = self.url() {
            faults.push(ValidationFault::new("url", problem));
        }
        match self {
            Self::Webhook { secrets, .. } => {
                check_number(&mut faults, "secrets", secrets.len(), "secret to sign with");
                for (i, secret) in secrets.iter().enumerate() {
                    if let Err(problem) = SigningKey::parse(secret.expose()) {
                        faults.push(ValidationFault::new(format!("secrets[{i}]"), problem));
                    }
                }
            }
            Self::Email { to } => {
                check_number(&mut faults, "to", to.len(), "mail address");
                for (i, address) in to.iter().enumerate() {
                    if let Some(problem) = mail_address_fault(address) {
                        faults.push(ValidationFault::new(format!("to[{i}]"), problem));
                    }
                }
            }
            Self::Alertmanager { .. } | Self::Slack { .. } => {}
        }
        faults.into_result(())
    }

    /// The parsed address of a target that has one. The error never quotes the address. A
    /// user name and password in it are sent as HTTP Basic authentication.
    pub(crate) fn url(&self) -> Option<Result<Url, &'static str>> {
        match self {
            Self::Webhook { url, .. } | Self::Alertmanager { url } | Self::Slack { url } => {
                Some(parse_url(url.expose()))
            }
            Self::Email { .. } => None,
        }
    }

    pub fn redacted(&self) -> RedactedTarget {
        let (format, secrets) = match self {
            Self::Webhook { format, secrets, .. } => (Some(*format), secrets.as_slice()),
            _ => (None, [].as_slice()),
        };
        RedactedTarget {
            kind: self.kind(),
            host: self.url().and_then(Result::ok).and_then(|url| Some(url.host()?.to_string())),
            format,
            public_keys: secrets.iter().filter_map(public_key).collect(),
            to: match self {
                Self::Email { to } => to.clone(),
                _ => Vec::new(),
            },
        }
    }
}

fn public_key(secret: &SecretValue<String>) -> Option<String> {
    SigningKey::parse(secret.expose()).ok()?.public_key()
}

fn check_number(faults: &mut ValidationFaults, field: &str, number: usize, of_what: &str) {
    if !(1..=MOST).contains(&number) {
        faults.push(ValidationFault::new(
            field,
            format!("has {number}; give 1 to {MOST}, each a {of_what}"),
        ));
    }
}

fn parse_url(text: &str) -> Result<Url, &'static str> {
    let right = "is not an address such as https://example.com/hooks/alerts";
    // `Url::parse` silently strips tabs and newlines, but the unparsed text is stored.
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    if text.len() > MAX_URL_BYTES {
        return Err("must be at most 2048 bytes long");
    }
    let url = Url::parse(text).map_err(|_| right)?;
    let has_host = match url.host() {
        Some(Host::Domain(name)) => !name.is_empty(),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    };
    if !matches!(url.scheme(), "http" | "https") || !has_host {
        return Err(right);
    }
    Ok(url)
}

/// The fault of a mail address; `None`: its syntax is plausible. Existence is not checked.
pub fn mail_address_fault(address: &str) -> Option<&'static str> {
    let right = "is not a mail address such as data-team@example.com";
    let Some((name, domain)) = address.rsplit_once('@') else { return Some(right) };
    // The dot-atom form of RFC 5322 and the length limits of RFC 5321, section 4.5.3.1. Quoted
    // names are not supported.
    let is_name = name.split('.').all(|part| !part.is_empty() && part.chars().all(is_atom_char));
    let is_domain = domain.split('.').all(is_domain_label);
    let fits = name.len() <= 64 && domain.len() <= 253;
    (!(is_name && is_domain && fits)).then_some(right)
}

fn is_atom_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn is_domain_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
