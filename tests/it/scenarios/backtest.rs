//! Back-test: the segments that customers had a month ago, compared with what they ordered since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, features_with_outcomes, ndjson};

/// Morning of day 0; days are those of UTC.
const START: i64 = 19_700 * MILLIS_PER_DAY + MILLIS_PER_DAY / 3;
const CUSTOMERS: usize = 400;
/// The second training is on this day, and the compared period begins 30 days before it.
const LAST_DAY: f64 = 36.0;
const FIRST_COMPARED_DAY: f64 = 6.0;
/// Its orders so far decide the compared segments.
const SEGMENTS_READ_DAY: f64 = 5.0;

/// An order of a customer; `day`: its time in days after midnight of day 0.
#[derive(Clone)]
struct Order {
    customer: String,
    id: String,
    day: f64,
    value: f64,
}

/// A third of the customers orders about every five days, the others every fifty.
fn shop() -> Vec<Order> {
    let mut rng = RandomStream::new(11, 0);
    let mut orders = Vec::new();
    for customer in 0..CUSTOMERS {
        let gap = if customer % 3 == 0 { 5.0 } else { 50.0 };
        let value = 20.0 + 60.0 * rng.uniform_unit();
        let mut day = -200.0 + gap * rng.uniform_unit();
        while day < LAST_DAY + 0.3 {
            orders.push(Order {
                customer: format!("c{customer:04}"),
                id: format!("o{}", orders.len()),
                day,
                value: (value * (0.5 + rng.uniform_unit()) * 100.0).round() / 100.0,
            });
            day += -gap * rng.uniform_unit().ln();
        }
    }
    orders
}

/// One visitor and one customer are the same person, which is known later.
fn orders_of_a_visitor() -> Vec<Order> {
    [-30.0, -20.0, 20.2]
        .map(|day| Order {
            customer: "visitor".to_owned(),
            id: format!("v{day}"),
            day,
            value: 25.0,
        })
        .into()
}

#[expect(clippy::cast_possible_truncation, reason = "days of a year")]
fn millis_of(days: f64) -> i64 {
    (days * 86_400_000.0) as i64
}

impl Order {
    fn event(&self) -> Value {
        let millis = millis_of(self.day) + START / MILLIS_PER_DAY * MILLIS_PER_DAY;
        let id = if self.customer == "visitor" { "anonymous_id" } else { "customer_id" };
        json!({
            "type": "track", "name": "Order Completed", "message_id": self.id, id: self.customer,
            "timestamp": Timestamp::from_millis(millis).to_string(),
            "properties": { "order_id": self.id, "sales_value": self.value, "lines": 3 },
        })
    }
}

async fn send(app: &TestApp, orders: &[Order], days: std::ops::Range<f64>) {
    let due = orders.iter().filter(|order| days.contains(&order.day));
    let lines: Vec<Value> = due.map(Order::event).collect();
    let (status, answer) = app.post("/v1/events/bulk", ndjson(&lines)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.to_string().contains("rejected\""), "{answer}");
}

/// The segment of each customer that a model has assigned.
async fn segments(app: &TestApp) -> BTreeMap<String, String> {
    let (_, table) = app.get("/v1/assignments?format=ndjson").await;
    let lines = table.as_str().unwrap().lines();
    let rows = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.filter(|row| row["model_id"].is_string())
        .map(|row| (text(&row, "customer_id"), text(&row, "segment_id")))
        .collect()
}

/// What the customers of a segment did in the compared period.
#[derive(Default)]
struct Expected {
    customers: f64,
    buyers: f64,
    order_days: f64,
    spend: f64,
    earlier_buyers: f64,
    lost: f64,
    /// Answers to the survey.
    answers: f64,
}

/// Counted from the orders that were sent.
fn expected(segments: &BTreeMap<String, String>, orders: &[Order]) -> BTreeMap<String, Expected> {
    let mut counted: BTreeMap<String, Expected> = BTreeMap::new();
    for (customer, segment) in segments {
        let own: Vec<&Order> = orders.iter().filter(|order| order.customer == *customer).collect();
        let mut within = own.clone();
        within.retain(|order| (FIRST_COMPARED_DAY..LAST_DAY).contains(&order.day));
        let days = within.iter().map(|order| millis_of(order.day).div_euclid(MILLIS_PER_DAY));
        let days: BTreeSet<i64> = days.collect();
        let figures = counted.entry(segment.clone()).or_default();
        figures.customers += 1.0;
        figures.answers += survey_answer(customer);
        figures.buyers += f64::from(u8::from(!days.is_empty()));
        figures.order_days += f64::from(u32::try_from(days.len()).unwrap());
        figures.spend += within.iter().map(|order| order.value).sum::<f64>();
        if own.iter().any(|order| order.day < FIRST_COMPARED_DAY) {
            figures.earlier_buyers += 1.0;
            figures.lost += f64::from(u8::from(days.is_empty()));
        }
    }
    counted
}

