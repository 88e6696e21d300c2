//! Scheduled rescoring: customers without events change segment when time alone changes
//! their score. Ninety simulated days are compared with a full recomputation.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use segmentd::domain::audience::{
    AudienceDefinition, AudienceInputs, AudienceSet, StoredAudiences,
};
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::CustomerState;
use segmentd::domain::model::ScoringScratch;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use segmentd::service::rescoring::on_time::ScheduledRescorer;
use segmentd::service::rescoring::{RescoringDependencies, RescoringPace};
use segmentd::service::scoring::deployment::Deployment;
use segmentd::store::customers::assignments::PreviousAssignment;
use segmentd::store::customers::history;
use segmentd::store::customers::history::HistoryPage;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::{TestApp, eventually, ndjson};

const START: i64 = 19_700 * MILLIS_PER_DAY + MILLIS_PER_DAY / 3;
const DAYS: i64 = 90;
/// The default of `scheduled_rescoring.poll_seconds`.
const PERIOD: i64 = 15_000;
const MAX_LAG: i64 = 60_000;
/// The interval of recomputations, besides one at every recorded change.
const GRID: i64 = MILLIS_PER_DAY / 8;

/// An instant, and the segment from then on.
type Standing = (i64, String);

struct Simulation {
    app: TestApp,
    clock: Arc<AtomicI64>,
    scheduled_rescorer: ScheduledRescorer,
    customers: Vec<(String, CustomerState)>,
}

/// A sweep of this app without pauses.
fn scheduled_rescorer(app: &TestApp, batch_customers: usize) -> ScheduledRescorer {
    let dependencies = RescoringDependencies {
        db: app.db.clone(),
        serving: Arc::clone(&app.app.deployments),
        clock: app.app.clock.clone(),
        customer_cache: app.app.ingestion.customer_cache(),
        metrics: Arc::clone(&app.app.metrics),
    };
    let pace = RescoringPace { batch_customers, pause_ratio: 0.0 };
    ScheduledRescorer::new(dependencies, pace, Duration::MAX)
}

impl Simulation {
    /// Starts an app, and sends all events of all customers.
    async fn start(customers: usize, settings: &[(&str, &str)]) -> Self {
        let (clock, handle) = TimeSource::manual(Timestamp::from_millis(START));
        // The background job of the program is off: the test runs the sweeps.
        let settings = [&[("scheduled_rescoring.poll_seconds", "86400")], settings].concat();
        let app = TestApp::start_at(clock, &settings).await;
        let mut rng = RandomStream::new(2017, 0);
        let events: Vec<CustomerEvent> = (0..customers).flat_map(|i| orders(i, &mut rng)).collect();
        let lines: Vec<Value> = events.iter().map(line).collect();
        let (status, answer) = app.post("/v1/events/bulk", ndjson(&lines)).await;
        assert_eq!(status, 200, "{answer}");
        let deployment = app.app.deployments.snapshot();
        let states = events.chunk_by(|a, b| a.customer == b.customer).map(|events| {
            let customer = events[0].customer.as_str().to_owned();
            (customer, CustomerState::replay(&deployment.features, events))
        });
        let scheduled_rescorer = scheduled_rescorer(&app, 50);
        Self { customers: states.collect(), app, clock: handle, scheduled_rescorer }
    }

    /// Moves the clock through all days. Runs the sweep only at ticks at which a customer
    /// is due. Returns the number of sweeps.
    async fn pass(&self) -> usize {
        let mut database = sqlx::PgConnection::connect(self.app.database_url()).await.unwrap();
        let mut sweeps = 0;
        loop {
            let due: Option<i64> = sqlx::query_scalar(
                "select (extract(epoch from min(next_rescore_at)) * 1000)::bigint from customer",
            )
            .fetch_one(&mut database)
            .await
            .unwrap();
            let due = due.unwrap();
            let tick = START + (due.max(START) - START + PERIOD - 1) / PERIOD * PERIOD;
            if tick > START + DAYS * MILLIS_PER_DAY {
                return sweeps;
            }
            self.clock.store(tick, Ordering::Relaxed);
            assert!(self.scheduled_rescorer.rescore_due().await.unwrap() > 0);
            sweeps += 1;
        }
    }

