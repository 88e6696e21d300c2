//! The value of segments over time: customers move, and the change between two snapshots is what a
//! recomputation from all events finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use segmentd::config::SegmentValueSettings;
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::CustomerState;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use segmentd::service::segment_value::{SegmentValueDependencies, SegmentValueService};
use serde_json::{Value, json};

use crate::scenarios::value::{CUSTOMERS, START, number, order_event, shop};
use crate::support::{TestApp, eventually, ndjson};

/// New customers between the first two snapshots.
const NEW_CUSTOMERS: usize = 12;

/// The segment and the predicted spend of each customer.
type Valued = BTreeMap<String, (Option<String>, f64)>;

/// Segments by customer, as exported.
async fn segments_of(app: &TestApp) -> BTreeMap<String, String> {
    let (_, csv) = app.get("/v1/assignments?format=csv").await;
    let mut lines = csv.as_str().unwrap().lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let place = |name| header.iter().position(|column| *column == name).unwrap();
    let (customer, segment) = (place("customer_id"), place("segment_id"));
    let cells = lines.map(|line| line.split(',').collect::<Vec<&str>>());
    cells.map(|cells| (cells[customer].to_owned(), cells[segment].to_owned())).collect()
}

fn event_of(body: &Value) -> CustomerEvent {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let properties = body["properties"].as_object().unwrap();
    let properties = properties.iter().map(|(name, value)| {
        let value = match value {
            Value::Number(number) => PropertyValue::Number(number.as_f64().unwrap()),
            other => PropertyValue::Text(text(other).into()),
        };
        (name.as_str().into(), value)
    });
    CustomerEvent {
        message_id: text(&body["message_id"]).parse().unwrap(),
        customer: text(&body["customer_id"]).parse().unwrap(),
        kind: EventKind::Track,
        name: text(&body["name"]).into(),
        timestamp: Timestamp::parse(body["timestamp"].as_str().unwrap()).unwrap(),
        properties: properties.collect(),
    }
}

/// Spend that the active model predicts for 90 days, by the orders before the day of `at`.
fn predicted(app: &TestApp, events: &[Value], at: i64) -> BTreeMap<String, f64> {
    let deployment = app.app.deployments.snapshot();
    let value = deployment.active.as_ref().unwrap().value().unwrap().clone();
    let midnight = at.div_euclid(MILLIS_PER_DAY) * MILLIS_PER_DAY;
    let yesterday = Timestamp::from_millis(midnight - 1);
    let mut by_customer: BTreeMap<String, Vec<CustomerEvent>> = BTreeMap::new();
    for event in events.iter().map(event_of).filter(|event| event.timestamp <= yesterday) {
        by_customer.entry(event.customer.as_str().to_owned()).or_default().push(event);
    }
    let spend = by_customer.into_iter().filter_map(|(customer, events)| {
        let state = CustomerState::replay(&deployment.features, &events);
        let history = state.known_orders(&deployment.features, yesterday)?.history()?;
        Some((customer, value.forecast(&history, yesterday).spend?[1].expected))
    });
    spend.collect()
}

/// Customers with their segment at a snapshot, and the spend predicted for it.
fn valued(segments: &BTreeMap<String, String>, spend: &BTreeMap<String, f64>) -> Valued {
    let ids = segments.keys().chain(spend.keys());
    let figures = |id: &String| {
        (id.clone(), (segments.get(id).cloned(), spend.get(id).copied().unwrap_or(0.0)))
    };
    ids.map(figures).collect()
}

/// Takes the snapshot that is due. The background task may be faster.
async fn take_snapshot(app: &TestApp, segment: &str, expected: usize) -> Value {
    eventually("a snapshot is taken", async || {
        app.app.segment_values.take_if_due().await.unwrap();
        snapshots(app, segment).await.len() == expected
    })
    .await;
    snapshots(app, segment).await.remove(0)
}

async fn snapshots(app: &TestApp, segment: &str) -> Vec<Value> {
    let (status, body) = app.get(&format!("/v1/segments/{segment}/value?days=60")).await;
    assert_eq!(
        (status, &body["missing"].as_str().unwrap_or_default().contains("disabled")),
        (200, &false)
    );
    body["snapshots"].as_array().unwrap().clone()
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{what}: {found} {expected}");
}

