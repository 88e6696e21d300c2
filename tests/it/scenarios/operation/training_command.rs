//! `segmentd train` waits for its run, and ends with its result.

use serde_json::json;

use crate::support::{TestApp, eventually, ndjson, orders};

async fn start() -> TestApp {
    let app = TestApp::start().await;
    assert_eq!(app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await.0, 200);
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_waits_for_its_run_and_shows_the_model() {
    let app = start().await;
    let train = ["train", "--segments", "3", "--starts", "1"];
    let (is_trained, output) = app.command(&train).await;
    assert!(is_trained, "{output}");
    let (_, models) = app.get("/v1/models").await;
    let model = models["models"][0]["model_id"].as_str().unwrap();
    assert!(output.starts_with(&format!("model {model}\nsegments 3\n  ")), "{output}");
    let (_, live) = app.get("/v1/segments").await;
    for segment in live["segments"].as_array().unwrap() {
        let text = |field: &str| segment[field].as_str().unwrap();
        assert!(output.contains(&format!("\n  {}: ", text("name"))), "{output}");
        assert!(output.contains(&format!(" %), {}", text("segment_id"))), "{output}");
    }
    assert!(output.contains("\nquality score 0."), "{output}");
    assert!(output.contains(", smallest segment "), "{output}");
    assert!(!output.contains("ERROR"), "{output}");
    let (_, runs) = app.get("/v1/training-runs").await;
    let run = &runs["training_runs"][0];
    let progress = format!("training run {}: ", run["training_run_id"].as_str().unwrap());
    assert!(output.contains(&progress), "{output}");
    assert_eq!((&run["status"], &run["trigger"]), (&json!("succeeded"), &json!("command line")));
    assert_eq!((&run["stage"], &run["done"]), (&json!("finished"), &run["total"]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_fails_with_its_run() {
    let app = start().await;
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("spec.json");
    // The smallest of three segments cannot have 90 % of the customers.
    let text = json!({ "segments": 3, "starts": 1, "gates": { "smallest_share": 0.9 } });
    std::fs::write(&spec, text.to_string()).unwrap();
    let ended = app.start_command(&["train", "--spec", spec.to_str().unwrap()]).output().await;
    let ended = ended.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let (_, runs) = app.get("/v1/training-runs").await;
    let run = &runs["training_runs"][0];
    assert_eq!(run["status"], "failed");
    let (id, reason) = (run["training_run_id"].as_str().unwrap(), run["error"].as_str().unwrap());
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert!(
        errors.contains(&format!("error: training run {id} has failed: {reason}\n")),
        "{errors}"
    );
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_the_service_executes_the_run() {
    let app = start().await;
    let ended = app.start_command(&["train", "--no-wait", "--segments", "3"]).output().await;
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let output = String::from_utf8(ended.stdout).unwrap();
    let run = output.strip_prefix("run ").unwrap().trim_end();
    eventually("the service has executed the run", async || {
        let (status, run) = app.get(&format!("/v1/training-runs/{run}")).await;
        assert_eq!(status, 200, "{run}");
        run["status"] == "succeeded"
    })
    .await;
    app.stop().await;
}
