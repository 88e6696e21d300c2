//! Mail: text and HTML parts of the same content, with the figures as a table for every client
//! and the drawing for clients that support it.

mod html;
mod transport;

use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};

use super::text::{self, bars, facts, headline};
use crate::domain::alert::{AlertChart, AlertState, Notification};
use crate::domain::time::Timestamp;
pub use html::render_html;
pub(super) use transport::SmtpMailer;

/// Reason why a mail cannot be built or sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("{0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("{0}")]
    Message(#[from] lettre::error::Error),
    #[error("{0}")]
    ContentType(#[from] lettre::message::header::ContentTypeErr),
    #[error("{0}")]
    Tls(#[from] lettre::transport::smtp::Error),
}

/// Content id of the drawing.
const PICTURE_ID: &str = "picture";

/// The complete mail. Its `Message-ID` is the delivery's id, so a duplicate can be recognised.
/// Both mails of an alert reference the same id, so clients show them as one thread.
pub fn render_mail(
    from: &Address,
    to: &[String],
    notice: &Notification,
    now: Timestamp,
) -> Result<lettre::Message, MailError> {
    let domain = from.domain();
    let conversation = format!("<alert.{}@{domain}>", message_id_part(&notice.alert_id));
    let millis = u64::try_from(now.millis()).unwrap_or(0);
    let mut mail = lettre::Message::builder()
        .from(Mailbox::new(Some("segmentd".to_owned()), from.clone()))
        .subject(headline(notice))
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(Some(format!("<{}@{domain}>", message_id_part(&notice.delivery_id))))
        .references(conversation.clone());
    if notice.state == AlertState::Resolved {
        mail = mail.in_reply_to(conversation);
    }
    for (name, value) in [
        // Suppresses automatic replies (RFC 3834).
        (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()),
        (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All".to_owned()),
        (HeaderName::new_from_ascii_str("List-Id"), format!("segmentd alerts <alerts.{domain}>")),
    ] {
        mail = mail.raw_header(HeaderValue::new(name, value));
    }
    for address in to {
        mail = mail.to(Mailbox::new(None, address.parse()?));
    }
    Ok(mail.multipart(mail_body(notice)?)?)
}

fn mail_body(notice: &Notification) -> Result<MultiPart, MailError> {
    let alternatives = MultiPart::alternative().singlepart(SinglePart::plain(render_text(notice)));
    let html = SinglePart::html(render_html(notice));
    let Some(picture) = &notice.picture else {
        return Ok(alternatives.singlepart(html));
    };
    let inline = Attachment::new_inline(PICTURE_ID.to_owned());
    let related = MultiPart::related()
        .singlepart(html)
        .singlepart(inline.body(picture.svg.clone(), svg_type()?));
    // Clients without inline SVG offer it as an attachment.
    let attached = Attachment::new("picture.svg".to_owned());
    Ok(MultiPart::mixed()
        .multipart(alternatives.multipart(related))
        .singlepart(attached.body(picture.svg.clone(), svg_type()?)))
}

fn svg_type() -> Result<ContentType, MailError> {
    Ok(ContentType::parse("image/svg+xml")?)
}

/// `name` as the left part of a message id (RFC 5322).
fn message_id_part(name: &str) -> String {
    name.chars().map(plain_or_hyphen).take(200).collect()
}

fn plain_or_hyphen(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }
}

/// The plain-text alternative.
pub fn render_text(notice: &Notification) -> String {
    let mut parts = vec![headline(notice)];
    parts.extend([&notice.description, &notice.advice].map(|part| part.trim().to_owned()));
    let findings: Vec<String> =
        text::parts(notice).iter().map(|part| format!("- {part}")).collect();
    parts.push(findings.join("\n"));
    parts.push(facts(notice));
    if let Some(AlertChart { bars: shown, .. }) = &notice.picture
        && !shown.is_empty()
    {
        parts.push(bars(shown).trim_end().to_owned());
    }
    parts.push(owner_and_times(notice).join("\n"));
    parts.extend(notice.link.clone());
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n") + "\n"
}

/// Owner, start and end.
fn owner_and_times(notice: &Notification) -> Vec<String> {
    let mut lines: Vec<_> = notice.owner.iter().map(|owner| format!("Owner: {owner}")).collect();
    lines.push(format!("Since: {}", notice.started_at));
    if notice.state == AlertState::Resolved {
        lines.push(format!("Until: {}", notice.at));
    }
    lines
}
