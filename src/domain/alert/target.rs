//! Where a channel sends, as it is declared and stored.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::domain::alert::signing::SigningKey;
use crate::domain::fault::{Fault, Faults};
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
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
        }
    }
}

/// What may be shown of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub kind: &'static str,
    /// Of the address: its path, and a password in it, may be secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Envelope>,
    /// `whpk_…` of each secret that has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub to: Vec<String>,
}

/// Of an address: what servers and proxies take at least.
const MAX_URL_BYTES: usize = 2048;
/// Signatures of one message, and receivers of one mail.
const MOST: usize = 20;

impl Target {
    /// Whether it can be sent to: every fault, with its field and what would be right.
    /// Whether the address may be reached is told when it is.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if let Some(Err(problem)) = self.url() {
            faults.push(Fault::new("url", problem));
        }
        match self {
            Self::Webhook { secrets, .. } => {
                check_number(&mut faults, "secrets", secrets.len(), "secret to sign with");
                for (i, secret) in secrets.iter().enumerate() {
                    if let Err(problem) = SigningKey::parse(secret.expose()) {
                        faults.push(Fault::new(format!("secrets[{i}]"), problem));
                    }
                }
            }
            Self::Email { to } => {
                check_number(&mut faults, "to", to.len(), "mail address");
                for (i, address) in to.iter().enumerate() {
                    if let Some(problem) = mail_problem(address) {
                        faults.push(Fault::new(format!("to[{i}]"), problem));
                    }
                }
            }
            Self::Alertmanager { .. } | Self::Slack { .. } => {}
        }
        faults.or(())
    }

    /// The address of a target that has one, or what is wrong with it, without the
    /// address. A name and a password in it are sent as Basic.
    pub fn url(&self) -> Option<Result<Url, &'static str>> {
        match self {
            Self::Webhook { url, .. } | Self::Alertmanager { url } | Self::Slack { url } => {
                Some(parse_url(url.expose()))
            }
            Self::Email { .. } => None,
        }
    }

    pub fn shown(&self) -> Shown {
        let (format, secrets) = match self {
            Self::Webhook { format, secrets, .. } => (Some(*format), secrets.as_slice()),
            _ => (None, [].as_slice()),
        };
        let public_key =
            |secret: &Secret<String>| SigningKey::parse(secret.expose()).ok()?.public();
        Shown {
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

fn check_number(faults: &mut Faults, field: &str, number: usize, of_what: &str) {
    if !(1..=MOST).contains(&number) {
        faults.push(Fault::new(field, format!("has {number}; give 1 to {MOST}, each a {of_what}")));
    }
}

fn parse_url(text: &str) -> Result<Url, &'static str> {
    let right = "is not an address such as https://example.com/hooks/alerts";
    // The parser strips some characters; what is stored is the text as given.
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    if text.len() > MAX_URL_BYTES {
        return Err("must be at most 2048 bytes long");
    }
    let url = Url::parse(text).map_err(|_| right)?;
    let is_named = |host: Host<&str>| !matches!(host, Host::Domain(name) if name.is_empty());
    if !matches!(url.scheme(), "http" | "https") || !url.host().is_some_and(is_named) {
        return Err(right);
    }
    Ok(url)
}

/// What is wrong with a mail address; `None`: it is plausible. Whether it exists only
/// its server knows.
pub fn mail_problem(address: &str) -> Option<&'static str> {
    let right = "is not a mail address such as data-team@example.com";
    let Some((name, domain)) = address.rsplit_once('@') else { return Some(right) };
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let name_holds = name.split('.').all(|part| !part.is_empty() && part.chars().all(is_in_name));
    let domain_holds = domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    let fits = name.len() <= 64 && domain.len() <= 253;
    (!(name_holds && domain_holds && fits)).then_some(right)
}
