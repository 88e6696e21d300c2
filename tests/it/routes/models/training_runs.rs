//! `/v1/training-runs`: request, cancel, what-if; and `segmentd train`.

use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use segmentd::domain::id::ModelId;
use segmentd::domain::time::Timestamp;
use segmentd::service::clock::TimeSource;
use segmentd::store::database::lease::LeaseName;
use segmentd::store::models;
use serde_json::{Map, Value, json};

use crate::support::pages::all_pages;
use crate::support::{TestApp, eventually, ndjson, orders};

/// A spec whose run takes minutes unless it is cancelled.
const LONG: &str = r#"{"segments": {"from": 2, "to": 60}, "minimum_rows": 120, "starts": 1000,
                       "stability": {"bootstraps": 1000, "seeds": 100}}"#;

/// The same spec, rows and instant give the same bytes: in the service, in the command on
/// the database and on tables, with any number of threads.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_trains_the_same_model_as_the_service() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(240, 4))).await;
    let first = sealed(&app, &app.train().await).await;
    let run = app.train().await;
    let model = run["model_id"].as_str().unwrap();
    let sealed = sealed(&app, &run).await;
    let as_of = run["report"]["as_of"].as_str().unwrap().to_owned();
    assert_eq!(run["report"]["data"]["sampled"], false, "{run}");
    let rows = rows(&app, &as_of).await;
    // Later events do not belong to that instant.
    let later = json!({
        "type": "track", "name": "Order Completed", "customer_id": "c0003",
        "properties": { "sales_value": 5000.0, "lines": 3 },
    });
    app.post("/v1/events", later.to_string()).await;
    let late = json!({ "type": "track", "name": "Order Completed", "customer_id": "late" });
    app.post("/v1/events", late.to_string()).await;
    let before = app.get("/v1/segments").await.1["model_id"].clone();

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("spec.json"), run["spec"].to_string()).unwrap();
    std::fs::write(path("first.json"), first).unwrap();
    write_csv(Path::new(&path("rows.csv")), &rows);
    write_parquet(Path::new(&path("rows.parquet")), &rows);
    let (spec, out, first) = (path("spec.json"), path("model.json"), path("first.json"));
    for (from, threads) in
        [("database", 1), ("database", 3), (&*path("rows.csv"), 2), (&*path("rows.parquet"), 1)]
    {
        let threads = format!("training.threads={threads}");
        let (done, output) = app
            .command(&[
                "train", "--from", from, "--as-of", &as_of, "--spec", &spec, "--out", &out,
                "--after", &first, "--set", &threads,
            ])
            .await;
        assert!(done, "{from}: {output}");
        assert_eq!(std::fs::read(&out).unwrap(), sealed, "{from}, {threads}");
        std::fs::remove_file(&out).unwrap();
        for part in
            ["kmeans", "candidate", "seg_", "RFM rules", "240 of 240", "segments kept", model]
        {
            assert!(output.contains(part), "no {part} in\n{output}");
        }
    }
    // Neither the stored models nor the live one have changed.
    assert_eq!(app.get("/v1/models").await.1["models"].as_array().unwrap().len(), 2);
    assert_eq!(app.get("/v1/training-runs").await.1["training_runs"].as_array().unwrap().len(), 2);
    assert_eq!(app.get("/v1/segments").await.1["model_id"], before);

    // A model of the stored customers continues the segments of the live one.
    let database = ["train", "--from", "database", "--spec", &spec, "--out", &out];
    let (done, output) = app.command(&database).await;
    assert!(done, "{output}");
    let next: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(next["provenance"]["predecessor"], model, "{next}");

    // Flags override the file; another seed gives another model.
    let seed = [
        "--seed",
        "7",
        "--segments",
        "2..3",
        "--starts",
        "2",
        "--algorithms",
        "ward,kmeans,mini_batch_kmeans",
        "--distance",
        "mahalanobis",
    ];
    let table = path("rows.csv");
    let train = ["train", "--from", &table, "--spec", &spec, "--out", &out];
    let (done, output) = app.command(&[&train[..], &seed].concat()).await;
    assert!(done, "{output}");
    let other: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(other["provenance"]["seed"], 7);
    assert_eq!(other["provenance"]["spec"]["segments"], json!({ "from": 2, "to": 3 }));
    assert_eq!(other["provenance"]["spec"]["distance"], "mahalanobis");
    for algorithm in ["ward", " kmeans", "mini_batch_kmeans"] {
        assert!(output.contains(algorithm), "{output}");
    }
    app.stop().await;
}

