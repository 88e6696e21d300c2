//! Notifications sent to real HTTP servers: signatures, retries, timeouts, private
//! addresses, TLS.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};
use segmentd::config::{AppConfig, Environment};
use segmentd::domain::alert::{AlertState, DeliveryTarget, Notification, encode_webhook_secret};
use segmentd::domain::time::Timestamp;
use segmentd::outbound::{DeliveryReceipt, NotificationSender, SendError, SendErrorKind};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::notices::drifted;
use crate::support::clients::{answers, python_venv};
use crate::support::http_receiver::{Certified, Received, Receiver};

fn sender(settings: &[(&str, &str)]) -> NotificationSender {
    let settings: Vec<_> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config = AppConfig::load_from(None, &Environment::default(), &settings).unwrap();
    NotificationSender::new(&config.outbound).unwrap()
}

const INSIDE: (&str, &str) = ("alerts.allow_private_addresses", "true");

fn target(value: Value) -> DeliveryTarget {
    let target: DeliveryTarget = serde_json::from_value(value).unwrap();
    target.check().unwrap();
    target
}

fn slack(url: &str) -> DeliveryTarget {
    target(json!({ "kind": "slack", "url": url }))
}

fn now() -> Timestamp {
    TimeSource::System.now()
}

async fn send(
    sender: &NotificationSender,
    target: &DeliveryTarget,
) -> Result<DeliveryReceipt, SendError> {
    sender.send(target, &drifted(), now()).await
}

/// Every signature format, with two secrets and a private key, is verified by the reference
/// implementation of Standard Webhooks.
#[tokio::test]
async fn a_receiver_verifies_the_signature_of_each_message() {
    let mut receiver = Receiver::start().await;
    let sender = sender(&[INSIDE]);
    let (old, new) = (encode_webhook_secret([1; 32]), encode_webhook_secret([2; 32]));
    let private = format!("whsk_{}", BASE64.encode([3; 32]));
    for format in ["standard", "cloudevents_binary", "cloudevents_structured"] {
        let target = target(json!({
            "kind": "webhook", "url": receiver.url("/hook?shop=1"), "format": format,
            "secrets": [old.expose(), new.expose(), private],
        }));
        let receipt = send(&sender, &target).await.unwrap();
        assert_eq!(
            receipt,
            DeliveryReceipt { status: Some(200), answer: "said the receiver".into() }
        );
        let Received { path, headers, body } = receiver.take().unwrap();
        assert_eq!(path, "/hook?shop=1");
        for secret in [&old, &new] {
            let standard = standardwebhooks::Webhook::new(secret.expose()).unwrap();
            standard.verify(&body, &headers).unwrap();
            let changed = [&body[..], b" "].concat();
            assert!(standard.verify(&changed, &headers).is_err());
        }
        let stranger = encode_webhook_secret([9; 32]);
        let stranger = standardwebhooks::Webhook::new(stranger.expose()).unwrap();
        assert!(stranger.verify(&body, &headers).is_err());

        let header = |name: &str| headers[name].to_str().unwrap();
        let public = target.redacted().public_keys[0].strip_prefix("whpk_").unwrap().to_owned();
        let signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
        let signed = [signed.as_bytes(), &body].concat();
        let mut signatures = header("webhook-signature").split(' ');
        let signature = signatures.find_map(|word| word.strip_prefix("v1a,")).unwrap();
        UnparsedPublicKey::new(&ED25519, BASE64.decode(public).unwrap())
            .verify(&signed, &BASE64.decode(signature).unwrap())
            .unwrap();

        assert_eq!(header("webhook-id"), drifted().delivery_id);
        let body: Value = serde_json::from_slice(&body).unwrap();
        let (data, kind) = match format {
            "cloudevents_binary" => (&body, header("ce-type")),
            _ => (&body["data"], body["type"].as_str().unwrap()),
        };
        assert_eq!(kind, "drift.firing");
        assert_eq!(data["key"], drifted().key);
    }
}

