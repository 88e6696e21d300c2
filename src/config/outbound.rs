//! Settings of outbound notifications: webhooks and mail.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config::load::reader::SettingsReader;
use crate::domain::alert::mail_address_fault;
use crate::domain::secret::SecretValue;

/// Requests to external servers.
#[derive(Debug, Clone)]
pub struct OutboundSettings {
    /// Whether a channel may use an address inside the network.
    pub allow_private_addresses: bool,
    /// Time limit for one attempt, from name resolution to the end of the response.
    pub timeout: Duration,
    /// File of CA certificates trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// `None` disables mail.
    pub mail: Option<MailSettings>,
}

/// The mail server.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// `smtp://` or `smtps://`, with a host.
    pub server: SecretValue<Url>,
    /// The sender's address.
    pub from: String,
}

impl OutboundSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            allow_private_addresses: reader.boolean("alerts.allow_private_addresses"),
            timeout: reader.seconds("alerts.timeout_seconds", 1..=300),
            ca_file: reader.path("alerts.ca_file"),
            mail: read_mail(reader),
        }
    }
}

fn read_mail(reader: &mut SettingsReader) -> Option<MailSettings> {
    let server = reader.text("alerts.mail_server");
    let from = reader.text("alerts.mail_from");
    if server.is_empty() {
        return None;
    }
    if let Some(problem) = mail_address_fault(&from) {
        reader
            .refuse("alerts.mail_from", &format!("`{from}` {problem}; a mail server requires it"));
    }
    let Some(url) = Url::parse(&server).ok().filter(is_mail_server) else {
        // Do not print the value: it may contain a password.
        let right = "is not an address such as smtps://user:password@mail.example.com";
        reader.refuse("alerts.mail_server", right);
        return None;
    };
    Some(MailSettings { server: SecretValue::new(url), from })
}

fn is_mail_server(url: &Url) -> bool {
    matches!(url.scheme(), "smtp" | "smtps") && url.host_str().is_some_and(|host| !host.is_empty())
}
