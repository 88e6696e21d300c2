//! Alerts as people meet them: raised, told to whom they concern, acknowledged,
//! silenced, over. The clock is the test's.

use std::sync::Arc;

use segmentd::config::{CheckSources, Config, Environment};
use segmentd::domain::access::Scope;
use segmentd::domain::drift::Severity;
use segmentd::domain::time::Timestamp;
use segmentd::outbound::Sender;
use segmentd::service::alerts::{Alerts, Found};
use segmentd::service::api_keys;
use segmentd::service::drift::monitor::Watcher;
use segmentd::store::alerting::alarms;
use segmentd::store::alerting::alarms::Job;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::hook::Hook;
use crate::support::house::{BY_HAND, House, a_moment, found, hears};
use crate::support::{eventually, ndjson, orders};

const CUSTOMERS: usize = 400;
/// One more hour, in which these rows are scored; then the check.
async fn an_hour(house: &House, watcher: &Watcher, rows: &[Value]) {
    house.pass(3600);
    let body = json!({ "rows": rows }).to_string();
    assert_eq!(house.app.post("/v1/score", body).await.0, 200);
    house.app.app.drift.flush().await.unwrap();
    // Two replicas look at once: it counts once.
    let both = tokio::join!(watcher.run(), watcher.run());
    both.0.unwrap();
    both.1.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_told_to_its_owner_once_and_again_when_it_is_over() {
    let house = House::start().await;
    let app = &house.app;
    let (finance, other, pager) = tokio::join!(Hook::start(), Hook::start(), Hook::start());
    house.channel("finance", &finance, json!({ "owners": ["finance@example.com"] })).await;
    house.channel("other", &other, json!({ "owners": ["other@example.com"] })).await;
    let route = json!({ "topics": ["drift"], "least_severity": "critical", "after_seconds": 5400 });
    house.channel("pager", &pager, route).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        rows.push(body["features"].clone());
    }
    let mut shifted = rows.clone();
    for row in &mut shifted {
        row["spend_365d"] = json!(row["spend_365d"].as_f64().unwrap() * 3.0);
    }
    let (alerts, drift) = (Arc::clone(house.alerts()), Arc::clone(&app.app.drift));
    let watcher = Watcher { alerts, drift, live: Arc::clone(&app.app.live) };

    // Fine; then one finding, which may be chance; then another.
    an_hour(&house, &watcher, &rows).await;
    an_hour(&house, &watcher, &shifted).await;
    let first = house.now();
    assert_eq!(app.get("/v1/alerts?state=all").await.1["alerts"], json!([]));
    an_hour(&house, &watcher, &shifted).await;
    let key = "drift:values:spend_365d:rows";
    let fired = format!("drift.firing of {key}");
    hears(&finance, &[&fired]).await;
    let told = finance.taken()[0].clone();
    assert_eq!(told.field("owner"), "finance@example.com");
    assert_eq!(told.field("severity"), "critical");
    assert!(told.field("what").starts_with("Spend, 365 days has risen: values moved by at least"));
    assert!(told.field("what").contains("USD"), "{}", told.body);
    assert!(told.field("advice").starts_with("finance@example.com: check"));
    assert!(told.body["data"]["bars"].as_array().unwrap().len() > 3, "{}", told.body);
    let facts = told.body["data"]["facts"].as_array().unwrap();
    let fact = |name: &str| {
        facts.iter().find(|fact| fact["name"] == name).unwrap()["value"].as_str().unwrap()
    };
    assert!(fact("PSI").contains("by chance alone") && fact("p-value").starts_with("< "));
    assert!(fact("Moved by, on average").ends_with(" USD"));
    let hour = first.millis().div_euclid(3_600_000) * 3_600_000;
    assert_eq!(fact("Found since"), Timestamp::from_millis(hour).to_string());
    let alert = house.firing(key).await.unwrap();
    let id = alert["alert"].as_str().unwrap();
    assert_eq!(told.field("link"), format!("https://segmentd.example.com/v1/alerts/{id}"));
    let (status, svg) = app.get(alert["picture"].as_str().unwrap()).await;
    assert!(status == 200 && svg.as_str().unwrap().contains("Spend, 365 days"));
    let (_, listed) = app.get("/v1/alerts?owner=finance@example.com&topic=drift").await;
    assert_eq!(listed["alerts"].as_array().unwrap().len(), 1, "{listed}");

    // It stays, and nobody hears of it again; but nobody has acknowledged it.
    an_hour(&house, &watcher, &shifted).await;
    house.alerts().sweep().await.unwrap();
    a_moment().await;
    assert_eq!(pager.says(), [""; 0]);
    an_hour(&house, &watcher, &shifted).await;
    house.alerts().sweep().await.unwrap();
    eventually("the pager is told", async || pager.says().contains(&fired)).await;
    let metrics = app.admin("/metrics").await.1;
    let line = "segmentd_alerts_firing{severity=\"critical\",topic=\"drift\"} ";
    assert!(metrics.lines().any(|l| l.starts_with(line) && !l.ends_with(" 0")), "{metrics}");

    // Over, after three checks without it.
    for _ in 0..3 {
        assert_eq!(finance.says().len(), 1);
        an_hour(&house, &watcher, &rows).await;
    }
    let over = format!("drift.resolved of {key}");
    hears(&finance, &[&fired, &over]).await;
    assert_eq!(finance.taken()[1].field("alert_id"), id);
    eventually("the pager hears of the end", async || pager.says().contains(&over)).await;
    assert_eq!(other.says(), [""; 0]);
    let (_, shown) = app.get(&format!("/v1/alerts/{id}")).await;
    assert_eq!(shown["state"], "resolved");
    assert_eq!(shown["resolved_why"], "it was not found in the last 3 checks");
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 4, "{shown}");

    // Back too soon: listed, and told to nobody; then another model goes live.
    an_hour(&house, &watcher, &shifted).await;
    an_hour(&house, &watcher, &shifted).await;
    let again = house.firing(key).await.unwrap();
    assert_eq!((&again["alert"], &again["untold"]), (&json!(id), &json!(true)));
    let model = app.train_with(r#"{"segments": 2, "starts": 3}"#).await["model"].clone();
    house.pass(3600);
    watcher.run().await.unwrap();
    let (_, shown) = app.get(&format!("/v1/alerts/{id}")).await;
    let live = format!("model {} became active", &model.as_str().unwrap()[..12]);
    assert_eq!(shown["resolved_why"], json!(live));
    assert_eq!(app.get("/v1/alerts").await.1["alerts"], json!([]));
    a_moment().await;
    assert_eq!(finance.says().len(), 2);
    house.app.stop().await;
}

