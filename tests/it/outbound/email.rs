//! Email sent to a real SMTP server, and parsed as a mail client parses it.

use std::path::Path;
use std::process::Stdio;

use segmentd::config::{AppConfig, Environment};
use segmentd::domain::alert::{AlertState, DeliveryTarget, Notification};
use segmentd::outbound::{NotificationSender, SendErrorKind};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::notices::drifted;
use crate::support::clients::python_venv;
use crate::support::http_receiver::Certified;

/// An SMTP server (aiosmtpd) that reports each mail as JSON.
struct MailServer {
    port: u16,
    mails: Lines<BufReader<ChildStdout>>,
    _open: ChildStdin,
    _running: Child,
}

impl MailServer {
    /// Returns `None` if the server cannot be installed, and the test is to be skipped.
    async fn start(mode: &str, certified: &Certified, account: &[&str]) -> Option<Self> {
        let requirements = ["aiosmtpd==1.4.6", "resvg_py==0.5.0", "pillow==13.0.0"];
        let python = python_venv("mail", &requirements)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/mail_server.py");
        let mut running = Command::new(python)
            .args(["-W", "ignore"])
            .arg(script)
            .arg(mode)
            .args([&certified.certificate, &certified.key])
            .args(account)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut mails = BufReader::new(running.stdout.take().unwrap()).lines();
        let port = mails.next_line().await.unwrap().unwrap().parse().unwrap();
        Some(Self { port, mails, _open: running.stdin.take().unwrap(), _running: running })
    }

    async fn mail(&mut self) -> Value {
        serde_json::from_str(&self.mails.next_line().await.unwrap().unwrap()).unwrap()
    }

    fn sender(&self, scheme: &str, account: &str, certified: &Certified) -> NotificationSender {
        let server = format!("{scheme}://{account}localhost:{}", self.port);
        let settings = [
            ("alerts.mail_server", &*server),
            ("alerts.mail_from", "segmentd@example.com"),
            ("alerts.ca_file", certified.authority.to_str().unwrap()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = AppConfig::load_from(None, &Environment::default(), &settings).unwrap();
        NotificationSender::new(&config.outbound).unwrap()
    }
}

fn to_two() -> DeliveryTarget {
    DeliveryTarget::Email { to: vec!["a@example.com".into(), "b@example.com".into()] }
}

#[tokio::test]
async fn a_mail_arrives_with_both_texts_and_a_picture_that_draws() {
    let certified = Certified::new();
    let Some(mut server) = MailServer::start("plain", &certified, &[]).await else { return };
    let sender = server.sender("smtp", "", &certified);
    let now = TimeSource::System.now();
    let receipt = sender.send(&to_two(), &drifted(), now).await.unwrap();
    assert_eq!((receipt.status, &*receipt.answer), (Some(250), "queued as 7"));

    let mail = server.mail().await;
    assert_eq!(mail["from"], "segmentd@example.com");
    assert_eq!(mail["to"], json!(["a@example.com", "b@example.com"]));
    assert_eq!(mail["hello"], "example.com");
    assert_eq!(mail["defects"], json!([]));
    assert_eq!(
        mail["structure"],
        json!([
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "multipart/related",
            "text/html",
            "image/svg+xml",
            "image/svg+xml",
        ])
    );
    let headers = &mail["headers"];
    assert_eq!(headers["subject"], "[critical] Spend in 30 days and another feature changed");
    assert_eq!(headers["from"], "segmentd <segmentd@example.com>");
    assert_eq!(headers["auto-submitted"], "auto-generated");
    assert_eq!(headers["list-id"], "segmentd alerts <alerts.example.com>");
    assert_eq!(headers["message-id"], "<msg_2f7c0c1e@example.com>");

    let lines = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
    for (part, file) in [("text", "email.txt"), ("html", "email.html")] {
        let committed = std::fs::read_to_string(crate::notices::data(file)).unwrap();
        assert_eq!(lines(mail[part].as_str().unwrap()), lines(&committed));
    }
    let drawings = mail["drawings"].as_array().unwrap();
    assert_eq!(drawings[0]["content_id"], "<picture>");
    assert_eq!(drawings[0]["disposition"], "inline");
    assert_eq!(drawings[1]["file"], "picture.svg");
    assert_eq!(drawings[1]["disposition"], "attachment");
    for drawing in drawings {
        assert!(drawing["colours"].as_u64().unwrap() >= 3, "{drawing}");
    }
    // The text shows the picture by its content id.
    assert!(mail["html"].as_str().unwrap().contains("src=\"cid:picture\""));
}

#[tokio::test]
async fn the_mail_of_a_resolved_alert_is_in_the_thread_of_the_firing_one() {
    let certified = Certified::new();
    let Some(mut server) = MailServer::start("plain", &certified, &[]).await else { return };
    let sender = server.sender("smtp", "", &certified);
    let now = TimeSource::System.now();
    let over = Notification {
        state: AlertState::Resolved,
        delivery_id: "msg_over".into(),
        title: "Spend – in 30 days – drifted\r\nBcc: all@example.com".into(),
        picture: None,
        ..drifted()
    };
    for notice in [&drifted(), &drifted(), &over] {
        sender.send(&to_two(), notice, now).await.unwrap();
    }
    let mut headers = Vec::new();
    for _ in 0..3 {
        headers.push(server.mail().await["headers"].clone());
    }
    // A mail sent twice has the same message id.
    assert_eq!(headers[0]["message-id"], headers[1]["message-id"]);
    assert_ne!(headers[0]["message-id"], headers[2]["message-id"]);
    let conversation = "<alert.8d3f2b7a-5c1e@example.com>";
    assert_eq!(headers[0]["references"], conversation);
    assert_eq!(headers[2]["references"], conversation);
    assert_eq!(headers[2]["in-reply-to"], conversation);
    assert_eq!(
        headers[2]["subject"],
        "[resolved] Spend – in 30 days – drifted Bcc: all@example.com"
    );
    assert_eq!(headers[2].get("bcc"), None);
}

#[tokio::test]
async fn a_password_is_sent_over_tls_only() {
    let certified = Certified::new();
    let account = ["us@er", "p:ss"];
    let now = TimeSource::System.now();
    for (mode, scheme) in [("starttls", "smtp"), ("smtps", "smtps")] {
        let started = MailServer::start(mode, &certified, &account).await;
        let Some(mut server) = started else { return };
        let sender = server.sender(scheme, "us%40er:p%3Ass@", &certified);
        sender.send(&to_two(), &drifted(), now).await.unwrap();
        assert_eq!(server.mail().await["encrypted"], true, "{mode}");
        let wrong = server.sender(scheme, "us%40er:hidden@", &certified);
        let refused = wrong.send(&to_two(), &drifted(), now).await.unwrap_err();
        assert_eq!(refused.status, Some(535), "{mode}: {refused}");
        assert_eq!(refused.kind, SendErrorKind::Temporary);
        assert!(
            !refused.to_string().contains("hidden") && !format!("{wrong:?}").contains("hidden")
        );
    }
    let Some(server) = MailServer::start("plain", &certified, &account).await else { return };
    let sender = server.sender("smtp", "us%40er:p%3Ass@", &certified);
    let error = sender.send(&to_two(), &drifted(), now).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Temporary);
    assert!(error.answer.contains("STARTTLS"), "{error}");
}
