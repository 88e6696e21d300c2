//! The server and the OpenAPI document agree: schemathesis makes requests from the document, valid
//! and invalid ones, and checks the responses.

use std::path::Path;
use std::process::Command;

use crate::support::clients::python_venv;
use crate::support::{TestApp, ndjson, orders};

/// Operations that need something else than any request of the document.
const SETTINGS: &str = r#"
# A document cannot know the features, the customers and the state of the deployment.
[checks]
positive_data_acceptance.enabled = false

# A reader would wait for a change.
[[operations]]
include-operation-id = "list_changes"
parameters = { wait_seconds = 0 }

# Segment's protocol answers 200 to a request whose events are all rejected, and ignores a write key
# in the body beside one in a header.
[[operations]]
include-tag = "Tracking API"
checks.negative_data_rejection.enabled = false

# Each event has its own verdict: 207 if some are rejected.
[[operations]]
include-operation-id = "ingest_events"
checks.negative_data_rejection.enabled = false

# They would end the key of this test.
[[operations]]
include-operation-id = ["revoke_key", "rotate_key"]
enabled = false

# The body is a stream, which may be empty.
[[operations]]
include-operation-id = "ingest_event_stream"
enabled = false
"#;

#[tokio::test(flavor = "multi_thread")]
async fn requests_made_from_the_document_find_no_violation() {
    let Some(python) = python_venv("schemathesis", &["schemathesis==4.32.5"]) else { return };
    let app = TestApp::start_with(&[("alerts.timeout_seconds", "2")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 3))).await;
    app.train().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("schemathesis.toml"), SETTINGS).unwrap();
    let (url, key) = (format!("{}/openapi.json", app.url), app.key.clone());
    let folder_path = folder.path().to_owned();
    let run =
        tokio::task::spawn_blocking(move || run_schemathesis(&python, &folder_path, &url, &key));
    let (is_clean, output) = run.await.unwrap();
    assert!(is_clean, "{output}");
    assert!(output.contains("Tested: "), "{output}");
    assert_eq!(app.admin("/livez").await.0, 200);
    app.stop().await;
}

/// Returns whether no violation was found, and the output.
fn run_schemathesis(python: &Path, folder: &Path, url: &str, key: &str) -> (bool, String) {
    let ended = Command::new(python.with_file_name("schemathesis"))
        .current_dir(folder)
        .args(["run", url, "--header", &format!("Authorization: Bearer {key}")])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5"])
        .args(["--request-timeout", "20", "--continue-on-failure"])
        .args(["--seed", "1", "--no-color"])
        .output()
        .unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8_lossy(&output).into_owned())
}
