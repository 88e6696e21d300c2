//! `/v1/experiments…`, and experiments in answers about customers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::alerting::BY_HAND;
use crate::support::{TestApp, features_with_outcomes, ndjson};

pub(super) const CUSTOMERS: u32 = 400;

fn definition() -> Value {
    json!({
        "variations": [{ "key": "control", "weight": 0.5 }, { "key": "mail", "weight": 0.5 }],
        "holdout": { "hash_seed": "holdout", "share": 0.1 },
        "target": { "audience": "recent" },
        "metrics": [
            { "name": "orders", "kind": "proportion", "event": "Order Completed" },
            { "name": "spend", "kind": "mean", "event": "Order Completed",
              "property": "sales_value" },
            { "name": "value of an order", "kind": "ratio", "event": "Order Completed",
              "property": "sales_value", "denominator_event": "Order Completed" },
        ],
        "outcome_days": 7,
    })
}

async fn define(app: &TestApp, key: &str, status: &str, definition: &Value) -> (u16, Value) {
    let body = json!({ "status": status, "definition": definition, "reason": "tested" });
    app.put(&format!("/v1/experiments/{key}"), body.to_string()).await
}

fn order(customer: &str, message: &str, value: f64) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "customer_id": customer, "message_id": message,
        "properties": { "sales_value": value, "lines": 1 },
    })
}

fn viewed(customer: &str, experiment: &str, variation: &str) -> Value {
    json!({
        "type": "track", "name": "Experiment Viewed", "customer_id": customer,
        "message_id": format!("viewed-{experiment}-{variation}"),
        "properties": { "experiment_id": experiment, "variation_id": variation },
    })
}

