//! The Open Inference Protocol (`/v2`): the same scores as `/v1/score`, by an unmodified
//! client and by single requests.

use std::path::Path;

use segmentd::domain::access::AccessScope;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::clients::{answers, python_venv};
use crate::support::contract::assert_described;
use crate::support::{TestApp, ndjson, orders};

const CLIENT: [&str; 1] = ["tritonclient[http]==2.73.0"];

/// Customers with every named feature, and customers without some.
fn customers() -> (Vec<Value>, Vec<Value>) {
    let dense = (0..40)
        .map(|n| {
            json!({
                "recency_days": f64::from(n) * 7.3 + 0.1,
                "orders_365d": n % 13,
                "spend_365d": f64::from(n * n) * 0.5,
                "last_store": format!("{}", n % 5),
            })
        })
        .collect();
    let sparse = (0..20)
        .map(|n| match n % 3 {
            0 => json!({ "recency_days": n, "last_store": "1" }),
            1 => json!({ "spend_365d": 1e9, "last_store": "Größe" }),
            _ => json!({ "recency_days": 3.5, "spend_365d": n, "last_store": "" }),
        })
        .collect();
    (dense, sparse)
}

/// The answer of `/v1/score` for the same customers.
async fn native(app: &TestApp, rows: &[Value]) -> Value {
    let (status, answer) = app.post("/v1/score", json!({ "rows": rows }).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Asserts that every field equals that of `/v1/score`.
fn assert_same(how: &str, found: &Value, native: &Value) {
    assert_eq!(found["version"], native["model_id"], "{how}");
    assert_eq!(found["parameters"]["fallback"], native["fallback"], "{how}");
    assert_eq!(found["parameters"]["generation"], native["generation"], "{how}");
    let outputs = found["outputs"].as_object().unwrap();
    let scores = native["scores"].as_array().unwrap();
    for (output, field) in [
        ("segment_id", "segment_id"),
        ("segment_name", "segment_name"),
        ("distance", "distance"),
        ("runner_up_segment_id", "runner_up_segment_id"),
        ("confidence", "confidence"),
        ("p_value", "p_value"),
        ("outlier", "outlier"),
        ("missing_inputs", "missing_inputs"),
    ] {
        let expected: Vec<&Value> = scores.iter().map(|score| &score[field]).collect();
        let Some(values) = outputs.get(output) else {
            assert!(expected.iter().all(|value| value.is_null()), "{how}: no {output}");
            continue;
        };
        let values = values.as_array().unwrap();
        assert_eq!(values.len(), expected.len(), "{how}: {output}");
        for (row, (value, expected)) in values.iter().zip(expected).enumerate() {
            assert!(same(output, value, expected), "{how}: {output} of {row}: {value}, {expected}");
        }
    }
}

/// An FP32 number has several decimal forms.
fn same(output: &str, a: &Value, b: &Value) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "both were 32 bits wide")]
    let single = |value: &Value| value.as_f64().map(|number| (number as f32).to_bits());
    match output {
        "distance" | "confidence" => single(a).is_some() && single(a) == single(b),
        _ => a == b,
    }
}

