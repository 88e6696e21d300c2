//! Sending a notice to other people's servers.

use std::time::Duration;

use crate::config;
use crate::domain::alert::{Notice, Target};
use crate::domain::time::Timestamp;

#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
}

#[derive(Debug)]
pub struct Receipt {
    pub status: Option<u16>,
    pub answer: String,
}

#[derive(Debug)]
pub struct SendError {
    pub kind: SendErrorKind,
    pub status: Option<u16>,
    pub answer: String,
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    Temporary,
    Gone,
    Forbidden,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot make a client")]
pub struct OutboundError(#[from] reqwest::Error);

impl Sender {
    pub fn new(settings: &config::Outbound) -> Result<Self, OutboundError> {
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none());
        Ok(Self { client: client.build()? })
    }

    pub async fn send(
        &self,
        target: &Target,
        notice: &Notice,
        _now: Timestamp,
    ) -> Result<Receipt, SendError> {
        let url = match target {
            Target::Webhook { url, .. } | Target::Alertmanager { url } | Target::Slack { url } => {
                url.expose().clone()
            }
            Target::Email { .. } => return Err(forbidden()),
        };
        let request = self
            .client
            .post(url)
            .header("webhook-id", &notice.delivery_id)
            .json(&serde_json::json!({ "type": notice.event_type(), "data": notice }));
        let answer = request.send().await.map_err(|error| SendError {
            kind: SendErrorKind::Temporary,
            status: None,
            answer: error.to_string(),
            retry_after: None,
        })?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").and_then(|value| {
            Some(Duration::from_secs(value.to_str().ok()?.parse().ok()?))
        });
        let answer = answer.text().await.unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(Receipt { status: Some(status), answer });
        }
        let kind = if status == 410 { SendErrorKind::Gone } else { SendErrorKind::Temporary };
        Err(SendError { kind, status: Some(status), answer, retry_after })
    }

    pub async fn still_firing(
        &self,
        target: &Target,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Receipt, SendError> {
        for notice in notices {
            self.send(target, notice, now).await?;
        }
        Ok(Receipt { status: Some(200), answer: String::new() })
    }
}

fn forbidden() -> SendError {
    SendError {
        kind: SendErrorKind::Forbidden,
        status: None,
        answer: "no mail server".into(),
        retry_after: None,
    }
}
