//! `/v1/models/{model_id}/canary`: the canary scores a share of the customers, the same ones on
//! every replica and endpoint.

use std::collections::BTreeSet;

use segmentd::domain::deployment::lifecycle::is_in_canary;
use segmentd::domain::id::{CustomerKey, ModelId};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::models::{
    described, exchanged, ids, models_of, move_model, one_more, renamed, with_model,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_scores_the_same_customers_on_every_endpoint() {
    let (app, active) = with_model(TimeSource::System, &[]).await;
    let canary = exchanged(&app, &active).await;
    let id: ModelId = canary.parse().unwrap();
    let (status, live) = move_model(&app, &canary, "canary", json!({ "share": 0.3 })).await;
    assert_eq!((status, &live["active_model_id"]), (200, &json!(active)), "{live}");
    assert_eq!(
        (&live["canary"]["model_id"], &live["canary"]["share"]),
        (&json!(canary), &json!(0.3))
    );
    let answered = models_of(&app).await;
    let within: BTreeSet<&String> = answered
        .iter()
        .filter(|(_, model)| **model == canary)
        .map(|(customer, _)| customer)
        .collect();
    // 0.3 of 150 is 45, and four standard deviations are 22.4.
    assert!((23..=67).contains(&within.len()), "{}", within.len());
    for (customer, model) in &answered {
        let key = CustomerKey::try_from(customer.clone()).unwrap();
        assert_eq!(is_in_canary(&id, 0.3, &key), *model == canary);
        assert!([&active, &canary].contains(&model));
    }

    // The same model for the customer on every endpoint.
    for event in one_more(2) {
        let customer = event["customer_id"].as_str().unwrap();
        let (_, answer) = app.post("/v1/events", event.to_string()).await;
        assert_eq!(
            answer["outcomes"][0]["score"]["model_id"],
            json!(answered[customer]),
            "{answer}"
        );
        let body = json!({ "features": { "recency_days": 3 }, "customer_id": customer });
        let (_, score) = app.post("/v1/score", body.to_string()).await;
        assert_eq!(score["model_id"], json!(answered[customer]));
        assert_eq!(
            app.get(&format!("/v1/customers/{customer}")).await.1["model_id"],
            score["model_id"]
        );
    }
    let rows = json!({ "rows": [{ "recency_days": 3 }], "customer_id": "c0001" });
    assert_eq!(app.post("/v1/score", rows.to_string()).await.0, 422);
    let (_, live) = app.get("/v1/segments").await;
    let count = |body: &Value| -> i64 {
        body["segments"].as_array().unwrap().iter().map(|s| s["customers"].as_i64().unwrap()).sum()
    };
    let inside = i64::try_from(within.len()).unwrap();
    assert_eq!((count(&live["canary"]), count(&live)), (inside, 150 - inside));
    // A segment of both models has its persona in both.
    let segment = live["segments"][0]["segment_id"].clone();
    let path = format!("/v1/segments/{}", segment.as_str().unwrap());
    let change = json!({ "name": "Families", "reason": "test" });
    assert_eq!(app.patch(&path, change.to_string()).await.0, 200);
    let (_, named) = app.get("/v1/segments").await;
    for body in [&named, &named["canary"]] {
        let mut segments = body["segments"].as_array().unwrap().iter();
        let found = segments.find(|one| one["segment_id"] == segment).unwrap();
        let names = [&found["name"], &found["persona"]["name"]];
        assert_eq!(names, [&json!("Families"); 2], "{body}");
    }
    let one = *within.first().unwrap();
    let (_, history) = app.get(&format!("/v1/customers/{one}/history")).await;
    assert_eq!(history["changes"][0]["model_id"], json!(canary));
    let (_, feed) = app.get("/v1/changes?limit=1000&moves_only=false").await;
    let changes = feed["changes"].as_array().unwrap();
    let to_canary = changes.iter().filter(|change| change["model_id"] == json!(canary));
    assert_eq!(to_canary.count(), within.len());

    // A larger canary keeps its customers; a second canary is refused.
    let [one, two, three] = ids(&app, &active).await;
    let other = renamed(&app, &active, &[&three, &two, &one], &json!({})).await;
    assert_eq!(move_model(&app, &other, "canary", json!({})).await.0, 409);
    assert_eq!(move_model(&app, &canary, "canary", json!({ "share": 0.6 })).await.0, 200);
    let larger = models_of(&app).await;
    assert!(within.iter().all(|customer| larger[*customer] == canary));
    assert!(larger.values().filter(|model| **model == canary).count() > within.len());

    // The canary is ended, started again, promoted, rolled back.
    let (_, live) = move_model(&app, &canary, "retire", json!({ "reason": "enough" })).await;
    assert_eq!(live["canary"], Value::Null);
    assert!(models_of(&app).await.values().all(|model| *model == active));
    assert_eq!(move_model(&app, &canary, "canary", json!({ "share": 0.3 })).await.0, 200);
    assert_eq!(models_of(&app).await, answered);
    let (_, live) = move_model(&app, &canary, "promote", json!({})).await;
    assert_eq!(
        (&live["active_model_id"], &live["previous_model_id"]),
        (&json!(canary), &json!(active))
    );
    assert!(models_of(&app).await.values().all(|model| *model == canary));
    assert_eq!(described(&app, &active).await["stage"], "retired");
    assert_eq!(app.post("/v1/deployment/rollback", "").await.1["active_model_id"], json!(active));
    assert!(models_of(&app).await.values().all(|model| *model == active));
    app.stop().await;
}