async fn sealed(app: &TestApp, run: &Value) -> Vec<u8> {
    let model: ModelId = run["model_id"].as_str().unwrap().parse().unwrap();
    models::artifact(app.db.read(), &model).await.unwrap().unwrap()
}

/// All errors of a table are reported at once, each with its position.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_table_is_refused_with_all_its_errors() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("rows.csv");
    let train = async |text: &str, more: &[&str]| {
        std::fs::write(&table, text).unwrap();
        let from = table.display().to_string();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_segmentd"));
        command.env_remove("DATABASE_URL").args(["train", "--from", &from]).args(more);
        let ended = command.output().await.unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, errors) = train("customer_id,recency_day,spend_365d\n1,2,3\n", &[]).await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("recency_day: is neither a feature of this set"), "{errors}");
    assert!(errors.contains("`recency_days`?"), "{errors}");
    assert!(errors.contains("orders_365d: has no column"), "{errors}");
    assert!(!errors.contains("spend_365d: has no"), "{errors}");

    let set = segmentd::app::features(&config()).unwrap();
    let names: Vec<&str> = set.features().iter().map(|def| &*def.name).collect();
    let header = format!("customer_id,{}\n", names.join(","));
    let empty = ",".repeat(names.len() - 1);
    let rows = format!("a,x{empty}\na,{empty}\nb,-1{empty}\n");
    let (code, errors) = train(&format!("{header}{rows}"), &[]).await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(&format!("line 2: {}: must be a number", names[0])), "{errors}");
    assert!(errors.contains("line 3: customer_id: `a` occurs twice"), "{errors}");
    assert!(errors.contains("line 4: recency_days: must be at least 0; it is -1"), "{errors}");

    let spec = folder.path().join("spec.toml");
    std::fs::write(&spec, "segments = \"many\"\nseeds = 3\n").unwrap();
    let spec = spec.display().to_string();
    let (code, errors) = train(&header, &["--spec", &spec]).await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("segments: a number of segments, a range"), "{errors}");
    assert!(errors.contains("seeds: unknown field"), "{errors}");

    let (code, errors) = train(&header, &[]).await;
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("there are 0 rows"), "{errors}");
}

/// A cancelled queued run never starts. A cancelled running one stops on its replica, and
/// leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_training_run_is_cancelled_from_any_replica() {
    let one = TestApp::start_with(&[("training.max_fits", "1000000")]).await;
    let two = one.replica().await;
    one.post("/v1/events/bulk", ndjson(&orders(300, 3))).await;
    let (_, running) = one.post("/v1/training-runs", LONG).await;
    let running = format!("/v1/training-runs/{}", running["training_run_id"].as_str().unwrap());
    eventually("the time left is estimated", async || {
        one.get(&running).await.1["stage_seconds_left"].is_number()
    })
    .await;
    let (_, queued) = two.post("/v1/training-runs", r#"{"reason": "to be called off"}"#).await;
    assert_eq!(queued["stage_seconds_left"], Value::Null);
    let queued = format!("/v1/training-runs/{}", queued["training_run_id"].as_str().unwrap());

    for run in [&queued, &running] {
        for app in [&two, &one] {
            let (status, answer) = app.post(&format!("{run}/cancel"), "").await;
            assert_eq!((status, &answer["status"]), (200, &json!("cancelled")), "{answer}");
            assert!(answer["error"].as_str().unwrap().starts_with("cancelled by key"), "{answer}");
        }
    }
    // Its threads have ended, so the next run starts.
    let done = one.train().await;
    let cancelled = r#"segmentd_training_runs_total{outcome="cancelled"}"#;
    assert_eq!(one.metric(cancelled).await + two.metric(cancelled).await, 1);
    assert_eq!(one.get(&queued).await.1["started_at"], Value::Null);
    for run in [&queued, &running] {
        let (_, row) = two.get(run).await;
        assert_eq!(
            (&row["status"], &row["model_id"]),
            (&json!("cancelled"), &Value::Null),
            "{row}"
        );
        assert_eq!(row["stage_seconds_left"], Value::Null);
    }
    assert_eq!(one.get("/v1/models").await.1["models"].as_array().unwrap().len(), 1);

    let done = format!("/v1/training-runs/{}/cancel", done["training_run_id"].as_str().unwrap());
    let (status, answer) = one.post(&done, "").await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("has already succeeded"), "{answer}");
    assert_eq!(one.post("/v1/training-runs/run_none/cancel", "").await.0, 404);
    two.stop().await;
    one.stop().await;
}

