//! The unmodified libraries of Segment, with only their host changed, over a network that
//! loses responses: every event is counted once.

use std::path::Path;

use segmentd::domain::access::AccessScope;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::TestApp;
use crate::support::clients::{node_modules, python_venv};
use crate::support::lossy_proxy::LossyProxy;

/// Customers of each client, with ten events each, and one more customer with ninety.
const CUSTOMERS: usize = 20;
const EVENTS: usize = 10 * CUSTOMERS + 90;

#[tokio::test(flavor = "multi_thread")]
async fn npms_analytics_node_delivers_each_event_once() {
    let packages = ["@segment/analytics-node@3.1.0"];
    let Some(modules) = node_modules("segment", &packages) else { return };
    let mut client = Command::new("node");
    client.arg(script("segment_node.mjs")).arg(modules);
    delivers_each_event_once("node", client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pypis_segment_analytics_python_delivers_each_event_once() {
    let requirements = ["segment-analytics-python==2.4.0"];
    let Some(python) = python_venv("segment", &requirements) else { return };
    let mut client = Command::new(python);
    client.arg(script("segment_python.py"));
    delivers_each_event_once("python", client).await;
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

async fn delivers_each_event_once(who: &str, mut client: Command) {
    let features = script("../data/segment_features.toml").display().to_string();
    let app = TestApp::start_with(&[("features.file", &features)]).await;
    // The only scope that the libraries need.
    let scopes = [AccessScope::Track];
    let key = api_keys::create_key(&app.db, &TimeSource::System, "public", &scopes).await.unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let network = LossyProxy::before(&app.url);
    let customers = CUSTOMERS.to_string();
    let sent = network.during(async |address| {
        let host = format!("http://{address}");
        client.args([&host, &key, &customers]).kill_on_drop(true).output().await.unwrap()
    });
    let sent = sent.await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    assert!(network.requests() > 8, "every kind of failure occurred: {}", network.requests());

    // Each event is counted once, although all were sent twice.
    let (_, metrics) = app.admin("/metrics").await;
    let events = |outcome: &str| -> usize {
        let series = format!("segmentd_events_total{{outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&*series));
        line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    };
    assert_eq!(events("accepted"), EVENTS);
    assert_eq!(events("rejected"), 0);
    // The second sending, and retries after lost responses.
    assert!(events("duplicate") > 10 * CUSTOMERS, "{}", events("duplicate"));
    for customer in 0..CUSTOMERS {
        let (status, body) = app.get(&format!("/v1/customers/{who}-{customer}")).await;
        assert_eq!(status, 200, "{body}");
        let expected = json!({
            "orders": 5.0, "revenue": 11.25, "pages": 1.0, "screens": 1.0, "groups": 1.0,
            "group": "acme", "behaviour": 7.0, "plan": "gold",
        });
        assert_eq!(without_recency(&body["features"]), expected, "{who}-{customer}");
    }
    let (_, unnamed) = app.get(&format!("/v1/customers/{who}-unnamed")).await;
    assert_eq!(unnamed["features"]["orders"], 90.0, "{unnamed}");
    app.stop().await;
}

fn without_recency(features: &Value) -> Value {
    let mut features = features.clone();
    features.as_object_mut().unwrap().remove("recency").unwrap();
    features
}
