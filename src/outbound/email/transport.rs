//! SMTP transport to the configured mail server.

use std::fmt;
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rustls::pki_types::CertificateDer;
use url::Url;

use super::{MailError, render_mail};
use crate::config::MailSettings;
use crate::domain::alert::Notification;
use crate::domain::time::Timestamp;
use crate::outbound::{ANSWER_CHARACTERS, DeliveryReceipt, SendError, text};

/// SMTP client for notification mails.
#[derive(Clone)]
pub(crate) struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
    timeout: Duration,
}

/// Omits the server: its address may contain a password.
impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer").field("from", &self.from).finish_non_exhaustive()
    }
}

impl SmtpMailer {
    /// `authorities` are trusted in addition to the public certificate authorities.
    pub(crate) fn new(
        settings: &MailSettings,
        authorities: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, MailError> {
        let from: Address = settings.from.parse()?;
        let url = settings.server.expose();
        let host = url.host_str().unwrap_or_default();
        let credentials = credentials(url);
        let mut tls = TlsParameters::builder(host.to_owned());
        for authority in authorities {
            tls = tls.add_root_certificate(Certificate::from_der(authority.to_vec())?);
        }
        let tls = tls.build_rustls()?;
        let (tls, port) = match (url.scheme(), &credentials) {
            ("smtps", _) => (Tls::Wrapper(tls), 465),
            // With a password TLS is required, never opportunistic: credentials must not be
            // sent in clear.
            (_, Some(_)) => (Tls::Required(tls), 587),
            (_, None) => (Tls::Opportunistic(tls), 25),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(url.port().unwrap_or(port))
            .tls(tls)
            .hello_name(ClientId::Domain(from.domain().to_owned()))
            .timeout(Some(timeout));
        if let Some(credentials) = credentials {
            transport = transport.credentials(credentials);
        }
        Ok(Self { transport: transport.build(), from, timeout })
    }

    /// Sends one mail to all addresses: one refused address refuses the mail for all, and the
    /// retry goes to all.
    pub(crate) async fn send(
        &self,
        to: &[String],
        notice: &Notification,
        now: Timestamp,
    ) -> Result<DeliveryReceipt, SendError> {
        let mail = render_mail(&self.from, to, notice, now)
            .map_err(|error| SendError::forbidden(format!("the mail cannot be built: {error}")))?;
        match tokio::time::timeout(self.timeout, self.transport.send(mail)).await {
            Ok(Ok(response)) => Ok(DeliveryReceipt {
                status: Some(response.code().into()),
                answer: answer(&response),
            }),
            Ok(Err(error)) => {
                Err(SendError { status: error.status().map(u16::from), ..smtp_error(&error) })
            }
            Err(_) => {
                let seconds = self.timeout.as_secs();
                let why = format!("no answer of the mail server within {seconds} seconds");
                Err(SendError::temporary(why))
            }
        }
    }
}

fn credentials(url: &Url) -> Option<Credentials> {
    if url.username().is_empty() {
        return None;
    }
    let name = text::percent_decoded(url.username());
    let password = text::percent_decoded(url.password().unwrap_or_default());
    Some(Credentials::new(name, password))
}

fn answer(response: &Response) -> String {
    let message = response.message().collect::<Vec<_>>().join(" ");
    text::cut(&text::one_line(&message), ANSWER_CHARACTERS)
}

fn smtp_error(error: &lettre::transport::smtp::Error) -> SendError {
    SendError::temporary(text::one_line(&error.to_string()))
}