/// Compares the parts of a change with those of all customers. `stored`: the predicted spend of the
/// segment before, as forecast then.
fn check_change(segment: &str, change: &Value, before: &Valued, now: &Valued, stored: f64) {
    let parts = &change["parts"];
    let mut flows: BTreeMap<(&str, Option<&str>), (u64, f64)> = BTreeMap::new();
    let (mut stayed, mut total_before, mut total_now) = ((0, 0.0), 0.0, 0.0);
    for (customer, (to, spend_now)) in now {
        let (from, spend_before) =
            before.get(customer).map_or((None, 0.0), |(from, spend)| (from.as_deref(), *spend));
        let to = to.as_deref();
        let [was, is] = [from, to].map(|place| place == Some(segment));
        total_before += if was { spend_before } else { 0.0 };
        total_now += if is { *spend_now } else { 0.0 };
        let (key, amount) = match (was, is) {
            (true, true) => {
                stayed = (stayed.0 + 1, stayed.1 + spend_now - spend_before);
                continue;
            }
            (true, false) => (("left", to), -spend_before),
            (false, true) => (("entered", from), *spend_now),
            (false, false) => continue,
        };
        let flow = flows.entry(key).or_default();
        *flow = (flow.0 + 1, flow.1 + amount);
    }
    let few: (u64, f64) = flows
        .values()
        .filter(|flow| flow.0 < 5)
        .fold((0, 0.0), |sum, flow| (sum.0 + flow.0, sum.1 + flow.1));
    flows.retain(|_, flow| flow.0 >= 5);
    for direction in ["entered", "left"] {
        let found = parts[direction].as_array().unwrap();
        assert_eq!(
            found.len(),
            flows.keys().filter(|(of, _)| *of == direction).count(),
            "{change}"
        );
        for flow in found {
            let place = flow["segment"]["segment_id"].as_str();
            let (customers, amount) = flows[&(direction, place)];
            assert_eq!(flow["customers"], customers, "{flow}");
            assert_close(number(flow, "amount"), amount, direction);
        }
    }
    assert_eq!(parts["stayed"]["customers"], stayed.0, "{change}");
    assert_eq!(parts["small_flows"]["customers"], few.0, "{change}");
    let rest = number(&parts["stayed"], "amount") + number(&parts["small_flows"], "amount");
    assert_close(rest, stayed.1 + few.1, "stayed and small flows");
    assert_close(number(parts, "before"), stored, "before");
    assert_close(number(parts, "after"), total_now, "after");
    assert_close(number(parts, "recalculated"), total_before - stored, "recalculated");
    let amounts = ["entered", "left"].map(|direction| {
        let flows = parts[direction].as_array().unwrap().iter();
        flows.map(|flow| number(flow, "amount")).sum::<f64>()
    });
    let sum = amounts[0] + amounts[1] + rest + number(parts, "recalculated");
    assert_close(sum, total_now - stored, "sum of the parts");
}