    /// Compares the recorded history of every customer under this deployment with a full
    /// recomputation. Returns the number of moves.
    async fn compare(&self, deployment: &Deployment) -> usize {
        let mut moves = 0;
        let mut scratch = ScoringScratch::default();
        for (customer, state) in &self.customers {
            let recorded = self.recorded(customer, deployment.generation).await;
            let mut instants: Vec<i64> = recorded.iter().map(|(at, _)| *at).collect();
            instants.extend((0..=DAYS * MILLIS_PER_DAY / GRID).map(|step| START + step * GRID));
            instants.sort_unstable();
            let expected = recomputed(deployment, state, &instants, &recorded, &mut scratch);
            assert_eq!(recorded[0].1, expected[0].1, "{customer} at the start");
            moves += expected.len() - 1;
            assert_eq!(
                recorded.iter().map(|(_, segment)| segment).collect::<Vec<_>>(),
                expected.iter().map(|(_, segment)| segment).collect::<Vec<_>>(),
                "{customer}: {recorded:?} is not {expected:?}"
            );
            for ((recorded, _), (due, segment)) in recorded.iter().zip(&expected) {
                let lag = recorded - due;
                assert!((0..=MAX_LAG).contains(&lag), "{customer} to {segment}: {lag} ms late");
            }
        }
        moves
    }

    /// The segment of a customer at the start, and every move since then.
    async fn recorded(&self, customer: &str, generation: i64) -> Vec<Standing> {
        let key = customer.parse().unwrap();
        let page = HistoryPage { after: None, limit: 10_000 };
        let changes = history::list_history(self.app.db.read(), &key, &page).await.unwrap();
        let of_lineup = changes.into_iter().rev().filter(|change| change.generation == generation);
        let mut standings: Vec<Standing> = of_lineup
            .map(|change| (change.assigned_at.millis(), change.segment.id.into()))
            .collect();
        // Events may have come in several transactions.
        let after_events = standings.partition_point(|(at, _)| *at == START) - 1;
        standings.split_off(after_events)
    }
}

/// Rules that time alone changes: windows, recency, fading, and combinations.
const RULES: [(&str, &str); 6] = [
    ("lapsed", "features.recency_days > 41.5"),
    ("active", "features.orders_28d >= 2 or features.trips_112d > 12"),
    ("fading", "features.spend_recent < 10 and features.spend_recent > 0.5"),
    ("valuable_lapsed", "audiences.lapsed and features.spend_365d >= 300 USD"),
    ("new_store", "features.last_store in ('1', '2') and features.tenure_days < 200"),
    ("leaving", "value.churn_probability > 0.4 and not audiences.active"),
];

impl Simulation {
    /// Compares the recorded entries into and exits from audiences with a full recomputation.
    /// Returns their number.
    async fn compare_audiences(&self, deployment: &Deployment) -> usize {
        let mut definitions = Vec::new();
        for (id, (name, expression)) in (1..).zip(RULES) {
            let (name, expression) = (name.into(), expression.to_owned());
            definitions.push(AudienceDefinition { id, name, expression });
        }
        let set = AudienceSet::compile(1, &definitions, &deployment.features);
        let mut changes = 0;
        for (customer, state) in &self.customers {
            let key = customer.parse().unwrap();
            let page = HistoryPage { after: None, limit: 10_000 };
            let mut history = history::list_history(self.app.db.read(), &key, &page).await.unwrap();
            history.reverse();
            for (name, _) in RULES {
                let mut recorded = vec![(START, false)];
                for change in &history {
                    let at = change.assigned_at.millis();
                    let enters = change.audiences_entered.iter().any(|one| one == name);
                    let leaves = change.audiences_left.iter().any(|one| one == name);
                    match (enters || leaves, at == START) {
                        (false, _) => {}
                        (true, true) => recorded[0].1 = enters,
                        (true, false) => recorded.push((at, enters)),
                    }
                }
                let expected =
                    toggles(&recorded, |at| is_member(deployment, &set, state, name, at));
                assert_eq!(
                    recorded.iter().map(|(_, is_member)| is_member).collect::<Vec<_>>(),
                    expected.iter().map(|(_, is_member)| is_member).collect::<Vec<_>>(),
                    "{customer} in {name}: {recorded:?} is not {expected:?}"
                );
                for ((recorded, _), (due, _)) in recorded.iter().zip(&expected) {
                    let lag = recorded - due;
                    assert!((0..=MAX_LAG).contains(&lag), "{customer} in {name}: {lag} ms late");
                }
                changes += expected.len() - 1;
            }
        }
        changes
    }
}

