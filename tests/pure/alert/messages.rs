//! The message formats of third-party receivers, compared with committed files.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use segmentd::domain::alert::{
    AlertChart, AlertFact, AlertState, AlertTopic, ChartBar, Notification, SigningKey,
    WebhookEnvelope,
};
use segmentd::domain::customer_move::{MoveDirection, MoveEvent, MoveKind, MovesMessage};
use segmentd::domain::drift::Severity;
use segmentd::domain::model::NamedSegment;
use segmentd::domain::time::Timestamp;
use segmentd::outbound::{alertmanager, email, moves, slack, webhook};
use serde_json::{Value, json};

use crate::alert::notices::{data, drifted};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn now() -> Timestamp {
    Timestamp::parse("2026-03-01T06:00:05Z").unwrap()
}

fn resolved() -> Notification {
    let at = Timestamp::parse("2026-03-01T18:00:00Z").unwrap();
    Notification { state: AlertState::Resolved, delivery_id: "msg_9a1b".into(), at, ..drifted() }
}

/// Differences from the committed files; the current messages are written below `target`.
fn differing(messages: &[(&str, String)]) -> Vec<String> {
    let there = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/alerts");
    std::fs::create_dir_all(&there).unwrap();
    for (name, text) in messages {
        std::fs::write(there.join(name), text).unwrap();
    }
    let committed = |name| std::fs::read_to_string(data(name)).unwrap_or_default();
    let differs = messages.iter().filter(|(name, text)| committed(name) != *text);
    differs.map(|(name, _)| (*name).to_owned()).collect()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn webhook(format: WebhookEnvelope, notice: &Notification) -> (Vec<(&'static str, String)>, Value) {
    let keys = [SigningKey::parse(SECRET).unwrap()];
    let message = webhook::webhook_message(format, &keys, notice, now());
    (message.headers, serde_json::from_slice(&message.body).unwrap())
}

#[test]
fn each_message_is_as_committed() {
    let notice = drifted();
    let with_headers = |format| {
        let (headers, body) = webhook(format, &notice);
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        headers.collect::<String>() + "\n" + &pretty(&body)
    };
    let differing = differing(&[
        ("webhook.txt", with_headers(WebhookEnvelope::Standard)),
        ("cloudevents_binary.txt", with_headers(WebhookEnvelope::CloudeventsBinary)),
        ("cloudevents_structured.txt", with_headers(WebhookEnvelope::CloudeventsStructured)),
        ("alertmanager.json", pretty(&alertmanager::postable_alert(&notice, now()))),
        ("alertmanager_resolved.json", pretty(&alertmanager::postable_alert(&resolved(), now()))),
        ("slack.json", pretty(&slack::slack_message(&notice))),
        ("email.txt", email::render_text(&notice)),
        ("email.html", email::render_html(&notice)),
        ("email_resolved.txt", email::render_text(&resolved())),
    ]);
    let renew = "if that is meant: cp target/alerts/* tests/data/alerts/";
    assert_eq!(differing, [""; 0], "{renew}");
}

fn moves() -> MovesMessage {
    let event = |direction, segment: &str, merged_into: Option<&str>| MoveEvent {
        customer_id: "1510".into(),
        kind: MoveKind::Segment {
            direction,
            segment: NamedSegment { id: segment.into(), name: format!("named {segment}").into() },
        },
        changed_at: Timestamp::parse("2026-03-01T05:59:00Z").unwrap(),
        cursor: "0100000000000002f30000000000000011d27f".into(),
        merged_into: merged_into.map(str::to_owned),
    };
    MovesMessage {
        message_id: "msg_7b9f2c6a01d84e53".into(),
        events: vec![
            event(MoveDirection::Left, "seg_a", None),
            event(MoveDirection::Entered, "seg_b", None),
            event(MoveDirection::Left, "seg_b", Some("1511")),
        ],
        has_gap: true,
        at: Timestamp::parse("2026-03-01T05:59:00Z").unwrap(),
        external_url: Some("https://segmentd.example.com/base".into()),
    }
}

#[test]
fn moves_have_the_three_envelopes_of_alerts() {
    let keys = [SigningKey::parse(SECRET).unwrap()];
    let rendered = |format| {
        let message = moves::moves_message(format, &keys, &moves(), now());
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        (message.headers, body)
    };
    let cursor = "0100000000000002f30000000000000011d27f";
    let at = "2026-03-01T05:59:00.000Z";
    let event = |kind: &str, segment: &str| {
        json!({
            "type": kind, "customer_id": "1510", "segment_id": segment,
            "segment_name": format!("named {segment}"), "changed_at": at, "cursor": cursor,
        })
    };
    let mut merged = event("segment.left", "seg_b");
    merged["merged_into"] = "1511".into();
    let events = [event("segment.left", "seg_a"), event("segment.entered", "seg_b"), merged];
    let data = json!({ "events": events, "gap": true });

    let (headers, body) = rendered(WebhookEnvelope::Standard);
    assert_eq!(body, json!({ "type": "customer.moves", "timestamp": at, "data": data }));
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"]);
    assert_eq!(headers[1].1, moves().message_id);

    let (headers, body) = rendered(WebhookEnvelope::CloudeventsBinary);
    assert_eq!(body, data);
    let headers: BTreeMap<_, _> = headers.into_iter().collect();
    assert_eq!(headers["ce-type"], "customer.moves");
    assert_eq!(headers["ce-source"], "https://segmentd.example.com");
    assert_eq!((&*headers["ce-id"], &*headers["ce-time"]), ("msg_7b9f2c6a01d84e53", at));
    assert!(!headers.contains_key("ce-subject"));

    let (_, body) = rendered(WebhookEnvelope::CloudeventsStructured);
    let expected = json!({
        "specversion": "1.0", "id": "msg_7b9f2c6a01d84e53", "time": at, "type": "customer.moves",
        "source": "https://segmentd.example.com", "datacontenttype": "application/json",
        "data": data,
    });
    assert_eq!(body, expected);
}

#[test]
fn cloudevents_are_encoded_in_headers_as_their_specification_shows() {
    let notice = Notification { key: "Euro € 😀".into(), ..drifted() };
    let (headers, _) = webhook(WebhookEnvelope::CloudeventsBinary, &notice);
    let subject = headers.iter().find(|(name, _)| *name == "ce-subject").unwrap();
    assert_eq!(subject.1, "Euro%20%E2%82%AC%20%F0%9F%98%80");
}

#[test]
fn an_alert_of_alertmanager_keeps_its_name_while_it_lives() {
    let labels = |alert: &Value| alert["labels"].clone();
    let (firing, over) = (alertmanager::postable_alert(&drifted(), now()), resolved());
    let later = now().plus_millis(12 * 3_600_000 + 600_000);
    let still = alertmanager::repetition_body(&[drifted(), over.clone()], later);
    let over = alertmanager::postable_alert(&over, later);
    assert_eq!(firing.as_array().unwrap().len(), 1);
    assert_eq!(still.as_array().unwrap().len(), 1);
    assert_eq!(labels(&firing[0]), labels(&still[0]));
    assert_eq!(labels(&firing[0]), labels(&over[0]));
    let five_minutes = |from: Timestamp| from.plus_millis(300_000).to_string();
    assert_eq!(firing[0]["endsAt"], five_minutes(now()));
    assert_eq!(still[0]["endsAt"], five_minutes(later));
    assert_eq!(over[0]["endsAt"], "2026-03-01T18:00:00.000Z");
}

#[test]
fn a_severity_that_changes_ends_the_alert_of_the_one_before() {
    let at = now().plus_millis(3_600_000);
    let worse = Notification { severity: Severity::Critical, at, ..drifted() };
    let posted = alertmanager::postable_alert(&worse, at);
    let severities: BTreeSet<_> = posted
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            let fires = alert["endsAt"].as_str().unwrap() > at.to_string().as_str();
            (alert["labels"]["severity"].as_str().unwrap(), fires)
        })
        .collect();
    assert_eq!(severities, [("critical", true), ("info", false), ("warning", false)].into());
}

