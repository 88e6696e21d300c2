//! The life cycle of a model: candidate, gates, promotion, rejection, rollback.

use segmentd::domain::access::AccessScope;
use segmentd::domain::time::Timestamp;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::models::{
    CUSTOMERS, described, exchanged, misfiled, move_model, renamed, share, sizes, with_model,
};
use crate::support::pages::all_pages;
use crate::support::{TestApp, eventually, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn every_gate_refuses_with_a_reason() {
    let settings = [("gates.relabelled", "0.5"), ("gates.score_loss", "0.1")];
    let (app, active) = with_model(TimeSource::System, &settings).await;
    let report = described(&app, &active).await["report"].clone();
    let score = report["leaderboard"]["entries"][0]["score"]["value"].as_f64().unwrap();
    let sizes = sizes(&app).await;
    let moved = share(sizes[0] + sizes[1]);
    assert!(moved > 0.5);
    let chosen = |entry: Value| json!({ "leaderboard": { "entries": [entry] } });
    let cases = [
        (
            "reproducibility",
            chosen(json!({ "criteria": { "reproducibility": { "value": 0.1 } } })),
            0.1,
        ),
        ("score_loss", chosen(json!({ "score": { "value": score - 0.2 } })), 0.2),
        ("jaccard", chosen(json!({ "figures": { "stability": { "mean_jaccard": 0.4 } } })), 0.4),
        ("smallest_share", json!({ "sizes": [999, 1] }), 0.001),
        (
            "outlier_rate",
            json!({ "outliers": { "checks": [{ "alpha": 0.01, "rows": 500, "flagged": 60 }] } }),
            0.12,
        ),
        ("relabelled", json!({}), moved),
    ];
    let mut refused = String::new();
    for (number, (name, report, figure)) in cases.into_iter().enumerate() {
        let model = if name == "relabelled" {
            exchanged(&app, &active).await
        } else {
            let fresh = [0, 1, 2].map(|segment| format!("seg_{number}x{segment}"));
            renamed(&app, &active, &[&fresh[0], &fresh[1], &fresh[2]], &report).await
        };
        for to in ["promote", "canary"] {
            let (status, problem) = move_model(&app, &model, to, json!({ "reason": "try" })).await;
            assert_eq!(
                (status, &problem["type"]),
                (409, &json!("/docs#problem-refused")),
                "{problem}"
            );
            let gates: Vec<&Value> = problem["gates"].as_array().unwrap().iter().collect();
            let own = gates.iter().find(|gate| gate["gate"] == name).unwrap();
            assert!((own["measured"].as_f64().unwrap() - figure).abs() < 1e-6, "{own}");
            assert!(problem["detail"].as_str().unwrap().contains(own["reason"].as_str().unwrap()));
            assert_eq!(gates.len(), 1, "{gates:?}");
        }
        let description = described(&app, &model).await;
        assert_eq!(description["stage"], "candidate");
        let decision = &description["decisions"][0];
        assert_eq!((&decision["step"], &decision["to_stage"]), (&json!("canary"), &Value::Null));
        assert_eq!((&decision["reason"], &decision["forced"]), (&json!("try"), &json!(false)));
        assert!(decision["decided_by"].as_str().unwrap().starts_with("key "));
        assert_eq!(decision["gates"].as_array().unwrap().len(), 6);
        refused = model;
    }

    // Loading through the inference protocol passes the same gates.
    let version = json!({ "parameters": { "version": refused } }).to_string();
    let (status, failure) = app.post("/v2/repository/models/segments/load", version).await;
    assert_eq!(status, 409, "{failure}");
    assert!(failure["error"].as_str().unwrap().contains("relabelled"), "{failure}");

    // A forced promotion needs the admin scope and a reason.
    let train = api_keys::create_key(&app.db, &TimeSource::System, "t", &[AccessScope::Train])
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let path = format!("/v1/models/{refused}/promote");
    let force = r#"{"force": true, "reason": "the campaign waits"}"#;
    assert_eq!(app.post_as(Some(&train), &path, force).await.0, 403);
    assert_eq!(app.post(&path, r#"{"force": true}"#).await.0, 422);
    assert_eq!(app.post(&path, r#"{"share": 0.5}"#).await.0, 422);
    assert_eq!(move_model(&app, &refused, "canary", json!({ "share": 1.5 })).await.0, 422);
    assert_eq!(app.get("/v1/segments").await.1["model_id"], json!(active));
    let (status, live) = app.post(&path, force).await;
    assert_eq!((status, &live["active_model_id"]), (200, &json!(refused)));
    let decision = described(&app, &refused).await["decisions"][0].clone();
    assert_eq!((&decision["forced"], &decision["to_stage"]), (&json!(true), &json!("active")));
    assert_eq!(decision["reason"], "the campaign waits");

    // An active model can only be replaced; a rollback has no gates.
    for to in ["shadow", "canary", "retire", "reject"] {
        let (status, problem) = move_model(&app, &refused, to, json!({})).await;
        assert_eq!((status, &problem["type"]), (409, &json!("/docs#problem-conflict")));
    }
    let (status, live) = app.post("/v1/deployment/rollback", "").await;
    assert_eq!((status, &live["active_model_id"]), (200, &json!(active)));
    assert_eq!(described(&app, &active).await["decisions"][0]["step"], "rollback");
    let (status, served) = app.get("/v1/deployment").await;
    assert_eq!((status, &served), (200, &live));
    assert_eq!((&served["fallback"], &served["canary"]), (&json!(false), &Value::Null));
    assert_eq!(served["previous_model_id"], json!(refused));
    let (_, live) = move_model(&app, &refused[..12], "shadow", json!({})).await;
    assert_eq!(live["shadow_model_ids"], json!([refused]));
    let (_, served) = app.get("/v1/deployment").await;
    assert_eq!(served["shadow_model_ids"], json!([refused]));
    let unknown = "0".repeat(64);
    assert_eq!(move_model(&app, &unknown, "shadow", json!({})).await.0, 404);
    app.stop().await;
}

/// Models that were registered at the same instant are neither skipped nor repeated.
#[tokio::test(flavor = "multi_thread")]
async fn models_of_one_instant_are_on_one_page_each() {
    let (clock, _) = TimeSource::manual(Timestamp::parse("2027-01-01T00:00:00Z").unwrap());
    let (app, model) = with_model(clock, &[]).await;
    for number in 0..4 {
        let ids = [0, 1, 2].map(|segment| format!("seg_{number}x{segment}"));
        renamed(&app, &model, &[&ids[0], &ids[1], &ids[2]], &json!({})).await;
    }
    let models = all_pages(&app, "/v1/models", "models", 2).await;
    let ids: Vec<&str> = models.iter().map(|model| model["model_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    // A model that is stored without a complete report has none.
    let others = ids.iter().filter(|id| **id != model);
    for other in others {
        assert_eq!(described(&app, other).await["report"], Value::Null);
    }
    assert_eq!(described(&app, &model).await["report"]["rows"], CUSTOMERS);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_training_may_not_promote_stays_a_candidate() {
    let app = TestApp::start_with(&[("gates.reproducibility", "1.0")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 3}"#).await;
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    let mut model = String::new();
    eventually("the model is registered", async || {
        let (_, run) = app.get(&path).await;
        assert_ne!(run["status"], "failed", "{run}");
        model = run["model_id"].as_str().unwrap_or_default().to_owned();
        !model.is_empty()
    })
    .await;
    let mut description = Value::Null;
    eventually("the decision is recorded", async || {
        description = described(&app, &model).await;
        !description["decisions"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(
        (&description["stage"], &description["decisions"][0]["to_stage"]),
        (&json!("candidate"), &Value::Null)
    );
    assert!(
        description["decisions"][0]["decided_by"].as_str().unwrap().starts_with("training run_")
    );
    assert_eq!(app.get("/v1/segments").await.1["fallback"], true);
    eventually("an alert names the gate", async || {
        let (_, alerts) = app.get("/v1/alerts?topic=training").await;
        alerts["alerts"][0]["description"]
            .as_str()
            .is_some_and(|text| text.contains("reproducibility"))
    })
    .await;
    assert_eq!(app.metric("segmentd_training_refused_models_total").await, 1);
    assert_eq!(move_model(&app, &model, "reject", json!({ "reason": "no" })).await.0, 200);
    assert_eq!(app.get(&format!("/v1/models/{model}")).await.1["stage"], "retired");
    app.stop().await;
}

/// An altered artifact would answer under an id that does not describe it.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_bytes_do_not_match_its_id_is_refused() {
    let (app, live) = with_model(TimeSource::System, &[]).await;
    let other = misfiled(&app, &live).await;
    let force = json!({ "force": true, "reason": "test" });
    let (status, problem) = move_model(&app, &other, "promote", force).await;
    assert_eq!(status, 409, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("the document's address is {live}, not {other}")), "{detail}");
    assert_eq!(app.get("/v1/segments").await.1["model_id"], live.as_str());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trained_model_passes_shadow_and_canary_automatically() {
    let settings = [
        ("lifecycle.shadow_phase", "true"),
        ("lifecycle.canary_phase", "true"),
        ("lifecycle.minimum_phase_seconds", "0"),
        ("deployment.poll_seconds", "1"),
    ];
    // The first model goes live at once.
    let (app, first) = with_model(TimeSource::System, &settings).await;
    let steps = async |model: &str| -> Vec<String> {
        let description = described(&app, model).await;
        let decisions = description["decisions"].as_array().unwrap();
        decisions.iter().map(|d| d["step"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(steps(&first).await, ["promote"]);
    let second =
        app.train_with(r#"{"segments": 2}"#).await["model_id"].as_str().unwrap().to_owned();
    assert_eq!(steps(&second).await, ["promote", "canary", "shadow"]);
    let description = described(&app, &second).await;
    for decision in description["decisions"].as_array().unwrap() {
        assert!(
            decision["decided_by"].as_str().unwrap().starts_with("training run_"),
            "{decision}"
        );
    }
    assert_eq!(description["decisions"][0]["reason"], "stayed in canary");
    app.stop().await;
}
