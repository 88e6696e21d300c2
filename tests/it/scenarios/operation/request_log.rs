//! The request log: one line for each request, without personal data; server errors always.

use serde_json::{Value, json};

use crate::support::process::{Process, end_postgres_at_once};
use crate::support::{eventually, open_to_all};

const FINISHED: &str = "request finished";

struct LogTest {
    process: Process,
    state: tempfile::TempDir,
    key: String,
}

impl LogTest {
    fn start(settings: &[&str]) -> Self {
        let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
        let key = Process::key(state.path(), None);
        let process = Process::start_with(state.path(), None, settings);
        Self { process, state, key }
    }

    /// Sends a request with the id `id`; returns the status of its response.
    async fn send(&self, id: &str, method: &str, path: &str, body: &str) -> u16 {
        let request = reqwest::Client::new()
            .request(method.parse().unwrap(), format!("{}{path}", self.process.url))
            .header("x-request-id", id)
            .body(body.to_owned());
        let is_public = path.starts_with("/docs") || path.starts_with("/v1/batch");
        let request = if is_public { request } else { request.bearer_auth(&self.key) };
        request.send().await.unwrap().status().as_u16()
    }

    /// The lines about the request with this id, once there are some.
    async fn line(&self, id: &str) -> Value {
        let mut found = Vec::new();
        eventually("the line of the request", async || {
            found = self.process.log_with("request ");
            found.retain(|line| line["request_id"] == id);
            !found.is_empty()
        })
        .await;
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_line_without_personal_data() {
    let test = LogTest::start(&[]);
    let event = r#"{"type": "track", "name": "Secret Visit", "customer_id": "mrs-jones", "message_id": "m1"}"#;
    assert_eq!(test.send("one", "POST", "/v1/events", event).await, 200);
    let one = test.line("one").await;
    let fields: Vec<&String> = one.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "duration_milliseconds",
            "key_id",
            "level",
            "message",
            "method",
            "request_id",
            "route",
            "status",
            "target",
            "timestamp"
        ]
    );
    let key_id = test.key.split('_').nth(1).unwrap();
    assert_eq!(
        (&one["level"], &one["message"], &one["target"], &one["method"], &one["route"]),
        (
            &json!("INFO"),
            &json!(FINISHED),
            &json!("segmentd::request"),
            &json!("POST"),
            &json!("/v1/events")
        )
    );
    assert_eq!(one["status"], 200);
    assert!(one["duration_milliseconds"].as_f64().unwrap() > 0.0, "{one}");
    assert_eq!(one["key_id"], key_id);

    // The route is the pattern, also where the path or the query has an id.
    let path = "/v1/customers/mrs-jones?note=mrs-jones";
    assert_eq!(test.send("two", "GET", path, "").await, 200);
    assert_eq!(test.line("two").await["route"], "/v1/customers/{customer_id}");
    assert_eq!(test.send("three", "GET", "/mrs-jones", "").await, 404);
    let three = test.line("three").await;
    assert_eq!((&three["route"], &three["status"]), (&json!("<unknown>"), &json!(404)));
    assert_eq!(test.send("four", "DELETE", "/v1/segments", "").await, 405);
    assert_eq!(test.line("four").await["method"], "DELETE");

    // Without a key, and with the key in the body.
    assert_eq!(test.send("five", "GET", "/docs", "").await, 200);
    assert!(test.line("five").await["key_id"].is_null());
    let message = json!({
        "type": "track", "event": "x", "userId": "mrs-jones", "messageId": "m2",
    });
    let batch = json!({ "batch": [message], "writeKey": test.key }).to_string();
    assert_eq!(test.send("six", "POST", "/v1/batch", &batch).await, 200);
    assert_eq!(test.line("six").await["key_id"], one["key_id"]);

    // Health checks and scrapes have no line.
    assert_eq!(test.send("seven", "GET", "/v2/health/live", "").await, 200);
    for path in ["/livez", "/readyz", "/metrics"] {
        let url = format!("{}{path}", test.process.admin);
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
    }
    assert_eq!(test.send("eight", "GET", "/v1/segments", "").await, 200);
    test.line("eight").await;
    let log = test.process.log();
    let requests = log.iter().filter(|line| line.contains(FINISHED)).count();
    assert_eq!(requests, 7, "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("jones") || line.contains("Visit")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains(&test.key)), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_can_be_left_out_and_server_errors_cannot() {
    let test = LogTest::start(&["log.request_share=0"]);
    assert_eq!(test.send("one", "GET", "/v1/segments", "").await, 200);
    end_postgres_at_once(test.state.path());
    let event = r#"{"type": "track", "name": "x", "customer_id": "c", "message_id": "m1"}"#;
    let mut failed = String::new();
    let mut number = 0;
    eventually("a request fails", async || {
        number += 1;
        failed = format!("event-{number}");
        test.send(&failed, "POST", "/v1/events", event).await == 503
    })
    .await;
    let line = test.line(&failed).await;
    assert_eq!(line["message"], "request failed: not available");
    assert_eq!((&line["level"], &line["status"]), (&json!("WARN"), &json!(503)));
    assert_eq!((&line["route"], &line["method"]), (&json!("/v1/events"), &json!("POST")));
    assert!(line["key_id"].is_string() && line["duration_milliseconds"].is_number(), "{line}");
    assert!(line["error"].as_str().unwrap().contains("database"), "{line}");
    assert!(test.process.log_with(FINISHED).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_requests_is_logged_as_text() {
    let test = LogTest::start(&["log.request_share=0.25", "log.format=text"]);
    for number in 0..40 {
        let id = format!("request-{number}");
        assert_eq!(test.send(&id, "GET", "/v1/segments", "").await, 200);
    }
    let mut lines = Vec::new();
    eventually("the last sampled request has its line", async || {
        lines = test.process.log();
        lines.retain(|line| line.contains(FINISHED));
        lines.iter().any(|line| line.contains("request_id=\"request-39\""))
    })
    .await;
    assert_eq!(lines.len(), 10, "{lines:#?}");
    let line = &lines[0];
    for part in
        [" INFO segmentd::request: ", "method=\"GET\"", "route=\"/v1/segments\"", "status=200"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}