#[test]
fn labels_that_alertmanager_would_refuse_or_confuse_are_renamed() {
    let subject = [("severity", "x"), ("2 hours", "y"), ("naïve-name", "z"), ("empty", "")];
    let subject = subject.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let posted =
        alertmanager::postable_alert(&Notification { subject, owner: None, ..drifted() }, now());
    let labels = posted[0]["labels"].as_object().unwrap();
    let names: Vec<_> = labels.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["_2_hours", "alertname", "na_ve_name", "severity", "subject_severity", "topic"]
    );
    assert_eq!(labels["severity"], "critical");
}

/// Text with the special characters of every format.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<script>alert(1)</script>",
        "<!channel>",
        "<https://evil.example|here>",
        "\" onmouseover=\"x",
        "&lt;",
        "&",
        "```",
        "\r\nBcc: all@example.com",
        "\0\u{1b}[31m",
        "€😀",
        "spend ",
    ]);
    prop::collection::vec(pieces, 0..400).prop_map(|pieces| pieces.concat())
}

fn hostile_notice() -> impl Strategy<Value = Notification> {
    let facts = prop::collection::vec((hostile(), hostile()), 0..30);
    let bars = prop::collection::vec((hostile(), -1.0..2.0), 0..200);
    let texts = (hostile(), hostile(), hostile(), hostile(), hostile());
    (texts, facts, bars, any::<bool>()).prop_map(
        |((title, description, advice, owner, link), facts, bars, is_over)| Notification {
            title,
            description,
            advice,
            subject: [(owner.clone(), link.clone())].into(),
            owner: Some(owner),
            topic: AlertTopic::Source,
            state: if is_over { AlertState::Resolved } else { AlertState::Firing },
            facts: facts.into_iter().map(|(name, value)| AlertFact { name, value }).collect(),
            picture: Some(AlertChart {
                svg: String::new(),
                bars: bars
                    .into_iter()
                    .map(|(label, now)| ChartBar { label, before: 0.5, now })
                    .collect(),
            }),
            link: Some(format!("https://segmentd.example.com/{link}")),
            ..drifted()
        },
    )
}