/// Whether the customer is in the audience at an instant.
fn is_member(
    deployment: &Deployment,
    set: &Arc<AudienceSet>,
    state: &CustomerState,
    name: &str,
    at: i64,
) -> bool {
    let at = Timestamp::from_millis(at);
    let (row, orders) = state.row_and_orders(&deployment.features, at);
    let history = orders.and_then(|orders| orders.history());
    let model = deployment.active.as_ref().and_then(|model| model.value());
    let value = model.zip(history).map(|(model, history)| model.summarise(&history, at));
    let inputs = AudienceInputs {
        row: &row,
        segment_id: "not read",
        confidence: None,
        p_value: None,
        is_outlier: false,
        value: value.as_ref(),
    };
    set.evaluate(&inputs, StoredAudiences::default()).names().any(|found| found == name)
}

/// The truth at the start, and every change of it, found on a grid and at the recorded instants,
/// then by bisection.
fn toggles(recorded: &[(i64, bool)], is_true: impl Fn(i64) -> bool) -> Vec<(i64, bool)> {
    let mut instants: Vec<i64> = recorded.iter().map(|(at, _)| *at).collect();
    instants.extend((0..=DAYS * MILLIS_PER_DAY / GRID).map(|step| START + step * GRID));
    instants.sort_unstable();
    let mut found = vec![(START, is_true(START))];
    for pair in instants.windows(2) {
        let before = found[found.len() - 1].1;
        if is_true(pair[1]) == before {
            continue;
        }
        let (mut from, mut to) = (pair[0], pair[1]);
        while to - from > 1 {
            let middle = from.midpoint(to);
            if is_true(middle) == before { from = middle } else { to = middle }
        }
        found.push((to, !before));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_quiet_days_of_audiences() {
    let simulation = Simulation::start(500, &[]).await;
    simulation.app.train_with(r#"{"segments": 4, "starts": 2}"#).await;
    for (name, expression) in RULES {
        let body = json!({ "expression": expression, "reason": "tested" });
        let path = format!("/v1/audiences/{name}");
        let (status, made) = simulation.app.put(&path, body.to_string()).await;
        assert_eq!(status, 201, "{made}");
    }
    eventually("all customers are evaluated", async || {
        simulation.app.get("/v1/audiences").await.1["pending_customers"] == 0
    })
    .await;
    let sweeps = simulation.pass().await;
    let deployment = simulation.app.app.deployments.snapshot();
    let model = deployment.active.as_ref().unwrap();
    let (_, of_model) = simulation.app.get(&format!("/v1/models/{}/value", model.id())).await;
    assert!(model.value().is_some(), "{of_model}");
    let changes = simulation.compare_audiences(&deployment).await;
    assert!(changes > 200, "{changes} changes in {sweeps} sweeps");
    let looks = simulation.app.metric("segmentd_scheduled_rescored_customers_total").await;
    assert!(looks < 500 * 45, "{looks} looks at 500 customers in {DAYS} days");
    simulation.app.stop().await;
}

/// The segment of a customer at the first of `instants`, and every move up to the last,
/// each found by bisection with the rules of hysteresis. A minimum stay begins at the
/// recorded move.
fn recomputed(
    deployment: &Deployment,
    state: &CustomerState,
    instants: &[i64],
    recorded: &[Standing],
    scratch: &mut ScoringScratch,
) -> Vec<Standing> {
    let mut answer = |at: i64, held: Option<&PreviousAssignment>| {
        let at = Timestamp::from_millis(at);
        let row = state.feature_row(&deployment.features, at);
        let verdict = deployment.score_row(&row, scratch);
        let assignment = deployment.apply_hysteresis(&row, &verdict, held, at, scratch);
        match assignment {
            Some(assignment) => deployment.assigned_segment(&assignment).id.into(),
            None => verdict.segment_id.to_owned(),
        }
    };
    let mut held = PreviousAssignment {
        generation: deployment.generation,
        is_fallback: deployment.active.is_none(),
        segment_id: answer(instants[0], None),
        moved_at: None,
        audiences: Vec::new(),
        audience_version: 0,
    };
    let mut found = vec![(instants[0], held.segment_id.clone())];
    for pair in instants.windows(2) {
        let mut from = pair[0];
        while answer(pair[1], Some(&held)) != held.segment_id {
            let mut to = pair[1];
            while to - from > 1 {
                let middle = from.midpoint(to);
                let stays = answer(middle, Some(&held)) == held.segment_id;
                if stays { from = middle } else { to = middle }
            }
            held.segment_id = answer(to, Some(&held));
            let moved_at = recorded.get(found.len()).map_or(to, |(at, _)| *at);
            held.moved_at = Some(Timestamp::from_millis(moved_at));
            found.push((to, held.segment_id.clone()));
            from = to;
        }
    }
    found
}

/// Orders in the year before the start: from one to dozens per customer.
fn orders(customer: usize, rng: &mut RandomStream) -> Vec<CustomerEvent> {
    let orders = 1 + rng.uniform_below(3) * rng.uniform_below(20);
    let year = usize::try_from(365 * MILLIS_PER_DAY).unwrap();
    let spread = rng.uniform_below(year);
    let mut events: Vec<CustomerEvent> = (0..orders)
        .map(|order| {
            let within = rng.uniform_below(1 + spread);
            let ago = rng.uniform_below(1 + within);
            let number = |name: &str, value: f64| (name.into(), PropertyValue::Number(value));
            CustomerEvent {
                message_id: format!("{customer}-{order}").parse().unwrap(),
                customer: format!("c{customer:04}").parse().unwrap(),
                kind: EventKind::Track,
                name: "Order Completed".into(),
                timestamp: Timestamp::from_millis(START - i64::try_from(ago).unwrap()),
                properties: [
                    number("sales_value", 5.0 + 60.0 * rng.uniform_unit()),
                    number("lines", 1.0 + f64::from(u32::try_from(rng.uniform_below(9)).unwrap())),
                    number("retail_disc", rng.uniform_unit()),
                    (
                        "store_id".into(),
                        PropertyValue::Text(format!("{}", rng.uniform_below(4)).into()),
                    ),
                ]
                .into_iter()
                .collect(),
            }
        })
        .collect();
    events.sort_by_key(|event| event.timestamp);
    events
}

fn line(event: &CustomerEvent) -> Value {
    json!({
        "type": "track",
        "name": event.name,
        "message_id": event.message_id.as_str(),
        "customer_id": event.customer.as_str(),
        "timestamp": event.timestamp,
        "properties": event.properties,
    })
}

/// Returns the number of moves.
async fn ninety_quiet_days(settings: &[(&str, &str)]) -> usize {
    let simulation = Simulation::start(250, settings).await;
    simulation.app.train_with(r#"{"segments": 6, "starts": 3}"#).await;
    let sweeps = simulation.pass().await;
    let deployment = simulation.app.app.deployments.snapshot();
    assert!(deployment.active.is_some());
    let moves = simulation.compare(&deployment).await;
    assert!(moves > 100, "{moves} moves in {sweeps} sweeps");
    let metric = simulation.app.metric("segmentd_scheduled_rescoring_moves_total").await;
    assert_eq!(metric, moves as u64);
    // Few rescorings are unnecessary: windows are weeks long, and borders are far.
    let looks = simulation.app.metric("segmentd_scheduled_rescored_customers_total").await;
    assert!(looks < 250 * 30, "{looks} looks at 250 customers in {DAYS} days");
    simulation.app.stop().await;
    moves
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_quiet_days_under_a_model() {
    let free = ninety_quiet_days(&[("hysteresis.min_relative_advantage", "0")]).await;
    let held = ninety_quiet_days(&[("hysteresis.min_relative_advantage", "0.1")]).await;
    assert!(held < free, "{held} moves with hysteresis, {free} without");
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_quiet_days_with_a_minimum_stay() {
    let stay = ("hysteresis.minimum_stay_seconds", "1000000");
    ninety_quiet_days(&[("hysteresis.min_relative_advantage", "0"), stay]).await;
    ninety_quiet_days(&[("hysteresis.min_relative_advantage", "0.05"), stay]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_quiet_days_under_the_rules() {
    let simulation = Simulation::start(250, &[]).await;
    let sweeps = simulation.pass().await;
    let deployment = simulation.app.app.deployments.snapshot();
    let moves = simulation.compare(&deployment).await;
    assert!(moves > 100, "{moves} moves in {sweeps} sweeps");
    simulation.app.stop().await;
}

/// Two replicas sweep at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_work() {
    let simulation = Simulation::start(200, &[]).await;
    simulation.clock.store(START + 40 * MILLIS_PER_DAY, Ordering::Relaxed);
    let other = scheduled_rescorer(&simulation.app, 10);
    let (one, two) = tokio::join!(simulation.scheduled_rescorer.rescore_due(), other.rescore_due());
    let done = one.unwrap() + two.unwrap();
    // A replica leaves the customers that the other one has locked.
    assert_eq!(simulation.scheduled_rescorer.rescore_due().await.unwrap(), 0);
    assert!((150..=200).contains(&done), "{done} of 200 customers, most of whom are due");
    let deployment = simulation.app.app.deployments.snapshot();
    let mut moved = 0;
    for (customer, state) in &simulation.customers {
        let recorded = simulation.recorded(customer, deployment.generation).await;
        assert!(recorded.windows(2).all(|pair| pair[0].1 != pair[1].1), "{customer}: {recorded:?}");
        let row = state.feature_row(&deployment.features, simulation.app.app.clock.now());
        let segment =
            deployment.score_row(&row, &mut ScoringScratch::default()).segment_id.to_owned();
        assert_eq!(recorded.last().unwrap().1, segment, "{customer}");
        moved += recorded.len() as u64 - 1;
    }
    assert_eq!(simulation.app.metric("segmentd_scheduled_rescoring_moves_total").await, moved);
    simulation.app.stop().await;
}

/// The segment changes without an event, in the API and in the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_moves_without_an_event() {
    let (clock, handle) = TimeSource::manual(Timestamp::from_millis(START));
    let app = TestApp::start_at(clock, &[("scheduled_rescoring.poll_seconds", "1")]).await;
    let order = |id: &str, at: i64| {
        json!({
            "type": "track", "name": "Order Completed", "customer_id": "quiet", "message_id": id,
            "timestamp": Timestamp::from_millis(at), "properties": { "sales_value": 20, "lines": 2 },
        })
        .to_string()
    };
    let mut database = sqlx::PgConnection::connect(app.database_url()).await.unwrap();
    let mut due = async || -> i64 {
        let sql = "select (extract(epoch from next_rescore_at) * 1000)::bigint from customer";
        sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap()
    };
    app.post("/v1/events", order("first", START)).await;
    let due_first = due().await;
    assert!(due_first > START);
    // An event that only postpones the rescoring does not update the column, nor its index.
    handle.store(START + 3_600_000, Ordering::Relaxed);
    app.post("/v1/events", order("second", START + 3_600_000)).await;
    assert_eq!(due().await, due_first);
    let (_, history) = app.get("/v1/customers/quiet/history").await;
    assert_eq!(history["changes"].as_array().unwrap().len(), 1, "{history}");

    let later = START + 30 * MILLIS_PER_DAY;
    handle.store(later, Ordering::Relaxed);
    eventually("the customer moves", async || {
        app.metric("segmentd_scheduled_rescoring_moves_total").await > 0
    })
    .await;
    let (_, history) = app.get("/v1/customers/quiet/history").await;
    let changes = history["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "{history}");
    assert_eq!(changes[0]["assigned_at"], json!(Timestamp::from_millis(later)));
    assert_ne!(changes[0]["segment_id"], changes[1]["segment_id"]);
    let (_, feed) = app.get("/v1/changes").await;
    assert_eq!(feed["changes"][1]["previous"]["segment_id"], changes[1]["segment_id"], "{feed}");
    assert!(due().await > later);
    let (_, metrics) = app.admin("/metrics").await;
    assert!(metrics.contains("segmentd_scheduled_rescoring_delay_seconds "), "{metrics}");
    app.stop().await;
}
