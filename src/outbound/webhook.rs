//! Webhook messages: Standard Webhooks 1.0.0, and `CloudEvents` 1.0.2 over HTTP in binary and
//! structured mode, all with Standard Webhooks signatures.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use super::Message;
use super::text::cut;
use crate::domain::alert::{Bar, Envelope, Fact, Notice, SigningKey};
use crate::domain::time::Timestamp;

/// Standard Webhooks recommend payloads below 20 kB.
const MAX_BYTES: usize = 20_000;

/// A longer link is omitted: a truncated address is useless.
const MAX_LINK_BYTES: usize = 500;

/// Size budgets, largest first: the first one with which the whole message fits is used. The
/// last one always fits.
const ROOMS: [Room; 4] = [
    Room { characters: 4000, items: 100 },
    Room { characters: 1000, items: 40 },
    Room { characters: 250, items: 15 },
    Room { characters: 40, items: 10 },
];

#[derive(Clone, Copy)]
struct Room {
    characters: usize,
    items: usize,
}

/// Characters that the `CloudEvents` HTTP binding percent-encodes in headers, beside controls
/// and non-ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Builds the request with one signature per key.
pub fn message(format: Envelope, keys: &[SigningKey], notice: &Notice, now: Timestamp) -> Message {
    let mut message = match format {
        Envelope::Standard => Message::new(
            "application/json",
            fitted(|room| {
                json!({
                    "type": notice.event_type(),
                    "timestamp": notice.at,
                    "data": data(notice, room),
                })
            }),
        ),
        Envelope::CloudeventsBinary => {
            let mut message = Message::new("application/json", fitted(|room| data(notice, room)));
            let encoded = |value: &str| utf8_percent_encode(value, ENCODED).to_string();
            message.headers.extend([
                ("ce-specversion", "1.0".to_owned()),
                ("ce-id", encoded(&notice.delivery_id)),
                ("ce-source", encoded(&source(notice))),
                ("ce-type", encoded(&notice.event_type())),
                ("ce-time", notice.at.to_string()),
                ("ce-subject", encoded(&cut(&notice.key, ROOMS[1].characters))),
            ]);
            message
        }
        Envelope::CloudeventsStructured => Message::new(
            "application/cloudevents+json; charset=utf-8",
            fitted(|room| {
                json!({
                    "specversion": "1.0",
                    "id": notice.delivery_id,
                    "source": source(notice),
                    "type": notice.event_type(),
                    "time": notice.at,
                    "subject": cut(&notice.key, room.characters),
                    "datacontenttype": "application/json",
                    "data": data(notice, room),
                })
            }),
        ),
    };
    sign(&mut message, keys, &notice.delivery_id, now);
    message
}

fn sign(message: &mut Message, keys: &[SigningKey], id: &str, now: Timestamp) {
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
fn source(notice: &Notice) -> String {
    let link = notice.link.as_deref().and_then(|link| Url::parse(link).ok());
    match link.map(|link| link.origin()).filter(url::Origin::is_tuple) {
        Some(origin) => origin.ascii_serialization(),
        None => "segmentd".to_owned(),
    }
}

fn fitted(render: impl Fn(Room) -> Value) -> Vec<u8> {
    let mut body = Vec::new();
    for room in ROOMS {
        body = render(room).to_string().into_bytes();
        if body.len() < MAX_BYTES {
            break;
        }
    }
    body
}

/// The alert as JSON. The drawing is omitted as larger than all the rest: its bars are
/// included, and `link` leads to it.
fn data(notice: &Notice, room: Room) -> Value {
    let text = |text: &str| cut(text, room.characters);
    let fact = |fact: &Fact| json!({ "name": text(&fact.name), "value": text(&fact.value) });
    let facts: Vec<_> = notice.facts.iter().take(room.items).map(fact).collect();
    let subject = notice.subject.iter().take(room.items);
    let subject: serde_json::Map<_, _> =
        subject.map(|(name, value)| (text(name), text(value).into())).collect();
    // All bars or none: a part of a distribution would mislead.
    let bars = notice.picture.as_ref().map(|picture| &picture.bars);
    let bars = bars.filter(|bars| bars.len() <= room.items).map(|bars| {
        let bar =
            |bar: &Bar| json!({ "label": text(&bar.label), "before": bar.before, "now": bar.now });
        bars.iter().map(bar).collect::<Vec<_>>()
    });
    json!({
        "alert_id": text(&notice.alert_id),
        "key": text(&notice.key),
        "topic": notice.topic,
        "state": notice.state,
        "severity": notice.severity,
        "owner": notice.owner.as_deref().map(text),
        "subject": subject,
        "title": text(&notice.title),
        "what": text(&notice.what),
        "advice": text(&notice.advice),
        "facts": facts,
        "bars": bars,
        "started_at": notice.started_at,
        "at": notice.at,
        "link": notice.link.as_deref().filter(|link| link.len() <= MAX_LINK_BYTES),
    })
}