async fn send(app: &TestApp, event: &Value) -> Value {
    let (status, answer) = app.post("/v1/events", event.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["outcomes"][0].clone()
}

/// A shop with an audience of recent customers, and a clock that the test controls.
async fn shop() -> (TestApp, Arc<AtomicI64>) {
    let (clock, now) = TimeSource::manual(Timestamp::from_millis(19_700 * MILLIS_PER_DAY));
    let app = TestApp::start_at(clock, &BY_HAND).await;
    let rule = json!({ "expression": "features.recency_days < 5 days", "reason": "tested" });
    assert_eq!(app.put("/v1/audiences/recent", rule.to_string()).await.0, 201);
    (app, now)
}

/// Exposed customers of all variations.
fn customers(results: &Value) -> u64 {
    let variations = results["variations"].as_array().unwrap().iter();
    variations.map(|one| one["customers"].as_u64().unwrap()).sum()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.iter().map(|_| 1.0).sum::<f64>()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_from_its_start_to_its_results() {
    let (app, now) = shop().await;
    let (status, made) = define(&app, "spring", "running", &definition()).await;
    assert_eq!((status, &made["status"]), (201, &json!("running")), "{made}");
    assert_eq!(made["definition"]["pre_exposure_days"], 30, "{made}");

    // Each customer of the audience is answered with its variation, the same in every answer.
    let mut variation_of = BTreeMap::new();
    for number in 0..CUSTOMERS {
        let customer = format!("c{number}");
        let answer = send(&app, &order(&customer, "first", 10.0 + f64::from(number % 7))).await;
        let experiments = answer["experiments"].as_array().unwrap();
        let Some(one) = experiments.first() else { panic!("in the audience: {answer}") };
        assert_eq!((experiments.len(), &one["exposed"]), (1, &json!(false)), "{answer}");
        assert_eq!(one["holdout"], json!(one["variation"].is_null()), "{answer}");
        assert_eq!(one["control"], json!(one["variation"] == "control"), "{answer}");
        if let Some(variation) = one["variation"].as_str() {
            variation_of.insert(customer, variation.to_owned());
        }
    }
    let held_out = CUSTOMERS as usize - variation_of.len();
    assert!((20..=65).contains(&held_out), "{held_out} of {CUSTOMERS} in the holdout");
    let (customer, variation) = variation_of.first_key_value().unwrap();
    let row = json!({ "features": { "recency_days": 1 }, "customer_id": customer });
    let (_, score) = app.post("/v1/score", row.to_string()).await;
    assert_eq!(score["experiments"][0]["variation"], json!(variation), "{score}");
    let row = json!({ "features": { "recency_days": 9 }, "customer_id": customer });
    assert_eq!(app.post("/v1/score", row.to_string()).await.1["experiments"], json!([]));

    // Exposures, reported again and again. The orders so far were before them.
    now.fetch_add(MILLIS_PER_DAY / 24, Ordering::Relaxed);
    for (customer, variation) in &variation_of {
        let answer = send(&app, &viewed(customer, "spring", variation)).await;
        assert_eq!(answer["experiments"][0]["exposed"], true, "{answer}");
        assert!(answer["warnings"].is_null(), "an exposure is not unused: {answer}");
    }
    let again: Vec<Value> =
        variation_of.iter().map(|(customer, seen)| viewed(customer, "spring", seen)).collect();
    assert_eq!(app.post("/v1/events/bulk", ndjson(&again)).await.0, 200);
    let first = app.metric("segmentd_experiment_exposures_total{outcome=\"first\"}").await;
    assert_eq!(first, variation_of.len() as u64);

    // Outcomes: orders of half the customers, larger with the mail, and one that comes too late.
    now.fetch_add(MILLIS_PER_DAY, Ordering::Relaxed);
    let (mut outcomes, mut spend) = (Vec::new(), BTreeMap::<&str, Vec<f64>>::new());
    for (index, (customer, variation)) in (0_u32..).zip(&variation_of) {
        let base = if variation == "mail" { 30.0 } else { 20.0 };
        let value = if index % 4 == 0 { 0.0 } else { base + f64::from(index % 9) };
        if value > 0.0 {
            outcomes.push(order(customer, "second", value));
        }
        spend.entry(variation).or_default().push(value);
    }
    assert_eq!(app.post("/v1/events/bulk", ndjson(&outcomes)).await.0, 200);
    let (_, early) = app.get("/v1/experiments/spring/results").await;
    assert_eq!(early["checks"]["incomplete"], json!(variation_of.len()), "{early}");
    now.fetch_add(10 * MILLIS_PER_DAY, Ordering::Relaxed);
    send(&app, &order(customer, "too-late", 1e6)).await;

    let (status, results) =
        app.get("/v1/experiments/spring/results?with_segmentation_worth=true").await;
    assert_eq!(status, 200, "{results}");
    assert_eq!(results["withheld"], Value::Null, "{results}");
    let ratio = &results["sample_ratio"];
    assert_eq!(ratio["verdict"], "as_planned", "{results}");
    let checks = results["checks"].as_object().unwrap();
    assert!(checks.values().all(|count| count == 0), "{results}");
    let effect = &results["metrics"][1]["effects"][0];
    let (control, mail) = (mean(&spend["control"]), mean(&spend["mail"]));
    let close = |value: &Value, right: f64| (value.as_f64().unwrap() - right).abs() < 1e-9;
    assert!(close(&effect["control_mean"], control), "{control} {effect}");
    assert!(close(&effect["treatment_mean"], mail), "{mail} {effect}");
    assert!(close(&effect["difference"]["value"], mail - control), "{effect}");
    let conclusion = effect["conclusion"].as_str().unwrap();
    assert!(conclusion.starts_with("`mail` raises spend:"), "{effect}");
    assert!(effect["adjusted_p_value"].as_f64().unwrap() < 0.001, "{effect}");
    assert!(effect["cuped"]["variance_reduction"].is_number(), "{effect}");
    let ratio = &results["metrics"][2]["effects"][0];
    let placed: Vec<f64> = spend["mail"].iter().copied().filter(|value| *value > 0.0).collect();
    assert!(close(&ratio["treatment_mean"], mean(&placed)), "{ratio}");
    let (status, svg) = app.get("/v1/experiments/spring/picture.svg?metric=spend").await;
    assert_eq!(status, 200);
    assert!(svg.as_str().unwrap().contains("mail: all customers"), "{svg}");

    // The target is frozen at the exposure: the customer has left the audience.
    let other = variation_of.keys().nth(1).unwrap();
    let (_, left) = app.get(&format!("/v1/customers/{other}")).await;
    assert_eq!(left["experiments"][0]["variation"], json!(variation_of[other]), "{left}");
    let fresh = json!({ "type": "identify", "customer_id": "nobody", "traits": {} });
    assert_eq!(send(&app, &fresh).await["experiments"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatched_sample_ratio_withholds_the_results() {
    let (app, now) = shop().await;
    let everybody = {
        let mut all = definition();
        all["target"] = json!({});
        all["holdout"] = Value::Null;
        all
    };
    assert_eq!(define(&app, "lost", "running", &everybody).await.0, 201);
    assert_eq!(define(&app, "other", "running", &everybody).await.0, 201);
    let (mut exposed, mut lost) = (0, 0);
    for number in 0..200 {
        let customer = format!("c{number}");
        let answer = send(&app, &order(&customer, "first", 5.0)).await;
        let variation = answer["experiments"][0]["variation"].as_str().unwrap();
        // Half the exposures to the mail are lost.
        if variation == "mail" && number % 2 == 0 {
            lost += 1;
            continue;
        }
        exposed += 1;
        send(&app, &viewed(&customer, "lost", variation)).await;
        if number < 10 {
            send(&app, &viewed(&customer, "other", "control")).await;
        }
    }
    assert!(lost > 20, "{lost}");
    let exposed_at = Timestamp::from_millis(now.load(Ordering::Relaxed)).to_string();
    now.fetch_add(8 * MILLIS_PER_DAY, Ordering::Relaxed);
    let (_, withheld) = app.get("/v1/experiments/lost/results").await;
    assert_eq!(withheld["sample_ratio"]["verdict"], "mismatched", "{withheld}");
    assert_eq!(withheld["metrics"], json!([]), "{withheld}");
    let shared = withheld["confounders"][0].as_str().unwrap();
    assert!(shared.contains("were also exposed to the experiment `other`"), "{withheld}");
    assert_eq!(app.get("/v1/experiments/lost/picture.svg").await.0, 409);

    let explained = json!({
        "status": "stopped", "definition": everybody, "reason": "tested",
        "mismatch_override": "The mails of one server were lost",
    });
    assert_eq!(app.put("/v1/experiments/lost", explained.to_string()).await.0, 200);
    let (_, shown) = app.get("/v1/experiments/lost/results").await;
    assert_eq!(shown["metrics"].as_array().unwrap().len(), 3, "{shown}");
    assert_eq!(customers(&shown), exposed, "{shown}");
    assert_eq!(shown["mismatch_override"], "The mails of one server were lost", "{shown}");
    // A stopped experiment counts no exposure.
    now.fetch_add(1, Ordering::Relaxed);
    let late = send(&app, &viewed("c0", "lost", "mail")).await;
    assert!(late["warnings"][0].to_string().contains("`lost` did not run at"), "{late}");
    // One that was late on its way counts.
    let mut delayed = viewed("c-delayed", "lost", "mail");
    delayed["timestamp"] = json!(exposed_at);
    assert!(send(&app, &delayed).await["warnings"].is_null());
    let (_, shown) = app.get("/v1/experiments/lost/results").await;
    assert_eq!(customers(&shown), exposed + 1, "{shown}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_keeps_the_variation_that_the_visitor_saw() {
    let (app, _) = shop().await;
    let mut all = definition();
    all["target"] = json!({});
    all["holdout"] = Value::Null;
    assert_eq!(define(&app, "menu", "running", &all).await.0, 201);
    // The hash gives this visitor and this customer different variations.
    let visit = json!({ "type": "page", "name": "Home", "anonymous_id": "visitor-1" });
    let seen = send(&app, &visit).await["experiments"][0]["variation"].clone();
    let mut customer = None;
    for number in 0..50 {
        let id = format!("c{number}");
        let event = json!({ "type": "identify", "customer_id": id, "traits": {} });
        if send(&app, &event).await["experiments"][0]["variation"] != seen {
            customer = Some(id);
            break;
        }
    }
    let customer = customer.unwrap();
    let exposure = json!({
        "type": "track", "name": "Experiment Viewed", "anonymous_id": "visitor-1",
        "properties": { "experiment_id": "menu", "variation_id": seen },
    });
    send(&app, &exposure).await;
    let login = json!({
        "type": "identify", "customer_id": customer, "anonymous_id": "visitor-1", "traits": {},
    });
    let answer = send(&app, &login).await;
    assert_eq!(answer["customer_id"], json!(customer), "{answer}");
    assert_eq!(answer["experiments"][0]["variation"], seen, "{answer}");
    let (_, results) = app.get("/v1/experiments/menu/results").await;
    let customers: Vec<&Value> =
        results["variations"].as_array().unwrap().iter().map(|one| &one["customers"]).collect();
    assert!(customers.contains(&&json!(1)) && customers.contains(&&json!(0)), "{results}");
    app.stop().await;
}

/// Customers whose numbers are even buy often, the others seldom; each has its segment.
pub(super) async fn two_kinds_of_customers(app: &TestApp, today: i64) -> [String; 2] {
    let mut orders = Vec::new();
    for number in 0..CUSTOMERS {
        let (count, value) = if number % 2 == 0 { (12, 80.0) } else { (1, 10.0) };
        for place in 0..count {
            let mut event = order(
                &format!("c{number}"),
                &format!("before-{place}"),
                value + f64::from((number + place) % 11),
            );
            let at = today - i64::from(1 + 7 * place + number % 5) * MILLIS_PER_DAY;
            event["timestamp"] = json!(Timestamp::from_millis(at).to_string());
            orders.push(event);
        }
    }
    assert_eq!(app.post("/v1/events/bulk", ndjson(&orders)).await.0, 200);
    app.train_with(r#"{"segments": 2, "algorithms": ["kmeans"], "starts": 2}"#).await;
    let mut segments = Vec::new();
    for customer in ["c0", "c1"] {
        let (_, found) = app.get(&format!("/v1/customers/{customer}")).await;
        segments.push(found["segment_id"].as_str().unwrap().to_owned());
    }
    assert_ne!(segments[0], segments[1]);
    segments.try_into().unwrap()
}

/// `coupon` is the only experiment.
async fn faulty_strategies_are_refused(app: &TestApp, path: &str) {
    let twice = json!({
        "strategy": { "experiments": ["coupon", "coupon", "menu"] }, "colour": "red",
        "reason": "tested",
    });
    let (status, refused) = app.patch(path, twice.to_string()).await;
    let faults: Vec<&Value> =
        refused["errors"].as_array().unwrap().iter().map(|fault| &fault["field"]).collect();
    assert_eq!(
        (status, &faults[..]),
        (
            422,
            &[
                &json!("colour"),
                &json!("strategy.experiments[1]"),
                &json!("strategy.experiments[2]")
            ][..]
        )
    );
}

/// The mail costs 2 for each customer. It raises the spend of frequent buyers by 20, and that of
/// others not at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_persona_has_what_its_strategy_achieved_net_of_costs() {
    let today = 19_700 * MILLIS_PER_DAY;
    let (clock, now) = TimeSource::manual(Timestamp::from_millis(today));
    let features = features_with_outcomes();
    let file = [("features.file", features.path().to_str().unwrap())];
    let app = TestApp::start_at(clock, &[&BY_HAND[..], &file].concat()).await;
    let [frequent, seldom] = two_kinds_of_customers(&app, today).await;

    let net = json!({
        "variations": [{ "key": "control", "weight": 0.5 }, { "key": "mail", "weight": 0.5 }],
        "metrics": [{
            "name": "net spend", "kind": "mean", "event": "Order Completed",
            "property": "sales_value", "minus_event": "Campaign Sent", "minus_property": "cost",
        }],
        "outcome_days": 7,
    });
    let path = format!("/v1/segments/{frequent}");
    let strategy = |experiment: &str| {
        json!({ "strategy": { "experiments": [experiment] }, "reason": "tested" }).to_string()
    };
    let (status, refused) = app.patch(&path, strategy("coupon")).await;
    assert_eq!(status, 422, "{refused}");
    assert_eq!(refused["errors"][0]["field"], "strategy.experiments[0]", "{refused}");
    let (status, made) = define(&app, "coupon", "draft", &net).await;
    assert_eq!(
        (status, &made["definition"]["metrics"]),
        (
            201,
            &json!([{
                "name": "net spend", "kind": "mean", "event": "Order Completed",
                "property": "sales_value", "denominator_event": null, "denominator_property": null,
                "minus_event": "Campaign Sent", "minus_property": "cost", "cap_quantile": null,
            }])
        )
    );
    for segment in [&frequent, &seldom] {
        let path = format!("/v1/segments/{segment}");
        let (status, described) = app.patch(&path, strategy("coupon")).await;
        assert_eq!(status, 200, "{described}");
        assert_eq!(described["persona"]["strategy"]["experiments"], json!(["coupon"]));
    }
    faulty_strategies_are_refused(&app, &path).await;
    let (_, waiting) = app.get(&format!("{path}/effects")).await;
    let experiment = &waiting["experiments"][0];
    assert_eq!(experiment["status"], "draft", "{waiting}");
    assert_eq!(experiment["withheld"], "the experiment has not started", "{waiting}");

    assert_eq!(define(&app, "coupon", "running", &net).await.0, 200);
    let mut mailed = Vec::new();
    for number in 0..CUSTOMERS {
        let customer = format!("c{number}");
        let hello = json!({ "type": "identify", "customer_id": customer, "traits": {} });
        let answer = send(&app, &hello).await;
        let variation = answer["experiments"][0]["variation"].as_str().unwrap();
        send(&app, &viewed(&customer, "coupon", variation)).await;
        mailed.push(variation == "mail");
    }
    now.fetch_add(MILLIS_PER_DAY, Ordering::Relaxed);
    let (mut events, mut net_of_mailed) = (Vec::new(), Vec::new());
    for (number, mailed) in (0..CUSTOMERS).zip(&mailed) {
        let customer = format!("c{number}");
        let answers = if *mailed && number % 2 == 0 { 20.0 } else { 0.0 };
        let value = 30.0 + f64::from(number % 9) + answers;
        events.push(order(&customer, "after", value));
        if *mailed {
            events.push(json!({
                "type": "track", "name": "Campaign Sent", "customer_id": customer,
                "message_id": "mail", "properties": { "cost": 2 },
            }));
            net_of_mailed.push(value - 2.0);
        }
    }
    assert_eq!(app.post("/v1/events/bulk", ndjson(&events)).await.0, 200);
    now.fetch_add(10 * MILLIS_PER_DAY, Ordering::Relaxed);
    let (_, results) = app.get("/v1/experiments/coupon/results").await;
    let found = results["metrics"][0]["effects"][0]["treatment_mean"].as_f64().unwrap();
    assert!((found - mean(&net_of_mailed)).abs() < 1e-9, "{results}");

    for (segment, verb, about) in [(&frequent, "raises", 18.0), (&seldom, "lowers", -2.0)] {
        let (status, achieved) = app.get(&format!("/v1/segments/{segment}/effects")).await;
        assert_eq!(status, 200, "{achieved}");
        assert_eq!(achieved["segment"]["segment_id"], json!(segment));
        let [effect] = &achieved["experiments"][0]["effects"].as_array().unwrap()[..] else {
            panic!("{achieved}")
        };
        let difference = effect["effect"]["difference"]["value"].as_f64().unwrap();
        assert!((difference - about).abs() < 1.5, "{effect}");
        let sentence = effect["conclusion"].as_str().unwrap();
        assert!(sentence.starts_with("In this segment, `mail` "), "{sentence}");
        assert!(sentence.contains(verb) && !sentence.contains("by -"), "{sentence}");
    }
    assert_eq!(app.get("/v1/segments/seg_0/effects").await.0, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_with_faults_names_each_of_them() {
    let (app, _) = shop().await;
    let faulty = json!({
        "variations": [{ "key": "control", "weight": 0.5 }, { "key": "control", "weight": 0.3 }],
        "coverage": 1.5,
        "target": { "audience": "nobody", "segments": ["seg_0"] },
        "metrics": [
            { "name": "a", "kind": "ratio", "event": "Order Completed", "property": "weather" },
            { "name": "a", "kind": "mean", "event": "Never Seen", "cap_quantile": 0.2 },
            { "name": "b", "kind": "proportion", "event": "Order Completed",
              "minus_event": "Order Completed" },
            { "name": "c", "kind": "mean", "event": "Order Completed", "property": "sales_value",
              "minus_event": "Order Completed" },
            { "name": "d", "kind": "mean", "event": "Order Completed", "minus_property": "lines" },
        ],
        "outcome_days": 0,
    });
    let (status, refused) = define(&app, "spring", "draft", &faulty).await;
    assert_eq!(status, 422, "{refused}");
    let paths: Vec<&str> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["field"].as_str().unwrap())
        .collect();
    for path in [
        "definition.variations",
        "definition.variations[1].key",
        "definition.coverage",
        "definition.target.audience",
        "definition.target.segments[0]",
        "definition.metrics[0].denominator_event",
        "definition.metrics[0].property",
        "definition.metrics[1].name",
        "definition.metrics[1].event",
        "definition.metrics[1].cap_quantile",
        "definition.metrics[2].minus_event",
        "definition.metrics[3].minus_property",
        "definition.metrics[4].minus_event",
        "definition.metrics[4].minus_property",
        "definition.outcome_days",
    ] {
        assert!(paths.contains(&path), "{path}: {refused}");
    }
    let text = refused.to_string();
    assert!(text.contains("stored numbers are") && text.contains("sales_value"), "{text}");

    // A draft changes freely, a running experiment does not.
    let mut sound = definition();
    assert_eq!(define(&app, "spring", "draft", &sound).await.0, 201);
    assert_eq!(app.get("/v1/experiments/spring/results").await.0, 409);
    let early = json!({
        "status": "draft", "definition": sound, "reason": "tested", "mismatch_override": "known",
    });
    let (status, refused) = app.put("/v1/experiments/spring", early.to_string()).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("mismatch_override")));
    sound["variations"][1]["key"] = json!("letter");
    assert_eq!(define(&app, "spring", "running", &sound).await.0, 200);
    assert_eq!(app.delete("/v1/audiences/recent").await.0, 409);
    sound["variations"][1]["key"] = json!("mail");
    let (status, refused) = define(&app, "spring", "running", &sound).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("`variations` cannot change"));
    let (_, history) = app.get("/v1/experiments/spring/history").await;
    assert_eq!(history["versions"].as_array().unwrap().len(), 2, "{history}");
    let (_, list) = app.get("/v1/experiments").await;
    assert_eq!(list["experiments"][0]["status"], "running", "{list}");

    let question = json!({ "baseline": 0.1, "lift": 0.1, "daily_customers": 2000 });
    let (_, plan) = app.post("/v1/experiment-plan", question.to_string()).await;
    assert_eq!((&plan["control_customers"], &plan["days"]), (&json!(14_751), &json!(15)), "{plan}");
    let question = json!({ "baseline": 12, "lift": 0.1, "power": 2 });
    let (status, refused) = app.post("/v1/experiment-plan", question.to_string()).await;
    assert_eq!((status, refused["errors"].as_array().unwrap().len()), (422, 2), "{refused}");
    app.stop().await;
}