async fn ask_client(app: &TestApp, python: &Path) -> Value {
    let (dense, sparse) = customers();
    let host = app.url.trim_start_matches("http://");
    let input = json!({ "dense": dense, "sparse": sparse });
    // Asked before the client, which ends with a promotion, and so another generation.
    let (dense, sparse) = (native(app, &dense).await, native(app, &sparse).await);
    let found = answers(python, "inference.py", &[host, &app.key], &input).await;
    for (how, answer) in found["dense"].as_object().unwrap() {
        assert_same(how, answer, &dense);
    }
    assert_same("sparse", &found["sparse"]["by default"], &sparse);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_client_gets_the_same_scores() {
    let Some(python) = python_venv("inference", &CLIENT) else { return };
    let app = TestApp::start().await;

    // Without a model the fallback answers, and the response says so.
    let found = ask_client(&app, &python).await;
    for question in ["live", "ready", "model_ready"] {
        assert_eq!(found[question], true, "{question}");
    }
    assert_eq!(found["server"]["extensions"], json!(["binary_tensor_data", "model_repository"]));
    assert_eq!(found["model"]["versions"], json!([]));
    assert_eq!(found["index"][0]["state"], "READY");
    assert_eq!(found["dense"]["by default"]["id"], "a request");
    assert_eq!(found["dense"]["by default"]["outputs"].as_object().unwrap().len(), 5);
    let refusals = &found["refusals"];
    for (what, status, text) in [
        ("no key", "401", "Authorization: Bearer"),
        ("no such model", "404", "the only one is `segments`"),
        ("no such version", "404", "the rule-based fallback is deployed"),
        ("NaN in JSON", "400", "not valid JSON, at line 1"),
    ] {
        assert_eq!(refusals[what]["status"], status, "{refusals}");
        assert!(refusals[what]["message"].as_str().unwrap().contains(text), "{refusals}");
    }

    // Two models: the live one answers, the other is loaded, and unloaded again.
    app.post("/v1/events/bulk", ndjson(&orders(300, 5))).await;
    let first = app.train().await["model_id"].clone();
    let second = app.train_with(r#"{"segments": 2}"#).await["model_id"].clone();
    assert_ne!(first, second);
    let found = ask_client(&app, &python).await;
    assert_eq!(found["model"]["versions"], json!([second]));
    let outputs = &found["dense"]["by default"]["outputs"];
    assert_eq!(outputs.as_object().unwrap().len(), 9);
    let (_, live) = app.get("/v1/segments").await;
    for (index, key) in outputs["segment_index"]
        .as_array()
        .unwrap()
        .iter()
        .zip(outputs["segment_id"].as_array().unwrap())
    {
        let index = usize::try_from(index.as_u64().unwrap()).unwrap();
        assert_eq!(live["segments"][index]["segment_id"], *key);
    }
    assert_eq!(found["some outputs"]["outputs"].as_object().unwrap().len(), 1);
    let states: Vec<_> = found["index"].as_array().unwrap().iter().map(|x| &x["state"]).collect();
    assert_eq!(states, ["READY", "UNAVAILABLE"]);
    assert_eq!(found["loaded"], json!([first]));
    assert_eq!(found["unloaded"], json!([second]));

    let (_, metrics) = app.admin("/metrics").await;
    let count =
        |model| format!("segmentd_scores_total{{endpoint=\"inference\",model=\"{model}\"}} 260");
    assert!(metrics.contains(&count("active")), "{metrics}");
    app.stop().await;
}

const INFER: &str = "/v2/models/segments/infer";
const ONE: &str = r#"{"id": "7", "inputs": [{"name": "recency_days", "datatype": "FP64", "shape": [1], "data": [3]}]}"#;

/// Errors of every layer: admission, key, router, parser, registry.
#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_shape_of_the_protocol() {
    let app = TestApp::start_with(&[("http.max_body_bytes", "200000")]).await;
    let raw = reqwest::Client::new();
    let unknown = "a".repeat(64);
    let load_unknown = format!("/v2/repository/models/segments/versions/{unknown}/load");
    let huge = " ".repeat(300_000);
    let null = ONE.replace("[3]", "[null]");
    let negative = ONE.replace("[3]", "[-5]");
    let table: [(&str, &str, u16, &str); 15] = [
        (INFER, &null, 422, "inputs: row 0 has no value; send at least one of `recency_days`"),
        (INFER, &negative, 422, "recency_days.data: element 0 must be at least 0; it is -5"),
        (INFER, "{", 400, "ends before its JSON is complete"),
        (INFER, "{}", 422, "inputs: is required"),
        (INFER, &huge, 413, "larger than 200000 bytes"),
        ("/v2/models/x/infer", ONE, 404, "the only one is `segments`"),
        ("/v2/models/segments/versions/x/infer", ONE, 404, "the rule-based fallback is deployed"),
        ("/v2/models/segments", "", 405, "does not support POST"),
        ("/v2/models/segments/explain", "", 404, "no route"),
        ("/v2/repository/index", r#"{"ready": 1}"#, 422, "ready: must be true or false"),
        ("/v2/repository/models/segments/load", "", 409, "POST /v2/repository/index lists them"),
        ("/v2/repository/models/segments/unload", "", 409, "no previous model"),
        ("/v2/repository/models/x/unload", "", 404, "the only one is `segments`"),
        (&load_unknown, "", 404, "there is no version"),
        (
            "/v2/repository/models/segments/load",
            r#"{"parameters": {"version": "x"}}"#,
            422,
            "64 lower-case",
        ),
    ];
    for (path, body, status, text) in table {
        let (got, failure) = app.post(path, body.to_owned()).await;
        assert_eq!(got, status, "{path}: {failure}");
        assert_described("InferenceError", &failure);
        assert!(failure["error"].as_str().unwrap().contains(text), "{path}: {failure}");
    }
    assert_eq!(app.post_as(None, INFER, ONE).await.0, 401);
    let reader = api_keys::create_key(&app.db, &TimeSource::System, "reader", &[AccessScope::Read])
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let (status, failure) = app.post_as(Some(&reader), INFER, ONE).await;
    assert_eq!(status, 403);
    assert!(failure["error"].as_str().unwrap().contains("`score`"), "{failure}");
    let load = "/v2/repository/models/segments/load";
    assert_eq!(app.post_as(Some(&reader), load, "").await.0, 403);
    assert_eq!(app.post_as(Some(&reader), "/v2/repository/index", "").await.0, 200);
    for length in ["x", "-1", "100000"] {
        let request = raw.post(format!("{}{INFER}", app.url)).bearer_auth(&app.key).body(ONE);
        let answer =
            request.header("Inference-Header-Content-Length", length).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{length}");
        let failure: Value = answer.json().await.unwrap();
        assert!(failure["error"].as_str().unwrap().contains("Inference-Header-Content-Length"));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_protocol_answers() {
    let app = TestApp::start().await;
    let raw = reqwest::Client::new();
    let open = async |path: &str| {
        let answer = raw.get(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json", "{path}");
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };

    // Probes need no key; both spellings of the root answer.
    assert_eq!(open("/v2").await, open("/v2/").await);
    assert_eq!(open("/v2").await.1["name"], "segmentd");
    let up = json!({ "live": true, "ready": true });
    assert_eq!(open("/v2/health/live").await, (200, up.clone()));
    assert_eq!(open("/v2/health/ready").await, (200, up));
    let ready = json!({ "name": "segments", "ready": true });
    assert_eq!(open("/v2/models/segments/ready").await, (200, ready));

    // Without a model the rules answer. Only the live version answers under its name.
    assert_eq!(app.get("/v2/models/segments").await.1["platform"], "segmentd_rules");
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let first = app.train().await["model_id"].as_str().unwrap().to_owned();
    let at = |version: &str, what: &str| format!("/v2/models/segments/versions/{version}{what}");
    let (status, answer) = app.post(&at(&first, "/infer"), ONE).await;
    assert_eq!(
        (status, &answer["id"], &answer["model_version"]),
        (200, &json!("7"), &json!(first))
    );
    assert_eq!(answer, app.post(INFER, ONE).await.1);
    assert_described("InferenceResponse", &answer);
    assert_described("InferenceRequest", &serde_json::from_str(ONE).unwrap());
    assert_described("ModelMetadata", &app.get("/v2/models/segments").await.1);
    let second =
        app.train_with(r#"{"segments": 2}"#).await["model_id"].as_str().unwrap().to_owned();
    assert_eq!(app.post(&at(&second, "/infer"), ONE).await.0, 200);
    let (status, failure) = app.post(&at(&first, "/infer"), ONE).await;
    assert_eq!(status, 404);
    assert!(failure["error"].as_str().unwrap().contains(&second), "{failure}");
    assert_eq!(app.get(&at(&first, "")).await.0, 404);
    assert_eq!(open(&at(&first, "/ready")).await.0, 404);
    assert_eq!(open(&at(&second, "/ready")).await.0, 200);

    let load = "/v2/repository/models/segments/load";
    // Loading promotes; a load without a version keeps the live model.
    let body = json!({ "parameters": { "version": first } }).to_string();
    assert_eq!(app.post(load, body).await.0, 200);
    assert_eq!(app.post(load, "").await.0, 200);
    let (_, index) = app.post("/v2/repository/index", r#"{"ready": true}"#).await;
    assert_eq!(
        index,
        json!([{ "name": "segments", "version": first, "state": "READY", "reason": "" }])
    );
    assert_eq!(app.post("/v2/repository/models/segments/unload", "").await.0, 200);
    assert_eq!(app.get("/v2/models/segments").await.1["versions"], json!([second]));

    // So many rows that another thread scores them: the same scores.
    let rows: Vec<Value> = (0..1000).map(|n| json!({ "recency_days": n })).collect();
    let days: Vec<usize> = (0..1000).collect();
    let many = json!({ "inputs": [{ "name": "recency_days", "datatype": "INT64", "shape": [1000, 1], "data": days }] });
    let (_, answer) = app.post(INFER, many.to_string()).await;
    let expected = native(&app, &rows).await;
    let keys: Vec<&Value> =
        expected["scores"].as_array().unwrap().iter().map(|s| &s["segment_id"]).collect();
    assert_eq!(answer["outputs"][1]["name"], "segment_id");
    assert_eq!(answer["outputs"][1]["data"].as_array().unwrap().iter().collect::<Vec<_>>(), keys);

    // During shutdown it is live and not ready.
    app.app.readiness.drain();
    let stopping = json!({ "live": true, "ready": false });
    assert_eq!(open("/v2/health/live").await, (200, stopping.clone()));
    assert_eq!(open("/v2/health/ready").await, (503, stopping));
    assert_eq!(open("/v2/models/segments/ready").await.0, 503);
    assert_eq!(app.admin("/readyz").await.0, 503);
    app.stop().await;
}