fn close(found: &Value, expected: f64) -> bool {
    found.as_f64().is_some_and(|found| (found - expected).abs() < 1e-9 * expected.max(1.0))
}

/// Compares the figures of one outcome with counted totals.
fn compare(
    outcome: &Value,
    counted: &BTreeMap<String, Expected>,
    total: fn(&Expected) -> f64,
    of: fn(&Expected) -> f64,
) {
    let all = counted.values().map(total).sum::<f64>() / counted.values().map(of).sum::<f64>();
    assert!(close(&outcome["base"], all), "{all} is not that of {outcome}");
    let rows = outcome["segments"].as_array().unwrap();
    assert_eq!(rows.len(), counted.len(), "{outcome}");
    for row in rows {
        let expected = &counted[row["segment"]["segment_id"].as_str().unwrap()];
        let mean = total(expected) / of(expected);
        assert!(close(&row["customers"], of(expected)), "{row}");
        assert!(close(&row["mean"], mean), "{mean} is not that of {row}");
        // Answers may be negative.
        let has_lift = outcome["outcome"] != "features.survey_score";
        assert!(row["lift"].is_null() != has_lift, "{row}");
        assert!(!has_lift || close(&row["lift"], mean / all), "{row}");
    }
}

/// A customer that orders often is content.
fn survey_answer(customer: &str) -> f64 {
    let number: usize = customer.trim_start_matches('c').parse().unwrap();
    if number.is_multiple_of(3) { 9.0 } else { 3.0 }
}

