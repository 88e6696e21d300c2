//! `GET /v1/segments` and `GET /v1/features`.

use serde_json::json;

use crate::support::{TestApp, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_listed_with_profile_and_size() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let (status, rules) = app.get("/v1/segments").await;
    assert_eq!((status, &rules["fallback"]), (200, &json!(true)), "{rules}");
    let model = app.train().await["model_id"].clone();
    let (_, live) = app.get("/v1/segments").await;
    assert_eq!((&live["model_id"], &live["fallback"]), (&model, &json!(false)));
    for (answer, has_profile) in [(&rules, false), (&live, true)] {
        let segments = answer["segments"].as_array().unwrap();
        let customers = segments.iter().map(|segment| segment["customers"].as_i64().unwrap());
        assert_eq!(customers.sum::<i64>(), 150, "{answer}");
        assert!(segments.iter().all(|segment| segment["profile"].is_object() == has_profile));
    }
    let segments = live["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 3);
    for segment in segments {
        assert!(segment["segment_id"].as_str().unwrap().starts_with("seg_"), "{segment}");
        assert!(segment["name"].is_string(), "{segment}");
        let profiled = segment["profile"]["features"].as_array().unwrap();
        assert!(profiled.iter().any(|one| one["feature"] == "recency_days"), "{segment}");
        assert!(profiled.iter().all(|one| one["here"]["missing_share"].is_number()), "{segment}");
        let standouts = segment["profile"]["standouts"].as_array().unwrap();
        assert!(standouts.iter().all(|one| one["feature"].is_string()), "{segment}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_listed_with_their_owners() {
    let app = TestApp::start().await;
    let (status, answer) = app.get("/v1/features").await;
    assert_eq!(status, 200, "{answer}");
    let deployment = app.app.deployments.snapshot();
    assert_eq!(answer["feature_set_id"], deployment.features.id().as_str());
    let features = answer["features"].as_array().unwrap();
    assert_eq!(features.len(), deployment.features.features().len());
    for (feature, declared) in features.iter().zip(deployment.features.features()) {
        assert_eq!(feature["name"], json!(declared.name));
        assert!(feature["owner"].as_str().unwrap().contains('@'), "{feature}");
        assert_eq!(feature["encoding"].is_object(), declared.encoding.is_some(), "{feature}");
    }
    app.stop().await;
}
