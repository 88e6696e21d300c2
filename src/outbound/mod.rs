//! Clients of other people's servers: webhook, Alertmanager, Slack and mail.
//!
//! Each kind of receiver has a file that renders a [`Notification`] as its message, without I/O.
//! [`NotificationSender`] makes one attempt. The caller decides when to retry.
//!
//! *Architecture invariant:* the author of a channel chooses its address, so every connection
//! of the service except the one to the configured mail server goes through [`guard`]. Commands
//! use [`service_client`].
//!
//! All HTTP goes through one library, the client of `hyper-util` with `hyper-rustls`. Its
//! connector takes the resolver of the guard and one TLS configuration, and it neither follows
//! redirects nor reads proxies from the environment. `reqwest` is built on both crates; its
//! errors contain the URL, which is the secret of a Slack channel. Only tests use it.

pub mod alertmanager;
pub mod email;
pub mod guard;
mod http;
mod message;
pub mod moves;
pub mod service_client;
pub mod slack;
mod text;
pub mod webhook;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use serde_json::Value;

use crate::config::OutboundSettings;
use crate::domain::alert::{AlertState, DeliveryTarget, Notification, SigningKey};
use crate::domain::customer_move::MovesMessage;
use crate::domain::secret::SecretValue;
use crate::domain::text::plain_os_error;
use crate::domain::time::Timestamp;
use email::SmtpMailer;
use http::HttpClient;
pub use message::HttpMessage;

/// Sends notifications to every kind of target.
#[derive(Clone)]
pub struct NotificationSender {
    http: HttpClient,
    mailer: Option<SmtpMailer>,
}

/// Reason why the sender cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("alerts.ca_file: {path} {problem}", path = path.display())]
    Authorities { path: PathBuf, problem: String },
    #[error("the mail server cannot be used: {0}")]
    Mail(#[from] email::MailError),
}

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReceipt {
    /// HTTP status or SMTP reply code; `None`: nothing had to be sent.
    pub status: Option<u16>,
    /// At most 500 characters.
    pub answer: String,
}

/// A message that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    pub kind: SendErrorKind,
    /// HTTP status or SMTP reply code; `None`: no answer.
    pub status: Option<u16>,
    /// The answer or the error, at most 500 characters.
    pub answer: String,
    /// Delay requested by the receiver, a day at most.
    pub retry_after: Option<Duration>,
}

/// What a failed attempt means for the message and its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// May succeed later.
    Temporary,
    /// HTTP 410: the channel is to be disabled.
    Gone,
    /// Not sent and not worth a retry: the address is not permitted, or the target is not
    /// configured (no mail server).
    Forbidden,
}

/// Characters of an answer that are recorded.
const ANSWER_CHARACTERS: usize = 500;

/// Omits the settings, which contain credentials.
impl fmt::Debug for NotificationSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationSender").finish_non_exhaustive()
    }
}

impl NotificationSender {
    pub fn new(settings: &OutboundSettings) -> Result<Self, OutboundError> {
        let authorities = match &settings.ca_file {
            Some(path) => load_certificates(path)
                .map_err(|problem| OutboundError::Authorities { path: path.clone(), problem })?,
            None => Vec::new(),
        };
        let mailer = settings
            .mail
            .as_ref()
            .map(|mail| SmtpMailer::new(mail, &authorities, settings.timeout))
            .transpose()?;
        let http =
            HttpClient::new(settings.allow_private_addresses, &authorities, settings.timeout)?;
        Ok(Self { http, mailer })
    }