/// All answer within the compared period.
async fn send_survey(app: &TestApp) {
    let at = Timestamp::from_millis(START + millis_of(20.0)).to_string();
    let answer = |customer: usize| {
        let id = format!("c{customer:04}");
        json!({
            "type": "track", "name": "Survey Answered", "message_id": format!("survey-{id}"),
            "customer_id": id, "timestamp": at, "properties": { "score": survey_answer(&id) },
        })
    };
    let lines: Vec<Value> = (0..CUSTOMERS).map(answer).collect();
    let (status, answer) = app.post("/v1/events/bulk", ndjson(&lines)).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_says_whether_earlier_segments_predicted_the_orders_since() {
    let (clock, handle) = TimeSource::manual(Timestamp::from_millis(START));
    // Only the first training is promoted: it has no back-test yet.
    let features = features_with_outcomes();
    let settings = [
        ("features.file", features.path().to_str().unwrap()),
        ("training.outcomes", "survey_score, campaign_cost_30d"),
        ("training.backtest_horizons_days", "30,60"),
        ("gates.backtest_lift", "50"),
    ];
    let app = TestApp::start_at(clock, &settings).await;
    let move_to = |day: f64| handle.store(START + millis_of(day), Ordering::Relaxed);
    let mut orders = shop();
    orders.extend(orders_of_a_visitor());
    send(&app, &orders, -300.0..0.3).await;
    let first = app.train_with(r#"{"segments": 3, "starts": 2}"#).await;
    let horizons = first["report"]["backtest"]["horizons"].as_array().unwrap();
    let gap = "no customer had a segment of a model at 2023-11-09T00:00:00.000Z";
    assert_eq!((horizons.len(), horizons[0]["gap"].as_str()), (2, Some(gap)), "{horizons:?}");
    let notes = first["report"]["leaderboard"]["notes"].to_string();
    assert!(notes.contains("`survey_score` has no part in the choice"), "{notes}");

    // Segments change before and after the beginning of the compared period.
    move_to(SEGMENTS_READ_DAY);
    send(&app, &orders, 0.3..SEGMENTS_READ_DAY).await;
    let mut then = segments(&app).await;
    assert_eq!(then.len(), CUSTOMERS + 1);
    move_to(LAST_DAY);
    send(&app, &orders, SEGMENTS_READ_DAY..LAST_DAY + 0.3).await;
    send_survey(&app).await;
    let newcomer = Order { customer: "new".into(), id: "n1".into(), day: 30.0, value: 500.0 };
    send(&app, &[newcomer], 0.0..40.0).await;
    // The visitor is `c0001`, whose own segment counts, with the orders of both.
    let link = json!({
        "type": "identify", "message_id": "link", "customer_id": "c0001", "anonymous_id": "visitor",
    });
    let (status, answer) = app.post("/v1/events", link.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    then.remove("visitor");
    for order in &mut orders {
        if order.customer == "visitor" {
            order.customer = "c0001".to_owned();
        }
    }
    let now = segments(&app).await;
    let moved = then.iter().filter(|(customer, segment)| now[*customer] != **segment).count();
    assert!(moved > 5, "{moved} customers moved");

    let (status, run) = app.post("/v1/training-runs", r#"{"segments": 3, "starts": 2}"#).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    let mut run = Value::Null;
    eventually("the second model is trained", async || {
        run = app.get(&path).await.1;
        run["status"] == "succeeded"
    })
    .await;

    let horizons = &run["report"]["backtest"]["horizons"];
    let gap = "no customer had a segment of a model at 2023-11-15T00:00:00.000Z";
    assert_eq!(horizons[1]["gap"], gap);
    let month = &horizons[0];
    assert_eq!(
        (&month["from"], &month["until"]),
        (&json!("2023-12-15T00:00:00.000Z"), &json!("2024-01-14T00:00:00.000Z"))
    );
    assert_eq!(month["customers"], CUSTOMERS, "{month}");
    assert_eq!(month["models"], json!([{ "model_id": first["model_id"], "customers": CUSTOMERS }]));
    let counted = expected(&then, &orders);
    assert_eq!(counted.len(), 3);
    let [ordered, days, spend, churned] = [0, 1, 2, 3].map(|place| &month["outcomes"][place]);
    compare(ordered, &counted, |one| one.buyers, |one| one.customers);
    compare(days, &counted, |one| one.order_days, |one| one.customers);
    compare(spend, &counted, |one| one.spend, |one| one.customers);
    compare(churned, &counted, |one| one.lost, |one| one.earlier_buyers);
    // Outcomes that models do not read are back-tested, and judged the candidates.
    let survey = &month["outcomes"][4];
    assert_eq!(survey["outcome"], "features.survey_score");
    compare(survey, &counted, |one| one.answers, |one| one.customers);
    let board = &run["report"]["leaderboard"];
    let explained = board["entries"][0]["criteria"]["outcomes"]["value"].as_f64().unwrap();
    assert!(explained > 0.4, "{board}");
    let notes = board["notes"].to_string();
    assert!(notes.contains("`campaign_cost_30d` has no part in the choice"), "{notes}");
    assert!(!notes.contains("survey_score"), "{notes}");
    // The regular customers are in segments of their own.
    let best = &days["segments"][0];
    let [low, high] = [0, 1].map(|side| best["interval"][side].as_f64().unwrap());
    let lift = best["lift"].as_f64().unwrap();
    assert!(1.5 < low && low < lift && lift < high, "{best}");
    assert!(days["explained_share"].as_f64().unwrap() > 0.4, "{days}");
    assert!(days["p_value"].as_f64().unwrap() < 1e-6, "{days}");

    the_back_test_is_a_gate_and_a_metric(&app, &run, low).await;
    app.stop().await;
}

/// The second model is refused, which says why, and the metrics show the back-test of its run.
async fn the_back_test_is_a_gate_and_a_metric(app: &TestApp, run: &Value, lift: f64) {
    let model = format!("/v1/models/{}", run["model_id"].as_str().unwrap());
    let mut decision = Value::Null;
    eventually("the gates have decided", async || {
        let (_, described) = app.get(&model).await;
        assert_eq!(described["report"]["backtest"], run["report"]["backtest"]);
        decision = described["decisions"][0].clone();
        decision.is_object()
    })
    .await;
    assert_eq!(decision["to_stage"], Value::Null, "{decision}");
    let gates = decision["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["gate"] == "backtest_lift").unwrap();
    let why = gate["reason"].as_str().unwrap();
    assert!(why.contains(&format!("at least {lift:.4} times as many days")), "{why}");
    assert!(why.ends_with("at least 50 is required"), "{why}");

    let best = &run["report"]["backtest"]["horizons"][0]["outcomes"][1]["segments"][0];
    let label = |field: &str| best["segment"][field].as_str().unwrap();
    let series = format!(
        "segmentd_backtest_lift{{horizon_days=\"30\",outcome=\"orders\",segment_id=\"{}\",segment_name=\"{}\"}} ",
        label("segment_id"),
        label("name"),
    );
    eventually("the lifts are exported", async || {
        let (_, metrics) = app.admin("/metrics").await;
        let found = metrics.lines().find_map(|line| line.strip_prefix(&series));
        let found = found.map(|value| value.parse::<f64>().unwrap());
        found.is_some_and(|found| close(&best["lift"], found))
            && metrics.contains(
                "segmentd_backtest_explained_share{horizon_days=\"30\",outcome=\"churned\"}",
            )
    })
    .await;
    let (done, output) = app
        .command(&[
            "train",
            "--from",
            "database",
            "--as-of",
            run["report"]["as_of"].as_str().unwrap(),
            "--segments",
            "3",
            "--set",
            "training.algorithms=kmeans",
            "--set",
            "training.backtest_horizons_days=30",
        ])
        .await;
    assert!(done, "{output}");
    let line = "back-test over 30 days: 400 customers with a segment at 2023-12-15T00:00:00.000Z";
    assert!(output.contains(line), "{output}");
    assert!(output.contains("variance of days with an order: segments explain 7"), "{output}");
}