/// A what-if run gives a candidate and a report, and the live model stays, although
/// promotion is automatic.
#[tokio::test(flavor = "multi_thread")]
async fn a_what_if_run_never_goes_live() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 3))).await;
    let live = app.train().await["model_id"].clone();
    let spec = json!({
        "segments": 2, "starts": 2, "what_if": true, "components": 0.9,
        "algorithms": ["kmeans", { "name": "gaussian_mixture", "covariance": "full" }], "reason": "are two easier to explain?",
        "exclude": [{ "feature": "recency_days", "reason": "moves every day" }],
    });
    let (status, run) = app.post("/v1/training-runs", spec.to_string()).await;
    assert_eq!((status, &run["what_if"]), (202, &json!(true)), "{run}");
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    eventually("it ends", async || app.get(&path).await.1["finished_at"].is_string()).await;
    let (_, run) = app.get(&path).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    // The next ordinary run goes live.
    let next = app.train_with(r#"{"segments": 4, "starts": 2}"#).await;
    let (_, models) = app.get("/v1/models").await;
    let models = models["models"].as_array().unwrap();
    let stage =
        |id: &Value| &models.iter().find(|model| model["model_id"] == *id).unwrap()["stage"];
    assert_eq!(stage(&run["model_id"]), "candidate");
    assert_eq!(stage(&next["model_id"]), "active");
    assert_ne!(stage(&live), "candidate");

    let (_, runs) = app.get("/v1/training-runs").await;
    let runs = runs["training_runs"].as_array().unwrap();
    let listed =
        runs.iter().find(|listed| listed["training_run_id"] == run["training_run_id"]).unwrap();
    assert_eq!(listed["reason"], "are two easier to explain?");
    assert_eq!(listed["what_if"], true);
    assert_eq!(listed["spec"]["algorithms"][1]["covariance"], "full");
    let board = run["report"]["leaderboard"]["entries"].as_array().unwrap();
    assert!(board[0]["reason"].is_string(), "{run}");
    let key = board[0]["figures"]["stability"]["segments"][0]["rating"].as_str();
    assert!(key.is_some(), "{run}");
    let mixture = board.iter().find(|entry| entry["algorithm"] == "gaussian_mixture").unwrap();
    assert!(mixture["likelihood"]["bic"].is_number(), "{mixture}");
    assert_eq!(runs.iter().filter(|listed| listed["what_if"] == false).count(), 2);

    let long = json!({ "reason": "x".repeat(2001) }).to_string();
    let (status, answer) = app.post("/v1/training-runs", long).await;
    assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!("reason")), "{answer}");

    // The first digits of an id are enough.
    let id = run["training_run_id"].as_str().unwrap();
    let short = &id[.."run_".len() + 12];
    let (status, found) = app.get(&format!("/v1/training-runs/{short}")).await;
    assert_eq!((status, &found["training_run_id"]), (200, &json!(id)), "{found}");
    app.stop().await;
}

/// Every fault of a spec is reported at once, with its path and what would be right.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_training_spec_is_refused_with_every_fault() {
    let app = TestApp::start().await;
    let wrong = json!({
        "segments": "many", "starts": -1, "k": 3, "tolerance": null,
        "algorithms": ["ward", { "name": "ward", "cells": "all" }],
        "stability": { "seeds": 0.5 },
        "gates": { "silhouette": null, "noise_share": "none" },
        "baseline": { "recency": "recency_days" },
        "what_if": "yes",
    });
    let (status, answer) = app.post("/v1/training-runs", wrong.to_string()).await;
    assert_eq!(status, 422, "{answer}");
    let mut faults = Vec::new();
    for fault in answer["errors"].as_array().unwrap() {
        let text = |name: &str| fault[name].as_str().unwrap().to_owned();
        faults.push((text("field"), text("problem")));
    }
    faults.sort();
    let fields: Vec<&str> = faults.iter().map(|(field, _)| &**field).collect();
    let expected = [
        "algorithms[1].cells",
        "baseline.frequency",
        "gates.noise_share",
        "k",
        "segments",
        "stability.seeds",
        "starts",
        "what_if",
    ];
    assert_eq!(fields, expected, "{answer}");
    let problem = |field: &str| &faults.iter().find(|fault| fault.0 == field).unwrap().1;
    assert!(problem("segments").starts_with("must be a whole number from 1 to 256"), "{answer}");
    assert!(problem("k").starts_with("unknown field; the fields are `what_if`"), "{answer}");
    assert!(!faults.iter().any(|(_, problem)| problem.contains("expected")), "{answer}");

    for (wrong, field, problem) in [
        (json!({ "algorithms": ["k-means"] }), "algorithms[0]", "must be one of `kmeans`"),
        (json!({ "algorithms": [{ "name": "ward", "eps": 1 }] }), "algorithms[0].eps", "max_rows"),
        (json!({ "algorithms": [7] }), "algorithms[0]", "the name of an algorithm"),
        (json!({ "segments": 257 }), "segments", "from 1 to 256"),
        (json!({ "segments": { "from": 4, "to": 2 } }), "segments.to", "must be from 4 to 256"),
        (json!({ "include": [{ "feature": "orders_365d" }] }), "include[0].reason", "is required"),
        (json!({ "distance": "manhattan" }), "distance", "must be one of `euclidean`"),
        (json!([]), "body", "must be an object"),
    ] {
        let (status, answer) = app.post("/v1/training-runs", wrong.to_string()).await;
        let fault = &answer["errors"][0];
        assert_eq!((status, &fault["field"]), (422, &json!(field)), "{wrong}: {answer}");
        assert!(fault["problem"].as_str().unwrap().contains(problem), "{wrong}: {answer}");
    }
    app.stop().await;
}

