//! A canary answers some customers in the place of the live model, the same ones
//! everywhere; and no answer fails or mixes two while models come and go.

use std::collections::{BTreeMap, BTreeSet};

use segmentd::domain::deployment::lifecycle::is_in_canary;
use segmentd::domain::id::{CustomerKey, ModelId};
use segmentd::service::clock::Clock;
use serde_json::{Value, json};

use crate::life::{exchanged, ids, models_of, one_more, renamed, step, told, with_model};

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_answers_the_same_customers_everywhere() {
    let (app, active) = with_model(Clock::System, &[]).await;
    let canary = exchanged(&app, &active).await;
    let id: ModelId = canary.parse().unwrap();
    let (status, live) = step(&app, &canary, "canary", json!({ "share": 0.3 })).await;
    assert_eq!((status, &live["active_model"]), (200, &json!(active)), "{live}");
    assert_eq!((&live["canary"]["model"], &live["canary"]["share"]), (&json!(canary), &json!(0.3)));
    let answered = models_of(&app).await;
    let within: BTreeSet<&String> = answered
        .iter()
        .filter(|(_, model)| **model == canary)
        .map(|(customer, _)| customer)
        .collect();
    // 150 of 0.3: 45, and four standard deviations are 22.4.
    assert!((23..=67).contains(&within.len()), "{}", within.len());
    for (customer, model) in &answered {
        let key = CustomerKey::try_from(customer.clone()).unwrap();
        assert_eq!(is_in_canary(&id, 0.3, &key), *model == canary);
        assert!([&active, &canary].contains(&model));
    }

    // Sticky, whoever asks: events, the stored row, a row of features.
    for event in one_more(2) {
        let customer = event["customer_id"].as_str().unwrap();
        let (_, answer) = app.post("/v1/events", event.to_string()).await;
        assert_eq!(answer["outcomes"][0]["score"]["model"], json!(answered[customer]), "{answer}");
        let body = json!({ "features": { "recency_days": 3 }, "customer_id": customer });
        let (_, score) = app.post("/v1/score", body.to_string()).await;
        assert_eq!(score["model"], json!(answered[customer]));
        assert_eq!(app.get(&format!("/v1/customers/{customer}")).await.1["model"], score["model"]);
    }
    let rows = json!({ "rows": [{ "recency_days": 3 }], "customer_id": "c0001" });
    assert_eq!(app.post("/v1/score", rows.to_string()).await.0, 422);
    let (_, live) = app.get("/v1/segments").await;
    let count = |body: &Value| -> i64 {
        body["segments"].as_array().unwrap().iter().map(|s| s["customers"].as_i64().unwrap()).sum()
    };
    let inside = i64::try_from(within.len()).unwrap();
    assert_eq!((count(&live["canary"]), count(&live)), (inside, 150 - inside));
    let one = *within.first().unwrap();
    let (_, history) = app.get(&format!("/v1/customers/{one}/history")).await;
    assert_eq!(history["changes"][0]["model"], json!(canary));
    let (_, feed) = app.get("/v1/changes?limit=1000").await;
    let changes = feed["changes"].as_array().unwrap();
    let to_canary = changes.iter().filter(|change| change["model"] == json!(canary));
    assert_eq!(to_canary.count(), within.len());

    // It grows, and keeps whom it has; a second one has no place beside it.
    let [one, two, three] = ids(&app, &active).await;
    let other = renamed(&app, &active, &[&three, &two, &one], &json!({})).await;
    assert_eq!(step(&app, &other, "canary", json!({})).await.0, 409);
    assert_eq!(step(&app, &canary, "canary", json!({ "share": 0.6 })).await.0, 200);
    let larger = models_of(&app).await;
    assert!(within.iter().all(|customer| larger[*customer] == canary));
    assert!(larger.values().filter(|model| **model == canary).count() > within.len());

    // Ended, begun again, promoted, rolled back.
    let (_, live) = step(&app, &canary, "retire", json!({ "reason": "enough" })).await;
    assert_eq!(live["canary"], Value::Null);
    assert!(models_of(&app).await.values().all(|model| *model == active));
    assert_eq!(step(&app, &canary, "canary", json!({ "share": 0.3 })).await.0, 200);
    assert_eq!(models_of(&app).await, answered);
    let (_, live) = step(&app, &canary, "promote", json!({})).await;
    assert_eq!((&live["active_model"], &live["previous_model"]), (&json!(canary), &json!(active)));
    assert!(models_of(&app).await.values().all(|model| *model == canary));
    assert_eq!(told(&app, &active).await["stage"], "retired");
    assert_eq!(app.post("/v1/models/rollback", "").await.1["active_model"], json!(active));
    assert!(models_of(&app).await.values().all(|model| *model == active));
    app.stop().await;
}

/// Canaries begin and end, models change places; no answer fails or mixes two.
#[tokio::test(flavor = "multi_thread")]
async fn a_life_under_load_never_fails_or_mixes_an_answer() {
    let (app, three) = with_model(Clock::System, &[]).await;
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let two = crate::main_job::wait(&app, &run).await["model"].as_str().unwrap().to_owned();
    let row = json!({ "recency_days": 3, "orders_365d": 4, "spend_365d": 80 });
    let mut expected = BTreeMap::new();
    for model in [&three, &two] {
        assert_eq!(step(&app, model, "promote", json!({})).await.0, 200);
        let (_, mut answer) = app.post("/v1/score", json!({ "features": row }).to_string()).await;
        assert_eq!(answer["model"], json!(model));
        answer["generation"] = Value::Null;
        expected.insert(model.clone(), answer);
    }
    let life = async {
        for _ in 0..6 {
            for (model, to, body) in [
                (&three, "canary", json!({ "share": 0.5 })),
                (&three, "promote", json!({})),
                (&two, "shadow", json!({})),
                (&two, "canary", json!({ "share": 0.2 })),
                (&two, "retire", json!({})),
                (&two, "promote", json!({})),
            ] {
                let (status, answer) = step(&app, model, to, body).await;
                assert_eq!(status, 200, "{to}: {answer}");
            }
        }
    };
    let scores = async {
        for number in 0..300 {
            let body = json!({ "features": row, "customer_id": format!("c{number}") });
            let (status, mut answer) = app.post("/v1/score", body.to_string()).await;
            assert_eq!(status, 200, "{answer}");
            answer["generation"] = Value::Null;
            assert_eq!(&answer, &expected[answer["model"].as_str().unwrap()]);
        }
    };
    let events = async {
        for round in 0..3 {
            for event in one_more(10 + round) {
                let (status, answer) = app.post("/v1/events", event.to_string()).await;
                assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
                let score = &answer["outcomes"][0]["score"];
                let model = score["model"].as_str().unwrap();
                assert!(model != two || score["segment"] != "s3", "{answer}");
            }
        }
    };
    tokio::join!(life, scores, events);
    assert!(models_of(&app).await.values().all(|model| *model == two));
    app.stop().await;
}