    /// Makes one attempt; the caller decides when to retry.
    pub async fn send(
        &self,
        target: &DeliveryTarget,
        notice: &Notification,
        now: Timestamp,
    ) -> Result<DeliveryReceipt, SendError> {
        match target {
            DeliveryTarget::Webhook { format, secrets, .. } => {
                let keys = signing_keys(secrets)?;
                let message = webhook::webhook_message(*format, &keys, notice, now);
                self.post(target, message, now).await
            }
            DeliveryTarget::Alertmanager { .. } => {
                self.post(target, json_message(&alertmanager::postable_alert(notice, now)), now)
                    .await
            }
            DeliveryTarget::Slack { .. } => {
                self.post(target, json_message(&slack::slack_message(notice)), now).await
            }
            DeliveryTarget::Email { to } => match &self.mailer {
                Some(mailer) => mailer.send(to, notice, now).await,
                None => {
                    Err(SendError::forbidden("no mail server is configured (alerts.mail_server)"))
                }
            },
        }
    }

    /// Sends moves between segments to a webhook: one attempt.
    pub async fn send_moves(
        &self,
        target: &DeliveryTarget,
        moves: &MovesMessage,
        now: Timestamp,
    ) -> Result<DeliveryReceipt, SendError> {
        let DeliveryTarget::Webhook { format, secrets, .. } = target else {
            return Err(SendError::forbidden("moves are sent to webhooks only"));
        };
        let keys = signing_keys(secrets)?;
        self.post(target, moves::moves_message(*format, &keys, moves, now), now).await
    }

    /// Repeats firing alerts to Alertmanager, which otherwise resolves them after
    /// `alertmanager::ALERT_VALIDITY`. Other receivers need no repetition.
    pub async fn still_firing(
        &self,
        target: &DeliveryTarget,
        notices: &[Notification],
        now: Timestamp,
    ) -> Result<DeliveryReceipt, SendError> {
        let fires = notices.iter().any(|notice| notice.state == AlertState::Firing);
        if !fires || !matches!(target, DeliveryTarget::Alertmanager { .. }) {
            return Ok(DeliveryReceipt { status: None, answer: String::new() });
        }
        self.post(target, json_message(&alertmanager::repetition_body(notices, now)), now).await
    }

    async fn post(
        &self,
        target: &DeliveryTarget,
        message: HttpMessage,
        now: Timestamp,
    ) -> Result<DeliveryReceipt, SendError> {
        let url = match target.url() {
            Some(Ok(url)) if matches!(target, DeliveryTarget::Alertmanager { .. }) => {
                alertmanager::alerts_url(url)
            }
            Some(Ok(url)) => url,
            Some(Err(problem)) => return Err(SendError::forbidden(format!("url {problem}"))),
            None => return Err(SendError::forbidden("the target has no address")),
        };
        self.http.post(url, message, now).await
    }
}

/// Loads every certificate of a PEM file.
fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err("contains no certificate".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(pem::Error::Io(error)) => Err(format!("cannot be read: {}", plain_os_error(&error))),
        Err(error) => Err(format!("is not a file of PEM certificates: {error}")),
    }
}

fn json_message(body: &Value) -> HttpMessage {
    HttpMessage::new("application/json", body.to_string().into_bytes())
}

fn signing_keys(secrets: &[SecretValue<String>]) -> Result<Vec<SigningKey>, SendError> {
    if secrets.is_empty() {
        return Err(SendError::forbidden("the channel has no signing secret"));
    }
    let parsed = secrets.iter().map(|secret| SigningKey::parse(secret.expose()));
    parsed.collect::<Result<_, _>>().map_err(|why| SendError::forbidden(format!("a secret {why}")))
}

impl SendError {
    fn new(kind: SendErrorKind, why: impl AsRef<str>) -> Self {
        let answer = text::cut(why.as_ref(), ANSWER_CHARACTERS);
        Self { kind, status: None, answer, retry_after: None }
    }

    fn forbidden(why: impl AsRef<str>) -> Self {
        Self::new(SendErrorKind::Forbidden, why)
    }

    fn temporary(why: impl AsRef<str>) -> Self {
        Self::new(SendErrorKind::Temporary, why)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}: {}", self.answer),
            None => f.write_str(&self.answer),
        }
    }
}

impl std::error::Error for SendError {}