/// Runs that were requested at the same instant are neither skipped nor repeated.
#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_instant_are_on_one_page_each() {
    let (clock, _) = TimeSource::manual(Timestamp::parse("2027-01-01T00:00:00Z").unwrap());
    let app = TestApp::start_at(clock, &[("training.max_queued_runs_per_key", "50")]).await;
    let lease = app.db.try_lease(LeaseName::Training).await.unwrap();
    for _ in 0..5 {
        let (status, run) = app.post("/v1/training-runs", "{}").await;
        assert_eq!(status, 202, "{run}");
    }
    let runs = all_pages(&app, "/v1/training-runs", "training_runs", 2).await;
    let ids: Vec<&str> = runs.iter().map(|run| run["training_run_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    if let Some(lease) = lease {
        lease.release().await;
    }
    app.stop().await;
}

fn config() -> segmentd::config::AppConfig {
    let environment = segmentd::config::Environment::default();
    segmentd::config::AppConfig::load_from(None, &environment, &[]).unwrap()
}

/// The features of every customer as known by an instant, in reverse order.
async fn rows(app: &TestApp, at: &str) -> Vec<(String, Map<String, Value>)> {
    let mut rows = Vec::new();
    for customer in (0..240).rev() {
        let id = format!("c{customer:04}");
        let path = format!("/v1/customers/{id}/features?known_by={at}");
        let (status, answer) = app.get(&path).await;
        assert_eq!(status, 200, "{answer}");
        rows.push((id, answer["features"].as_object().unwrap().clone()));
    }
    rows
}

fn write_csv(path: &Path, rows: &[(String, Map<String, Value>)]) {
    let mut writer = csv::Writer::from_path(path).unwrap();
    let names = rows[0].1.keys().map(String::as_str);
    writer.write_record(names.chain(["customer_id"])).unwrap();
    for (customer, row) in rows {
        let cells = row.values().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            number => number.to_string(),
        });
        writer.write_record(cells.chain([customer.clone()])).unwrap();
    }
    writer.flush().unwrap();
}

fn write_parquet(path: &Path, rows: &[(String, Map<String, Value>)]) {
    let is_text = |name: &str| rows.iter().any(|(_, row)| row[name].is_string());
    let column = |name: &String| {
        let (kind, read_as) = if is_text(name) { ("binary", " (utf8)") } else { ("double", "") };
        format!(" optional {kind} {name}{read_as};")
    };
    let columns: String = rows[0].1.keys().map(column).collect();
    let schema = format!("message rows {{ required binary customer_id (utf8);{columns} }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let ids: Vec<ByteArray> = rows.iter().map(|(id, _)| id.as_str().into()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&ids, None, None).unwrap();
    column.close().unwrap();
    for name in rows[0].1.keys() {
        let cells: Vec<&Value> = rows.iter().map(|(_, row)| &row[name]).collect();
        let levels: Vec<i16> = cells.iter().map(|cell| i16::from(!cell.is_null())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        if is_text(name) {
            let texts: Vec<ByteArray> =
                cells.iter().filter_map(|cell| cell.as_str().map(Into::into)).collect();
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
        } else {
            let numbers: Vec<f64> = cells.iter().filter_map(|cell| cell.as_f64()).collect();
            column.typed::<DoubleType>().write_batch(&numbers, Some(&levels), None).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}