/// Who is busy differs from everybody: told where it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn customers_with_new_events_are_checked_where_it_is_asked_for() {
    let house = House::start().await;
    let app = &house.app;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let watcher = |check_sources: CheckSources| {
        let theirs = house.alerts();
        let alerts = Alerts {
            db: app.db.clone(),
            clock: theirs.clock.clone(),
            settings: segmentd::config::Alerts { check_sources, ..theirs.settings.clone() },
            metrics: Arc::clone(&theirs.metrics),
            wake: Notify::new(),
        };
        let drift = Arc::clone(&app.app.drift);
        Watcher { alerts: Arc::new(alerts), drift, live: Arc::clone(&app.app.live) }
    };
    let busy = async |round: usize, watcher: &Watcher| {
        house.pass(3600);
        let mut events = orders(CUSTOMERS, 0);
        for (number, event) in events.iter_mut().enumerate() {
            event["message_id"] = json!(format!("busy-{round}-{number}"));
            event["timestamp"] = json!(house.now());
        }
        app.post("/v1/events/bulk", ndjson(&events)).await;
        app.app.drift.flush().await.unwrap();
        watcher.run().await.unwrap();
    };
    let (rows, both) = (watcher(CheckSources::Rows), watcher(CheckSources::Both));
    let key = "drift:values:orders_28d:events";
    for round in 0..3 {
        busy(round, &rows).await;
    }
    assert_eq!(app.get("/v1/alerts").await.1["alerts"], json!([]));
    for round in 3..5 {
        busy(round, &both).await;
    }
    let alert = house.firing(key).await.unwrap();
    assert_eq!(alert["subject"]["source"], "events");
    house.pass(3600);
    rows.run().await.unwrap();
    let (_, told) = app.get("/v1/alerts?state=all").await;
    let alerts = told["alerts"].as_array().unwrap();
    assert!(alerts.iter().all(|one| one["resolved_why"] == "it is no longer checked"), "{told}");
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_is_told_and_so_is_the_next_that_succeeds() {
    let house = House::start().await;
    let hook = Hook::start().await;
    house.channel("ops", &hook, json!({ "topics": ["training"] })).await;
    for what_if in [true, false, false] {
        let spec = json!({ "segments": 3, "what_if": what_if }).to_string();
        let (_, run) = house.app.post("/v1/training-runs", spec).await;
        let path = format!("/v1/training-runs/{}", run["run"].as_str().unwrap());
        eventually("it fails", async || house.app.get(&path).await.1["status"] == "failed").await;
    }
    hears(&hook, &["training.firing of training:request"]).await;
    house.app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    house.app.train().await;
    let both = ["training.firing of training:request", "training.resolved of training:request"];
    hears(&hook, &both).await;
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_looks_after_it_or_wants_no_word_of_it() {
    let house = House::start().await;
    let app = &house.app;
    let (desk, boss) = tokio::join!(Hook::start(), Hook::start());
    house.channel("desk", &desk, json!({})).await;
    house.channel("boss", &boss, json!({ "after_seconds": 600 })).await;
    let (orders, clicks) =
        (found("orders", Severity::Warning, None), found("clicks", Severity::Warning, None));

    // Once, however often it is found; acknowledged, it goes no further.
    house.raise(&orders).await;
    house.raise(&orders).await;
    house.raise(&clicks).await;
    hears(&desk, &["source.firing of orders", "source.firing of clicks"]).await;
    let id = house.firing("orders").await.unwrap()["alert"].as_str().unwrap().to_owned();
    let note = json!({ "note": "on it" }).to_string();
    let (status, told) = app.post(&format!("/v1/alerts/{id}/acknowledge"), note).await;
    assert_eq!((status, &told["acknowledged_note"]), (200, &json!("on it")), "{told}");
    assert!(told["acknowledged_by"].as_str().unwrap().starts_with("key "));
    house.pass(601);
    house.alerts().sweep().await.unwrap();
    house.alerts().sweep().await.unwrap();
    hears(&boss, &["source.firing of clicks"]).await;
    // Worse is told again, better is not.
    house.raise(&Found { severity: Severity::Critical, ..orders.clone() }).await;
    house.raise(&orders).await;
    house.resolve("orders").await;
    house.resolve("orders").await;
    let four = [
        "source.firing of orders",
        "source.firing of clicks",
        "source.firing of orders",
        "source.resolved of orders",
    ];
    hears(&desk, &four).await;
    assert_eq!(desk.taken()[2].field("severity"), "critical");
    let (status, _) = app.post(&format!("/v1/alerts/{id}/acknowledge"), "").await;
    assert_eq!(status, 409);
    assert_eq!(app.post("/v1/alerts/alert_0/acknowledge", "").await.0, 404);
    house.resolve("clicks").await;
    hears(&boss, &["source.firing of clicks", "source.resolved of clicks"]).await;

    // Silenced: recorded and not told; told when the silence ends, if it still fires.
    let before = desk.says().len();
    let until = house.now().plus_millis(3_600_000);
    let silence =
        json!({ "topic": "source", "key_prefix": "or", "until": until, "reason": "a move" });
    let (status, made) = app.post("/v1/silences", silence.to_string()).await;
    assert_eq!(status, 201, "{made}");
    for short in ["orders", "orders-2"] {
        house.raise(&found(short, Severity::Warning, None)).await;
    }
    house.resolve("orders-2").await;
    house.alerts().sweep().await.unwrap();
    a_moment().await;
    assert_eq!(desk.says().len(), before);
    assert!(house.firing("orders").await.is_some());
    let (_, listed) = app.get("/v1/silences").await;
    assert_eq!(listed["silences"].as_array().unwrap().len(), 1);
    let path = format!("/v1/silences/{}", made["silence"].as_str().unwrap());
    assert_eq!(app.delete(&path).await.0, 204);
    assert_eq!(app.delete(&path).await.0, 404);
    house.alerts().sweep().await.unwrap();
    eventually("it is told after all", async || desk.says().len() == before + 1).await;
    assert_eq!(desk.says()[before], "source.firing of orders");
    for wrong in [
        json!({ "until": until, "reason": " " }),
        json!({ "until": house.now(), "reason": "late" }),
        json!({ "until": until, "reason": "x", "matcher": 1 }),
    ] {
        assert_eq!(app.post("/v1/silences", wrong.to_string()).await.0, 422, "{wrong}");
    }
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_declared_tried_and_changed() {
    let house = House::start().await;
    let app = &house.app;
    let hook = Hook::start().await;
    let wish = json!({
        "name": "desk", "target": { "kind": "webhook", "url": hook.url }, "reason": "a start",
        "owners": ["a"], "topics": ["drift"], "least_severity": "warning",
    });
    let (status, made) = app.post("/v1/channels", wish.to_string()).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"), "{made}");
    let path = format!("/v1/channels/{}", made["channel"].as_str().unwrap());
    let (_, shown) = app.get(&path).await;
    let text = shown.to_string();
    assert!(!text.contains(secret) && !text.contains("/hook"), "{text}");
    let decision = &shown["decisions"][0];
    assert_eq!((&decision["step"], &decision["reason"]), (&json!("create"), &json!("a start")));

    // Tried in the ordinary way, whatever its route; signed with its secret.
    let (status, tried) = app.post(&format!("{path}/test"), "").await;
    assert_eq!(status, 202, "{tried}");
    hears(&hook, &["test.firing of test"]).await;
    assert_eq!(hook.taken()[0].id, tried["delivery"].as_str().unwrap());
    let log = house.log(made["channel"].as_str().unwrap(), |log| log[0]["state"] == "delivered");
    assert_eq!(log.await[0]["attempts"][0]["status"], 204);

    // Changed: the secret stays where none is given.
    let mut other = wish.clone();
    other["name"] = json!("other");
    let (status, changed) = app.put(&path, other.to_string()).await;
    assert_eq!((status, &changed["name"]), (200, &json!("other")), "{changed}");
    assert!(changed["secret"].is_null());
    let (status, _) = app.put(&path, json!({ "name": "no target" }).to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(app.post("/v1/channels", wish.to_string()).await.0, 201);
    assert_eq!(app.put(&path, wish.to_string()).await.0, 409, "the name is taken");
    let (_, listed) = app.get("/v1/channels").await;
    assert_eq!(listed["channels"].as_array().unwrap().len(), 2);

    // Wrong, and why.
    let url = json!({ "kind": "slack", "url": "ftp://example.com" });
    for (wrong, field) in [
        (json!({ "name": "x" }), "target"),
        (json!({ "name": "x", "target": url }), "target.url"),
        (json!({ "name": " ".repeat(101), "target": wish["target"] }), "name"),
        (
            json!({ "name": "x", "target": wish["target"], "after_seconds": 9_999_999 }),
            "after_seconds",
        ),
    ] {
        let (status, problem) = app.post("/v1/channels", wrong.to_string()).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    let wrong = json!({ "name": "x", "target": wish["target"], "topics": ["weather"] });
    assert_eq!(app.post("/v1/channels", wrong.to_string()).await.0, 422);

    // Whoever may only read or train may not say where alerts go.
    let scopes = [Scope::Read, Scope::Train];
    let key = api_keys::create(&app.db, &house.alerts().clock, "no admin", &scopes).await.unwrap();
    app.app.access.refresh().await.unwrap();
    assert_eq!(app.post_as(Some(&key), "/v1/channels", &wish.to_string()).await.0, 403);
    assert_eq!(app.post_as(Some(&key), &format!("{path}/test"), "").await.0, 403);
    assert_eq!(app.get_as(&key, "/v1/channels").await.0, 200);

    assert_eq!(app.delete(&path).await.0, 204);
    for (path, status) in [
        (path.as_str(), 404),
        ("/v1/alerts/alert_0", 404),
        ("/v1/alerts/alert_0/picture.svg", 404),
        ("/v1/alerts?state=lost", 422),
        ("/v1/alerts?before=x", 422),
        ("/v1/channels/channel_0/deliveries", 404),
    ] {
        assert_eq!(app.get(path).await.0, status, "{path}");
    }
    assert_eq!(app.delete(&path).await.0, 404);
    assert_eq!(app.post("/v1/deliveries/msg_0/replay", "").await.0, 404);
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_hears_again_of_what_fires_and_old_alerts_go() {
    let house = House::start().await;
    let app = &house.app;
    let hook = Hook::start().await;
    let root = hook.url.replace("/hook", "");
    // The process's own first round is over, and sees none of this.
    eventually("the first round is over", async || {
        alarms::ran_at(app.db.read(), Job::KeepAlive).await.unwrap().is_some()
    })
    .await;
    let wish = json!({ "name": "am", "target": { "kind": "alertmanager", "url": root } });
    assert_eq!(app.post("/v1/channels", wish.to_string()).await.0, 201);
    house.raise(&found("one", Severity::Warning, None)).await;
    house.raise(&found("two", Severity::Warning, None)).await;
    eventually("both are told", async || hook.heard().len() == 2).await;
    house.resolve("two").await;
    eventually("the end is told", async || hook.heard().len() == 3).await;
    let set = BY_HAND.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = Config::load_from(None, &Environment::default(), &set).unwrap();
    let sender = Sender::new(&config.outbound).unwrap();
    for (seconds, heard) in [(61, 4), (30, 4), (31, 5)] {
        house.pass(seconds);
        house.alerts().keep_alive(&sender).await.unwrap();
        assert_eq!(hook.heard().len(), heard);
    }
    let still = hook.heard()[4].body.clone();
    assert_eq!(still.as_array().unwrap().len(), 1, "{still}");
    assert_eq!(still[0]["labels"]["source"], "one");

    // What is over is forgotten in time, what fires is not.
    house.pass(89 * 86_400);
    house.alerts().clean_up().await.unwrap();
    assert_eq!(app.get("/v1/alerts?state=all").await.1["alerts"].as_array().unwrap().len(), 2);
    house.pass(2 * 86_400);
    house.alerts().clean_up().await.unwrap();
    let (_, told) = app.get("/v1/alerts?state=all").await;
    assert_eq!(told["alerts"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["alerts"][0]["key"], "one");
    house.app.stop().await;
}