async fn the_picture_shows_three_snapshots(app: &TestApp, segment: &str) {
    let path = format!("/v1/segments/{segment}/value/picture.svg");
    let (status, picture) = app.get(&format!("{path}?days=60")).await;
    let newest = &snapshots(app, segment).await[0];
    let name = newest["name"].as_str().unwrap();
    let svg = picture.as_str().unwrap();
    assert_eq!(status, 200);
    assert!(svg.contains(&format!("{name}: spend in the next 90 days, USD</title>")), "{svg}");
    assert_eq!(svg.matches(" at risk</title>").count(), 3, "{svg}");
    assert!(svg.contains("than at the first snapshot shown"), "{svg}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_value_is_explained_by_the_customers_who_moved() {
    let (clock, handle) = TimeSource::manual(Timestamp::from_millis(START));
    // Customers move by events alone.
    let app = TestApp::start_at(clock, &[("scheduled_rescoring.poll_seconds", "86400")]).await;
    let mut events = shop();
    let send = async |events: &[Value]| {
        let (status, answer) = app.post("/v1/events/bulk", ndjson(events)).await;
        assert_eq!(status, 200, "{answer}");
    };
    send(&events).await;
    let (status, _) = app.get("/v1/segments/seg_other/value").await;
    assert_eq!(status, 404);
    app.train_with(r#"{"segments": 3, "starts": 2}"#).await;
    let (_, listed) = app.get("/v1/segments").await;
    let ids = listed["segments"].as_array().unwrap().iter();
    let ids: Vec<String> = ids.map(|one| one["segment_id"].as_str().unwrap().to_owned()).collect();
    eventually("all customers are assigned by the model", async || {
        segments_of(&app).await.values().filter(|segment| ids.contains(segment)).count()
            == CUSTOMERS
    })
    .await;

    // The first snapshot has figures, and nothing to compare with.
    let segments = segments_of(&app).await;
    let first = valued(&segments, &predicted(&app, &events, START));
    let mut stored = BTreeMap::new();
    for id in &ids {
        let snapshot = take_snapshot(&app, id, 1).await;
        let own = || first.values().filter(|(segment, _)| segment.as_ref() == Some(id));
        assert_eq!(snapshot["customers"], own().count(), "{snapshot}");
        let figures = &snapshot["figures"];
        let spend = number(figures, "predicted_clv_90d");
        assert_close(spend, own().map(|(_, spend)| spend).sum(), "predicted spend");
        assert!(number(figures, "predicted_clv_90d_low") < spend);
        assert!(spend < number(figures, "predicted_clv_90d_high"));
        assert!(number(figures, "value_at_risk_90d") <= spend);
        assert!((0.0..=1.0).contains(&number(figures, "churn_probability")));
        assert_eq!(
            [&snapshot["change"], &snapshot["change_28_days"]],
            [&Value::Null, &Value::Null]
        );
        stored.insert(id.clone(), spend);
    }
    assert!(!app.app.segment_values.take_if_due().await.unwrap(), "one snapshot a day");

    // A third of the customers order a lot, some come, and one order arrives late.
    handle.store(START + MILLIS_PER_DAY / 4, Ordering::Relaxed);
    let mut more = vec![order_event(5, 900, -9.0, 333.0)];
    for customer in (0..CUSTOMERS).step_by(3) {
        more.extend((0..8).map(|order| order_event(customer, 2_000 + order, 0.2, 90.0)));
    }
    more.extend((0..NEW_CUSTOMERS).map(|customer| order_event(CUSTOMERS + customer, 0, 0.2, 40.0)));
    send(&more).await;
    events.extend(more);
    handle.store(START + MILLIS_PER_DAY, Ordering::Relaxed);
    let spend_before = predicted(&app, &events, START);
    let before = valued(&segments, &spend_before);
    let now = valued(&segments_of(&app).await, &predicted(&app, &events, START + MILLIS_PER_DAY));
    let (mut moved, mut recalculated) = (0, 0);
    for id in &ids {
        let snapshot = take_snapshot(&app, id, 2).await;
        let change = &snapshot["change"];
        assert_eq!(change["since"], Timestamp::from_millis(START).to_string(), "{snapshot}");
        assert_eq!(change["model_changed"], false);
        check_change(id, change, &before, &now, stored[id]);
        moved += change["parts"]["left"].as_array().unwrap().len();
        recalculated += usize::from(number(&change["parts"], "recalculated").abs() > 1e-3);
        let name = snapshot["name"].as_str().unwrap();
        let sentence = change["sentence"].as_str().unwrap();
        assert!(sentence.starts_with(&format!("{name}: predicted 90-day spend ")), "{sentence}");
        assert!(sentence.contains("than the day before"), "{sentence}");
        assert_eq!(snapshot["change_28_days"], Value::Null);
    }
    assert!(moved > 0, "no segment lost customers");
    assert_eq!(recalculated, 1, "the late order is in one segment");

    // Four weeks after the first snapshot, both earlier ones are compared with.
    let weeks_later = START + 28 * MILLIS_PER_DAY;
    handle.store(weeks_later, Ordering::Relaxed);
    let now = valued(&segments_of(&app).await, &predicted(&app, &events, weeks_later));
    for id in &ids {
        let snapshot = take_snapshot(&app, id, 3).await;
        let day_after = Timestamp::from_millis(START + MILLIS_PER_DAY).to_string();
        assert_eq!(snapshot["change"]["since"], day_after, "{snapshot}");
        let change = &snapshot["change_28_days"];
        assert_eq!(change["since"], Timestamp::from_millis(START).to_string(), "{snapshot}");
        check_change(id, change, &before, &now, stored[id]);
        assert!(change["sentence"].as_str().unwrap().contains("than 28 days before"), "{change}");
    }
    the_picture_shows_three_snapshots(&app, &ids[0]).await;
    let (status, refused) = app.get(&format!("/v1/segments/{}/value?days=401", ids[0])).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("days")), "{refused}");

    // Expired snapshots are deleted.
    handle.store(weeks_later + MILLIS_PER_DAY, Ordering::Relaxed);
    let dependencies = SegmentValueDependencies {
        db: app.db.clone(),
        serving: Arc::clone(&app.app.deployments),
        clock: app.app.clock.clone(),
        heavy: Arc::clone(&app.app.heavy),
    };
    let settings = SegmentValueSettings { snapshot_every_days: 1, retention_days: 10 };
    let service = SegmentValueService::new(dependencies, settings);
    assert!(service.take_if_due().await.unwrap());
    service.delete_expired().await.unwrap();
    assert_eq!(snapshots(&app, &ids[0]).await.len(), 2, "the two oldest have expired");
    app.stop().await;
}