#[tokio::test]
async fn pypis_cloudevents_reads_both_modes() {
    let Some(python) = python_venv("cloudevents", &["cloudevents==2.2.0"]) else { return };
    let mut receiver = Receiver::start().await;
    let sender = sender(&[INSIDE]);
    let secret = encode_webhook_secret([1; 32]);
    let mut requests = Vec::new();
    for format in ["cloudevents_binary", "cloudevents_structured"] {
        let target = target(json!({
            "kind": "webhook", "url": receiver.url("/"), "format": format,
            "secrets": [secret.expose()],
        }));
        send(&sender, &target).await.unwrap();
        let Received { headers, body, .. } = receiver.take().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let body = String::from_utf8(body.to_vec()).unwrap();
        requests.push(json!({ "headers": headers.collect::<BTreeMap<_, _>>(), "body": body }));
    }
    let events = answers(&python, "cloudevents_reader.py", &[], &requests.into()).await;
    let notice = drifted();
    for event in events.as_array().unwrap() {
        let expected = json!({
            "specversion": "1.0", "id": notice.delivery_id, "type": "drift.firing",
            "source": "https://segmentd.example.com", "subject": notice.key,
            "time": notice.at.to_string(), "datacontenttype": "application/json",
        });
        let mut attributes = event["attributes"].clone();
        // In the binary mode the content type is an ordinary header.
        attributes["datacontenttype"] = "application/json".into();
        assert_eq!(attributes, expected);
        assert_eq!(event["data"], events[0]["data"]);
        assert_eq!(event["data"]["title"], notice.title);
    }
}

#[tokio::test]
async fn alertmanager_is_posted_below_its_root_and_reminded_of_firing_alerts() {
    let mut receiver = Receiver::start().await;
    let sender = sender(&[INSIDE]);
    let root = format!("http://us%40er:p%3Ass@{}/prefix/", receiver.address);
    let target = target(json!({ "kind": "alertmanager", "url": root }));
    send(&sender, &target).await.unwrap();
    let over = Notification { state: AlertState::Resolved, ..drifted() };
    let again = sender.still_firing(&target, &[drifted(), over.clone()], now()).await.unwrap();
    assert_eq!(again.status, Some(200));
    for _ in 0..2 {
        let Received { path, headers, body } = receiver.take().unwrap();
        assert_eq!(path, "/prefix/api/v2/alerts");
        let basic = format!("Basic {}", BASE64.encode("us@er:p:ss"));
        assert_eq!(headers["authorization"].to_str().unwrap(), basic);
        let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0]["labels"]["alertname"], "SegmentdDrift");
    }
    // Nothing is sent if no alert fires, or if the target takes no reminders.
    let nothing = sender.still_firing(&target, &[over], now()).await.unwrap();
    let nobody = slack(&receiver.url("/taken"));
    let nobody = sender.still_firing(&nobody, &[drifted()], now()).await.unwrap();
    assert_eq!((nothing.status, nobody.status), (None, None));
    assert!(receiver.take().is_none());
}

#[tokio::test]
async fn slack_receives_blocks() {
    let mut receiver = Receiver::start().await;
    send(&sender(&[INSIDE]), &slack(&receiver.url("/services/T0/B0/x"))).await.unwrap();
    let Received { path, headers, body } = receiver.take().unwrap();
    assert_eq!(
        (&*path, &headers["content-type"]),
        ("/services/T0/B0/x", &"application/json".parse().unwrap())
    );
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body["blocks"][0]["text"]["text"],
        "[critical] Spend in 30 days and another feature changed"
    );
}

