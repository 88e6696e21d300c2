//! Webhook messages: Standard Webhooks 1.0.0, and `CloudEvents` 1.0.2 over HTTP in binary and
//! structured mode, all with Standard Webhooks signatures.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use super::HttpMessage;
use super::text::cut;
use crate::domain::alert::{AlertFact, ChartBar, Notification, SigningKey, WebhookEnvelope};
use crate::domain::time::Timestamp;

/// Standard Webhooks recommend payloads below 20 kB.
const MAX_BYTES: usize = 20_000;

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

/// Builds the request with one signature per key.
pub fn webhook_message(
    format: WebhookEnvelope,
    keys: &[SigningKey],
    notice: &Notification,
    now: Timestamp,
) -> HttpMessage {
    let mut message = match format {
        WebhookEnvelope::Standard => HttpMessage::new(
            "application/json",
            render_within_budget(|budget| {
                json!({
                    "type": notice.event_type(),
                    "timestamp": notice.at,
                    "data": alert_data(notice, budget),
                })
            }),
        ),
        WebhookEnvelope::CloudeventsBinary => {
            let mut message = HttpMessage::new(
                "application/json",
                render_within_budget(|budget| alert_data(notice, budget)),
            );
            message.headers.extend([
                ("ce-specversion", "1.0".to_owned()),
                ("ce-id", encoded(&notice.delivery_id)),
                ("ce-source", encoded(&event_source(notice))),
                ("ce-type", encoded(&notice.event_type())),
                ("ce-time", notice.at.to_string()),
                ("ce-subject", encoded(&cut(&notice.key, SIZE_BUDGETS[1].characters))),
            ]);
            message
        }
        WebhookEnvelope::CloudeventsStructured => HttpMessage::new(
            "application/cloudevents+json; charset=utf-8",
            render_within_budget(|budget| {
                json!({
                    "specversion": "1.0",
                    "id": notice.delivery_id,
                    "source": event_source(notice),
                    "type": notice.event_type(),
                    "time": notice.at,
                    "subject": budget.cut(&notice.key),
                    "datacontenttype": "application/json",
                    "data": alert_data(notice, budget),
                })
            }),
        ),
    };
    sign(&mut message, keys, &notice.delivery_id, now);
    message
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

fn sign(message: &mut HttpMessage, keys: &[SigningKey], id: &str, now: Timestamp) {
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

/// `CloudEvents` source: the origin of the alert link, as another server may use the same
/// message ids.
fn event_source(notice: &Notification) -> String {
    let link = notice.link.as_deref().and_then(|link| Url::parse(link).ok());
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
        "bars": bars,
        "started_at": notice.started_at,
        "at": notice.at,
        "link": notice.link.as_deref().filter(|link| link.len() <= MAX_LINK_BYTES),
    })
}

fn fact_data(fact: &AlertFact, budget: SizeBudget) -> Value {
    json!({ "name": budget.cut(&fact.name), "value": budget.cut(&fact.value) })
}

fn bar_data(bar: &ChartBar, budget: SizeBudget) -> Value {
    json!({ "label": budget.cut(&bar.label), "before": bar.before, "now": bar.now })
}