/// Whether `text` has `<`, `>` and `&` in entities only.
fn is_escaped(text: &str) -> bool {
    let entities = ["&amp;", "&lt;", "&gt;"];
    let rest = entities.iter().fold(text.to_owned(), |text, entity| text.replace(entity, ""));
    !rest.contains(['<', '>', '&'])
}

fn characters(text: &Value) -> usize {
    text.as_str().unwrap().chars().count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn slack_takes_every_message(notice in hostile_notice()) {
        let message = slack::slack_message(&notice);
        for block in message["blocks"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "header" => {
                    prop_assert!((1..=150).contains(&characters(&block["text"]["text"])));
                    prop_assert!(is_escaped(block["text"]["text"].as_str().unwrap()));
                }
                "section" => {
                    if let Some(text) = block.get("text") {
                        prop_assert!((1..=3000).contains(&characters(&text["text"])));
                        let text = text["text"].as_str().unwrap();
                        prop_assert!(is_escaped(text), "{}", text);
                        prop_assert!(!text.starts_with("```\n ") || text.matches("```").count() == 2);
                    }
                    if let Some(fields) = block.get("fields") {
                        let fields = fields.as_array().unwrap();
                        prop_assert!((1..=10).contains(&fields.len()));
                        for field in fields {
                            prop_assert!(characters(&field["text"]) <= 2000);
                            prop_assert!(is_escaped(field["text"].as_str().unwrap()));
                        }
                    }
                }
                _ => {
                    let text = block["elements"][0]["text"].as_str().unwrap();
                    prop_assert!(text.chars().count() <= 2000);
                    let text = text.split("<https://segmentd.").next().unwrap();
                    prop_assert!(is_escaped(text), "{}", text);
                }
            }
        }
        prop_assert!(characters(&message["text"]) <= 40_000);
    }

    #[test]
    fn a_webhook_is_small_and_json(notice in hostile_notice()) {
        let keys = [SigningKey::parse(SECRET).unwrap()];
        for format in
            [WebhookEnvelope::Standard, WebhookEnvelope::CloudeventsBinary, WebhookEnvelope::CloudeventsStructured]
        {
            let message = webhook::webhook_message(format, &keys, &notice, now());
            prop_assert!(message.body.len() < 20_000);
            prop_assert!(serde_json::from_slice::<Value>(&message.body).is_ok());
            for (_, value) in message.headers {
                prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }

    #[test]
    fn a_mail_holds_nothing_but_its_own_elements(notice in hostile_notice()) {
        let page = email::render_html(&notice);
        let opened = |name: &str| page.matches(&format!("<{name}")).count();
        let known = ["!DOCTYPE", "html", "/", "head", "meta", "title", "body", "p ", "p>", "span",
            "h1", "ul", "li", "br", "table", "tr", "td", "th", "img", "a href"];
        // `<th` counts `<th>` only: `<title`, `<table` and `<tr` begin otherwise.
        let all = page.matches('<').count();
        prop_assert_eq!(all, known.iter().map(|name| opened(name)).sum::<usize>());
        prop_assert!(!page.contains("<script") && !page.contains("\" onmouseover=\""));
        let from = "segmentd@example.com".parse().unwrap();
        let mail = email::render_mail(&from, &["a@example.com".to_owned()], &notice, now()).unwrap();
        let mail = String::from_utf8(mail.formatted()).unwrap();
        let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
        prop_assert!(!headers.contains("\nBcc"));
    }

    #[test]
    fn alertmanager_takes_every_label(notice in hostile_notice()) {
        for alert in alertmanager::postable_alert(&notice, now()).as_array().unwrap() {
            for (name, value) in alert["labels"].as_object().unwrap() {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                prop_assert!(name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()));
                prop_assert!(value.as_str().is_some_and(|value| !value.is_empty()));
            }
            prop_assert!(alert["startsAt"].as_str() <= alert["endsAt"].as_str());
        }
    }
}
