//! Webhook messages: Standard Webhooks 1.0.0, and `CloudEvents` 1.0.2 over HTTP in binary and
//! structured mode, all with Standard Webhooks signatures.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use super::HttpMessage;
use super::text::cut;
use crate::domain::alert::{
    AlertFact, AlertPart, ChartBar, Notification, SigningKey, WebhookEnvelope,
};
use crate::domain::time::Timestamp;

/// Standard Webhooks recommend payloads below 20 kB.
pub(super) const MAX_BYTES: usize = 20_000;

/// A longer link is omitted: a truncated address is useless.
const MAX_LINK_BYTES: usize = 500;

/// Size budgets, largest first: the first one with which the whole message fits is used. The
/// last one always fits.
const SIZE_BUDGETS: [SizeBudget; 4] = [
    SizeBudget { characters: 4000, items: 100 },
    SizeBudget { characters: 1000, items: 40 },
    SizeBudget { characters: 250, items: 15 },
    SizeBudget { characters: 40, items: 10 },
];

#[derive(Clone, Copy)]
struct SizeBudget {
    characters: usize,
    items: usize,
}

impl SizeBudget {
    fn cut(self, text: &str) -> String {
        cut(text, self.characters)
    }
}

/// Characters that the `CloudEvents` HTTP binding percent-encodes in headers, beside controls
/// and non-ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Attributes of a message in its envelope, apart from the data.
pub(super) struct EventAttributes<'a> {
    pub(super) id: &'a str,
    pub(super) event_type: String,
    pub(super) time: Timestamp,
    /// `CloudEvents` attribute; `None`: the message has no single subject.
    pub(super) subject: Option<String>,
    /// Address within this service, from which the `CloudEvents` source is taken.
    pub(super) link: Option<&'a str>,
}

/// Builds the request of an alert with one signature per key.
pub fn webhook_message(
    format: WebhookEnvelope,
    keys: &[SigningKey],
    notice: &Notification,
    now: Timestamp,
) -> HttpMessage {
    let attributes = |budget: SizeBudget| EventAttributes {
        id: &notice.delivery_id,
        event_type: notice.event_type(),
        time: notice.at,
        subject: Some(budget.cut(&notice.key)),
        link: notice.link.as_deref(),
    };
    let body = render_within_budget(|budget| {
        envelope_body(format, &attributes(budget), alert_data(notice, budget))
    });
    let mut message = envelope_message(format, &attributes(SIZE_BUDGETS[1]), body);
    sign(&mut message, keys, &notice.delivery_id, now);
    message
}

/// The body of a message: the data in its envelope.
pub(super) fn envelope_body(
    format: WebhookEnvelope,
    attributes: &EventAttributes<'_>,
    data: Value,
) -> Value {
    match format {
        WebhookEnvelope::Standard => {
            json!({ "type": attributes.event_type, "timestamp": attributes.time, "data": data })
        }
        WebhookEnvelope::CloudeventsBinary => data,
        WebhookEnvelope::CloudeventsStructured => {
            let mut body = json!({
                "specversion": "1.0",
                "id": attributes.id,
                "source": event_source(attributes.link),
                "type": attributes.event_type,
                "time": attributes.time,
                "datacontenttype": "application/json",
                "data": data,
            });
            if let Some(subject) = &attributes.subject {
                body["subject"] = subject.as_str().into();
            }
            body
        }
    }
}

/// The unsigned request with this body.
pub(super) fn envelope_message(
    format: WebhookEnvelope,
    attributes: &EventAttributes<'_>,
    body: Vec<u8>,
) -> HttpMessage {
    let content_type = match format {
        WebhookEnvelope::Standard | WebhookEnvelope::CloudeventsBinary => "application/json",
        WebhookEnvelope::CloudeventsStructured => "application/cloudevents+json; charset=utf-8",
    };
    let mut message = HttpMessage::new(content_type, body);
    if format == WebhookEnvelope::CloudeventsBinary {
        message.headers.extend([
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", encoded(attributes.id)),
            ("ce-source", encoded(&event_source(attributes.link))),
            ("ce-type", encoded(&attributes.event_type)),
            ("ce-time", attributes.time.to_string()),
        ]);
        message
            .headers
            .extend(attributes.subject.iter().map(|subject| ("ce-subject", encoded(subject))));
    }
    message
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

pub(super) fn sign(message: &mut HttpMessage, keys: &[SigningKey], id: &str, now: Timestamp) {
    let seconds = now.millis().div_euclid(1000);
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(&message.body);
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(&signed)).collect();
    message.headers.extend([
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ]);
}

/// `CloudEvents` source: the origin of the link, as another server may use the same message
/// ids.
fn event_source(link: Option<&str>) -> String {
    let link = link.and_then(|link| Url::parse(link).ok());
    match link.map(|link| link.origin()).filter(url::Origin::is_tuple) {
        Some(origin) => origin.ascii_serialization(),
        None => "segmentd".to_owned(),
    }
}

fn render_within_budget(render: impl Fn(SizeBudget) -> Value) -> Vec<u8> {
    let mut body = Vec::new();
    for budget in SIZE_BUDGETS {
        body = render(budget).to_string().into_bytes();
        if body.len() < MAX_BYTES {
            break;
        }
    }
    body
}

/// The alert as JSON. The drawing is omitted as larger than all the rest: its bars are
/// included, and `link` leads to it.
fn alert_data(notice: &Notification, budget: SizeBudget) -> Value {
    let facts: Vec<_> =
        notice.facts.iter().take(budget.items).map(|fact| fact_data(fact, budget)).collect();
    let parts: Vec<_> =
        notice.parts.iter().take(budget.items).map(|part| part_data(part, budget)).collect();
    let subject = notice.subject.iter().take(budget.items);
    let subject: serde_json::Map<_, _> =
        subject.map(|(name, value)| (budget.cut(name), budget.cut(value).into())).collect();
    // All bars or none: a part of a distribution would mislead.
    let bars = notice.picture.as_ref().map(|picture| &picture.bars);
    let bars = bars.filter(|bars| bars.len() <= budget.items);
    let bars = bars.map(|bars| bars.iter().map(|bar| bar_data(bar, budget)).collect::<Vec<_>>());
    json!({
        "alert_id": budget.cut(&notice.alert_id),
        "key": budget.cut(&notice.key),
        "topic": notice.topic,
        "state": notice.state,
        "severity": notice.severity,
        "owner": notice.owner.as_deref().map(|owner| budget.cut(owner)),
        "subject": subject,
        "title": budget.cut(&notice.title),
        "description": budget.cut(&notice.description),
        "advice": budget.cut(&notice.advice),
        "facts": facts,
        "parts": parts,
        "bars": bars,
        "started_at": notice.started_at,
        "at": notice.at,
        "link": notice.link.as_deref().filter(|link| link.len() <= MAX_LINK_BYTES),
    })
}

fn fact_data(fact: &AlertFact, budget: SizeBudget) -> Value {
    json!({ "name": budget.cut(&fact.name), "value": budget.cut(&fact.value) })
}

fn part_data(part: &AlertPart, budget: SizeBudget) -> Value {
    json!({
        "about": part.about,
        "feature": part.feature.as_deref().map(|feature| budget.cut(feature)),
        "segment_id": part.segment_id.as_deref().map(|segment| budget.cut(segment)),
        "severity": part.severity,
        "description": budget.cut(&part.description),
        "since": part.since,
        "ended_at": part.ended_at,
    })
}

fn bar_data(bar: &ChartBar, budget: SizeBudget) -> Value {
    json!({ "label": budget.cut(&bar.label), "before": bar.before, "now": bar.now })
}