#[tokio::test]
async fn every_status_other_than_2xx_is_a_failure_of_its_kind() {
    let mut receiver = Receiver::start().await;
    let sender = sender(&[INSIDE]);
    for (path, status, kind) in [
        ("/redirects", 301, SendErrorKind::Temporary),
        ("/304", 304, SendErrorKind::Temporary),
        ("/400", 400, SendErrorKind::Temporary),
        ("/404", 404, SendErrorKind::Temporary),
        ("/410", 410, SendErrorKind::Gone),
        ("/500", 500, SendErrorKind::Temporary),
        ("/503", 503, SendErrorKind::Temporary),
    ] {
        let error = send(&sender, &slack(&receiver.url(path))).await.unwrap_err();
        assert_eq!((error.kind, error.status, error.retry_after), (kind, Some(status), None));
        assert_eq!(receiver.take().unwrap().path, path);
        assert!(receiver.take().is_none(), "a redirect is not followed");
    }
    for path in ["/200", "/202", "/204"] {
        send(&sender, &slack(&receiver.url(path))).await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_may_ask_for_a_later_retry() {
    let receiver = Receiver::start().await;
    let sender = sender(&[INSIDE]);
    let asked = async |value: &str| {
        let url = receiver.url(&format!("/asks_to_wait?{}", value.replace(' ', "+")));
        let now = Timestamp::parse("2026-03-01T06:00:00Z").unwrap();
        let error = sender.send(&slack(&url), &drifted(), now).await.unwrap_err();
        assert_eq!((error.status, &*error.answer), (Some(429), "slow down"));
        error.retry_after
    };
    assert_eq!(asked("7").await, Some(Duration::from_secs(7)));
    assert_eq!(asked("Sun, 01 Mar 2026 06:01:30 GMT").await, Some(Duration::from_secs(90)));
    assert_eq!(asked("Sun, 01 Mar 2026 05:00:00 GMT").await, Some(Duration::ZERO));
    assert_eq!(asked("99999999999999999999999").await, Some(Duration::from_hours(24)));
    assert_eq!(asked("soon").await, None);
    assert_eq!(asked("").await, None);
    assert_eq!(asked("-1").await, None);
}

#[tokio::test]
async fn a_receiver_that_hangs_or_never_ends_its_response_is_timed_out() {
    let receiver = Receiver::start().await;
    let sender = sender(&[INSIDE, ("alerts.timeout_seconds", "1")]);
    let began = Instant::now();
    let error = send(&sender, &slack(&receiver.url("/hangs"))).await.unwrap_err();
    assert_eq!((error.kind, error.status), (SendErrorKind::Temporary, None));
    assert!((1..3).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());

    let receipt = send(&sender, &slack(&receiver.url("/endless"))).await.unwrap();
    assert_eq!(receipt.answer.chars().count(), 500);
    // Of 100 MB, only the buffers of both sides are filled. A sleep, because it proves a
    // negative: the rest is never read.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(receiver.answered_bytes() < 16_000_000, "{}", receiver.answered_bytes());
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let mut receiver = Receiver::start().await;
    let port = receiver.address.port();
    let closed = sender(&[]);
    for host in [
        "127.0.0.1",
        "localhost",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "0",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "user@127.0.0.1",
        "1.1.1.1@127.0.0.1",
    ] {
        for path in ["/taken", "/redirects"] {
            let url = format!("http://{host}:{port}{path}");
            let error = send(&closed, &slack(&url)).await.unwrap_err();
            assert_eq!(error.kind, SendErrorKind::Forbidden, "{url}: {error}");
            assert!(error.answer.contains("alerts.allow_private_addresses"), "{url}: {error}");
        }
    }
    assert!(receiver.take().is_none());
    let open = sender(&[INSIDE]);
    for host in ["127.0.0.1", "localhost", "0x7f000001"] {
        send(&open, &slack(&format!("http://{host}:{port}/taken"))).await.unwrap();
        assert!(receiver.take().is_some());
    }
    // The error does not contain the address, because its path is a secret.
    let nobody = slack("http://127.0.0.1:1/services/hidden");
    let error = send(&open, &nobody).await.unwrap_err();
    assert_eq!((error.kind, error.status), (SendErrorKind::Temporary, None));
    assert!(!error.to_string().contains("hidden"), "{error}");
    let unknown = send(&open, &slack("http://nobody.invalid/")).await.unwrap_err();
    assert_eq!(unknown.kind, SendErrorKind::Temporary);
}

#[tokio::test]
async fn only_certificates_of_known_authorities_are_trusted() {
    let certified = Certified::new();
    let (port, _running) = certified.serve().await;
    let url = format!("https://localhost:{port}/");
    let error = send(&sender(&[INSIDE]), &slack(&url)).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Temporary);
    assert!(error.answer.contains("certificate"), "{error}");
    let trusting = sender(&[INSIDE, ("alerts.ca_file", certified.authority.to_str().unwrap())]);
    assert_eq!(send(&trusting, &slack(&url)).await.unwrap().answer, "ok");
}

#[tokio::test]
async fn without_a_mail_server_no_mail_is_sent() {
    let target = target(json!({ "kind": "email", "to": ["a@example.com"] }));
    let error = send(&sender(&[]), &target).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Forbidden);
    assert!(error.answer.contains("alerts.mail_server"), "{error}");
}
