//! Other people's servers: what they are sent, and how.
//!
//! Each kind of receiver has a file that makes its message of a [`Notice`], purely;
//! [`Sender`] brings it there, once. How often and when it is tried is for the caller.
//!
//! *Architecture invariant:* whoever declares a channel says where to, so every
//! connection but that to the mail server of the settings goes through [`guard`].

pub mod alertmanager;
pub mod email;
pub mod guard;
mod http;
mod message;
pub mod slack;
mod text;
pub mod webhook;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::config::Outbound;
use crate::domain::alert::{Notice, SigningKey, State, Target};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use email::Mailer;
use http::Http;
pub use message::Message;

/// Sends to each kind of target.
#[derive(Clone)]
pub struct Sender {
    http: Http,
    mailer: Option<Mailer>,
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("alerts.ca_file: {path} {problem}", path = path.display())]
    Authorities { path: PathBuf, problem: String },
    #[error("the mail server cannot be used: {0}")]
    Mail(#[from] email::MailError),
}

/// It was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Of HTTP, or SMTP's reply code; `None`: there was nothing to send.
    pub status: Option<u16>,
    /// At most 500 characters.
    pub answer: String,
}

/// It was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    pub kind: SendErrorKind,
    /// Of HTTP, or SMTP's reply code; `None`: there was no answer.
    pub status: Option<u16>,
    /// What was answered, or what went wrong; at most 500 characters.
    pub answer: String,
    /// For how long the receiver does not want to hear of us, a day at most.
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// Worth another try.
    Temporary,
    /// 410: the channel is to be disabled.
    Gone,
    /// Not sent, nor would it be next time: the address is not allowed, or the target
    /// is not set up (no mail server).
    Forbidden,
}

/// Characters kept of an answer.
const ANSWER_CHARACTERS: usize = 500;

/// Says nothing of the settings.
impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    pub fn new(settings: &Outbound) -> Result<Self, OutboundError> {
        let authorities = match &settings.ca_file {
            Some(path) => authorities(path)
                .map_err(|problem| OutboundError::Authorities { path: path.clone(), problem })?,
            None => Vec::new(),
        };
        let mailer = settings
            .mail
            .as_ref()
            .map(|mail| Mailer::new(mail, &authorities, settings.timeout))
            .transpose()?;
        let http = Http::new(settings.allow_private_addresses, &authorities, settings.timeout)?;
        Ok(Self { http, mailer })
    }

    /// Sends once; how often and when is the caller's business.
    pub async fn send(
        &self,
        target: &Target,
        notice: &Notice,
        now: Timestamp,
    ) -> Result<Receipt, SendError> {
        match target {
            Target::Webhook { format, secrets, .. } => {
                let keys = keys(secrets)?;
                let message = webhook::message(*format, &keys, notice, now);
                self.post(target, message, now).await
            }
            Target::Alertmanager { .. } => {
                self.post(target, json(&alertmanager::told(notice, now)), now).await
            }
            Target::Slack { .. } => self.post(target, json(&slack::message(notice)), now).await,
            Target::Email { to } => match &self.mailer {
                Some(mailer) => mailer.send(to, notice, now).await,
                None => Err(SendError::forbidden("no mail server is set (alerts.mail_server)")),
            },
        }
    }

    /// Alertmanager wants to hear again and again of what still fires: what it does
    /// not hear of ends after [`alertmanager::FIRES_FOR`]. Nobody else is told.
    pub async fn still_firing(
        &self,
        target: &Target,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Receipt, SendError> {
        let fires = notices.iter().any(|notice| notice.state == State::Firing);
        if !fires || !matches!(target, Target::Alertmanager { .. }) {
            return Ok(Receipt { status: None, answer: String::new() });
        }
        self.post(target, json(&alertmanager::still(notices, now)), now).await
    }

    async fn post(
        &self,
        target: &Target,
        message: Message,
        now: Timestamp,
    ) -> Result<Receipt, SendError> {
        let url = match target.url() {
            Some(Ok(url)) if matches!(target, Target::Alertmanager { .. }) => {
                alertmanager::address(url)
            }
            Some(Ok(url)) => url,
            Some(Err(problem)) => return Err(SendError::forbidden(format!("url {problem}"))),
            None => return Err(SendError::forbidden("this target has no address")),
        };
        self.http.post(url, message, now).await
    }
}

/// Every certificate of a PEM file, or what is wrong with it.
fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err("holds no certificate".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn json(body: &Value) -> Message {
    Message::new("application/json", body.to_string().into_bytes())
}

fn keys(secrets: &[Secret<String>]) -> Result<Vec<SigningKey>, SendError> {
    if secrets.is_empty() {
        return Err(SendError::forbidden("there is no secret to sign with"));
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
