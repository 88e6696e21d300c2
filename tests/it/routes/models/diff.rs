//! `/v1/models/{model_id}/diff/{other_model_id}`, `/migration` and
//! `/v1/segments/{segment_id}/lineage`: segments over several trainings.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::pages::all_pages;
use crate::support::{TestApp, eventually, ndjson, orders};

const CUSTOMERS: usize = 300;

fn ids(segments: &Value) -> BTreeSet<String> {
    let segments = segments["segments"].as_array().unwrap().iter();
    segments.map(|segment| segment["segment_id"].as_str().unwrap().to_owned()).collect()
}

fn events(body: &Value, event: &str) -> Vec<Value> {
    let all = body["events"].as_array().or_else(|| body["lineage"].as_array()).unwrap();
    all.iter().filter(|line| line["event"] == event).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_keep_their_ids_and_the_diff_shows_their_lineage() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let first = app.train().await;
    let one = first["model_id"].as_str().unwrap().to_owned();
    assert_eq!(first["report"]["lineage"]["predecessor_model_id"], Value::Null);
    let before = ids(&app.get("/v1/segments").await.1);

    // The same customers again: another model, the same segments.
    let again = app.train().await;
    let two = again["model_id"].as_str().unwrap().to_owned();
    assert_ne!(two, one);
    assert_eq!(again["report"]["lineage"]["predecessor_model_id"], one.as_str());
    assert_eq!(ids(&app.get("/v1/segments").await.1), before);
    assert_eq!(again["report"]["lineage"]["matched_share"], 1.0, "{again}");
    let share = again["report"]["lineage"]["relabelled_share"].as_f64().unwrap();
    assert!(share < 0.01, "{share} of the same customers were relabelled");

    // The diff of that promotion.
    let (status, diff) = app.get(&format!("/v1/models/{one}/diff/{two}")).await;
    assert_eq!(status, 200, "{diff}");
    assert_eq!((&diff["from_model_id"], &diff["to_model_id"]), (&json!(one), &json!(two)));
    assert_eq!(diff["segments"]["same"].as_array().unwrap().len(), before.len());
    assert_eq!(diff["segments"]["added"], json!([]));
    assert_eq!(diff["features"]["same_set"], true);
    assert_eq!(diff["figures"]["to"]["predecessor_model_id"], one.as_str());
    assert_eq!(events(&diff, "kept").len(), before.len());

    // More segments: some continue, some are born, and no id is reused.
    let more = app.train_with(r#"{"segments": 6, "starts": 3}"#).await;
    let three = more["model_id"].as_str().unwrap().to_owned();
    let after = ids(&app.get("/v1/segments").await.1);
    assert_eq!(after.len(), 6);
    let (_, diff) = app.get(&format!("/v1/models/{two}/diff/{three}")).await;
    let (kept, born) = (events(&diff, "kept"), events(&diff, "born"));
    assert_eq!(kept.len() + born.len(), 6, "{diff}");
    assert_eq!(kept.len() + events(&diff, "died").len(), before.len());
    let is_old = |id: &Value| before.iter().any(|known| *id == json!(known));
    assert!(born.iter().all(|line| !is_old(&line["new"]["segment_id"])), "{born:?}");

    // The segments of a model that does not serve are described as those that do.
    let (_, served) = app.get("/v1/segments").await;
    let (status, described) = app.get(&format!("/v1/models/{three}/segments")).await;
    assert_eq!((status, &described["model_id"]), (200, &json!(three)), "{described}");
    for (one, other) in
        served["segments"].as_array().unwrap().iter().zip(described["segments"].as_array().unwrap())
    {
        for field in ["segment_id", "name", "profile"] {
            assert_eq!(one[field], other[field], "{field}");
        }
    }
    let (_, described) = app.get(&format!("/v1/models/{one}/segments")).await;
    assert_eq!(ids(&described), before);
    let (status, _) = app.get(&format!("/v1/models/{}/segments", "0".repeat(64))).await;
    assert_eq!(status, 404);

    // The preview of a rollback scores every customer by both models, and writes nothing.
    let digest = app.states_digest().await;
    let (status, preview) = app.get(&format!("/v1/models/{two}/migration")).await;
    assert_eq!(status, 200, "{preview}");
    assert_eq!((&preview["from_model_id"], &preview["to_model_id"]), (&json!(three), &json!(two)));
    assert_eq!(preview["customers"], CUSTOMERS);
    let flows = preview["flows"].as_array().unwrap();
    let answer: u64 = flows.iter().map(|flow| flow["customers"].as_u64().unwrap()).sum();
    assert_eq!(answer + preview["in_small_flows"].as_u64().unwrap(), CUSTOMERS as u64);
    assert!(flows.iter().all(|flow| flow["customers"].as_u64().unwrap() >= 5));
    assert!(preview["move_away"].as_u64().unwrap() > 0, "{preview}");
    let (_, same) = app.get(&format!("/v1/models/{three}/migration")).await;
    assert_eq!((&same["move_away"], &same["stay"]), (&json!(0), &json!(CUSTOMERS)));
    assert_eq!(app.states_digest().await, digest);
    assert_eq!(app.get("/v1/segments").await.1["model_id"], three.as_str());

    // The promotion does what the preview showed.
    let moved = |history: Value| {
        let changes = history["changes"].as_array().unwrap().clone();
        changes[0]["segment_id"] != changes[1]["segment_id"]
    };
    let (status, _) = app.post(&format!("/v1/models/{two}/promote"), "").await;
    assert_eq!(status, 200);
    let mut moves = 0;
    for customer in 0..CUSTOMERS {
        let id = format!("c{customer:04}");
        eventually("the promoted model has scored the customer", async || {
            app.get(&format!("/v1/customers/{id}")).await.1["model_id"] == two.as_str()
        })
        .await;
        let (_, history) = app.get(&format!("/v1/customers/{id}/history?limit=2")).await;
        moves += u64::from(moved(history));
    }
    assert_eq!(moves, preview["move_away"].as_u64().unwrap());

    // The lineage of one segment over all models.
    let id = kept[0]["new"]["segment_id"].as_str().unwrap();
    let (status, lineage) = app.get(&format!("/v1/segments/{id}/lineage")).await;
    assert_eq!(status, 200);
    assert_eq!(events(&lineage, "born").len(), 1);
    assert_eq!(events(&lineage, "kept").len(), 2);
    let all = lineage["events"].as_array().unwrap();
    assert_eq!(all.last().unwrap()["model_id"], one.as_str());

    // Pages of one event are the same events: those of one model have one instant.
    let paged = all_pages(&app, &format!("/v1/segments/{id}/lineage"), "events", 1).await;
    assert_eq!(&paged, all);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_models_and_segments_cannot_be_compared() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let run = app.train().await;
    let model = run["model_id"].as_str().unwrap();
    let unknown = "0".repeat(64);
    let (status, problem) = app.get(&format!("/v1/models/{model}/diff/{unknown}")).await;
    assert_eq!(status, 404, "{problem}");
    let (status, problem) = app.get(&format!("/v1/models/{model}/diff/latest")).await;
    assert_eq!(status, 404, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("64 hexadecimal digits"), "{problem}");
    // The first digits of an id are enough.
    let short = &model[..12];
    let (status, diff) = app.get(&format!("/v1/models/{short}/diff/{short}")).await;
    assert_eq!((status, &diff["to_model_id"]), (200, &json!(model)), "{diff}");
    for unknown in [&unknown[..12], &model[..11]] {
        assert_eq!(app.get(&format!("/v1/models/{unknown}")).await.0, 404);
    }
    assert_eq!(app.get(&format!("/v1/models/{unknown}/migration")).await.0, 404);
    assert_eq!(app.get("/v1/segments/seg_nobody/lineage").await.0, 404);
    app.stop().await;
}
