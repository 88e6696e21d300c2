//! A system clock that is wrong for a while: events are refused meanwhile, timestamps in
//! the future block nothing, and `segmentd repair clock` corrects them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use segmentd::store::alerting::alarms;
use segmentd::store::alerting::alarms::Job;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::support::{TestApp, eventually, ndjson, orders};

/// Longer than the test takes, because its clock does not advance by itself.
const TOLERANCE_SECONDS: &str = "900";
const AHEAD_DAYS: i64 = 40;

struct Hand(Arc<AtomicI64>);

impl Hand {
    fn ahead(&self) {
        self.0.fetch_add(AHEAD_DAYS * MILLIS_PER_DAY, Ordering::Relaxed);
    }

    fn back(&self) {
        self.0.fetch_sub(AHEAD_DAYS * MILLIS_PER_DAY, Ordering::Relaxed);
    }
}

async fn start(settings: &[(&str, &str)]) -> (TestApp, Hand) {
    let (clock, hand) = TimeSource::manual(TimeSource::System.now());
    let settings =
        [&[("alerts.poll_seconds", "1"), ("scheduled_rescoring.poll_seconds", "1")], settings];
    (TestApp::start_at(clock, &settings.concat()).await, Hand(hand))
}

fn order(customer: &str, id: &str) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": id, "customer_id": customer,
        "properties": { "store_id": "1", "sales_value": 12, "lines": 2 },
    })
}

async fn skew_seconds(app: &TestApp) -> f64 {
    let (_, text) = app.admin("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix("segmentd_clock_skew_seconds "));
    line.unwrap().parse().unwrap()
}

async fn ran_at(app: &TestApp, job: Job) -> Option<Timestamp> {
    alarms::last_run_at(app.db.read(), job).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_clock_is_wrong_events_are_refused_and_rows_are_scored() {
    let settings = [("clock.tolerance_seconds", TOLERANCE_SECONDS), ("clock.check_seconds", "1")];
    let (app, hand) = start(&settings).await;
    let send = async |id: &str| app.post("/v1/events", order("c1", id).to_string()).await;
    assert_eq!(send("first").await.0, 200);
    let row = json!({ "features": { "recency_days": 3 } }).to_string();
    let real = TimeSource::System.now();
    eventually("the first round of work is over", async || {
        ran_at(&app, Job::Retention).await.is_some()
    })
    .await;
    for direction in [AHEAD_DAYS, -AHEAD_DAYS] {
        let move_by = direction * MILLIS_PER_DAY;
        hand.0.fetch_add(move_by, Ordering::Relaxed);
        // Immediately, not at the next reading of the database clock.
        let (status, problem) = send("second").await;
        assert_eq!(status, 503, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("the clock of this server differs from its database's"),
            "{detail}"
        );
        let lines = ndjson(&[order("c1", "third")]);
        assert_eq!(app.post("/v1/events/bulk", lines).await.1["accepted"], Value::Null);
        let body = json!({ "type": "track", "event": "Order Completed", "userId": "c1" });
        assert_eq!(app.post("/v1/track", body.to_string()).await.0, 503);
        assert_eq!(app.post("/v1/score", row.clone()).await.0, 200);
        let (status, ready) = app.admin("/readyz?verbose").await;
        assert_eq!((status, ready.contains("[-] clock")), (200, true), "{ready}");
        let expected = 86_400.0 * f64::from(i32::try_from(direction).unwrap());
        assert!((skew_seconds(&app).await - expected).abs() < 900.0);
        // A sleep, because it proves a negative: scheduled jobs, due every second, do not run.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for job in [Job::Check, Job::KeepAlive, Job::Retention] {
            let at = ran_at(&app, job).await;
            let error = at.map_or(0, |at| (at.millis() - real.millis()).abs());
            assert!(error < 900_000, "{job:?} ran at {at:?}");
        }
        hand.0.fetch_sub(move_by, Ordering::Relaxed);
        assert_eq!(send("second").await.0, 200);
    }
    let (_, features) = app.get("/v1/customers/c1").await;
    assert_eq!(features["features"]["orders"].as_f64(), Some(2.0), "{features}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_ran_in_the_future_run_again_at_once() {
    let (app, hand) = start(&[]).await;
    let now = TimeSource::System.now();
    hand.ahead();
    let jobs = [Job::Check, Job::KeepAlive, Job::Retention];
    let all = async |is_right: &dyn Fn(Timestamp) -> bool| {
        app.app.sources.check_sources().await.unwrap();
        let mut all = true;
        for job in jobs.into_iter().chain([Job::Sources]) {
            all &= ran_at(&app, job).await.is_some_and(is_right);
        }
        all
    };
    let later = now.plus_millis(MILLIS_PER_DAY);
    eventually("the jobs ran in the future", async || all(&|at| at > later).await).await;
    hand.back();
    eventually("the jobs run now", async || all(&|at| at < later).await).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_clock_finds_and_corrects_timestamps_of_a_wrong_clock() {
    let (app, hand) = start(&[("training.minimum_customers", "100")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(200, 5))).await;
    app.train().await;
    let send = async |customer: &str, id: &str| {
        let (status, answer) = app.post("/v1/events", order(customer, id).to_string()).await;
        assert_eq!(status, 200, "{answer}");
    };
    let features = async |customer: &str| {
        app.get(&format!("/v1/customers/{customer}")).await.1["features"].clone()
    };
    for id in ["one", "two"] {
        send("right", &format!("right-{id}")).await;
        send("wrong", &format!("wrong-{id}")).await;
    }
    send("right", "right-three").await;
    let right = features("right").await;
    hand.ahead();
    send("wrong", "wrong-three").await;
    eventually("jobs ran in the future", async || {
        ran_at(&app, Job::KeepAlive)
            .await
            .is_some_and(|at| at > TimeSource::System.now().plus_millis(MILLIS_PER_DAY))
    })
    .await;
    // Otherwise the keep-alive job would correct its own timestamp while the command runs.
    hand.back();
    let wrong = features("wrong").await;
    assert_ne!(wrong, right, "it holds an order of the future");
    let before = app.states_digest().await;

    let (done, output) = app.command(&["repair", "clock"]).await;
    assert!(done, "{output}");
    assert!(output.contains("events: 1\n"), "{output}");
    assert!(output.contains("customers with such a timestamp in their state: 1\n"), "{output}");
    assert!(output.contains("customer.assigned_at: "), "{output}");
    assert!(output.contains("nothing was changed"), "{output}");
    assert_eq!(app.states_digest().await, before);

    let ahead = (AHEAD_DAYS * 86_400).to_string();
    let (done, output) =
        app.command(&["repair", "clock", "--apply", "--ahead-seconds", &ahead]).await;
    assert!(done, "{output}");
    assert!(output.contains("rebuilt 1, unchanged 0, failed 0"), "{output}");
    let mended = features("wrong").await;
    for (name, value) in right.as_object().unwrap() {
        let (mended, value) = (mended[name].as_f64(), value.as_f64());
        let (mended, value) = (mended.unwrap_or(-1.0), value.unwrap_or(-1.0));
        assert!((mended - value).abs() < 0.01, "{name}: {mended}, not {value}");
    }
    let (_, output) = app.command(&["repair", "clock"]).await;
    assert!(output.contains("events: 0\n") && !output.contains("assigned_at"), "{output}");
    // A cached state of the customer does not overwrite the repaired one.
    send("wrong", "wrong-four").await;
    assert_eq!(features("wrong").await["orders"].as_f64(), Some(4.0));
    app.stop().await;
}

/// A timestamp column that `stored_instants()` does not list would not be repaired.
#[tokio::test(flavor = "multi_thread")]
async fn repair_clock_covers_every_stored_timestamp() {
    let app = TestApp::start().await;
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    let differing = sqlx::query(
        "select coalesce(stored, known) as instant, known is null as is_unknown
         from (select table_name || '.' || column_name as stored
               from information_schema.columns
                    join information_schema.tables using (table_schema, table_name)
               where table_schema = 'public' and data_type = 'timestamp with time zone'
                     and table_type = 'BASE TABLE'
                     and table_name !~ '^(assignment_history_|_sqlx_)') as columns
              full join (select table_name || '.' || column_name as known
                         from stored_instants()) as listed on stored = known
         where stored is null or known is null order by 1",
    );
    let differing: Vec<(String, bool)> = differing
        .fetch_all(&mut connection)
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get("instant"), row.get("is_unknown")))
        .collect();
    assert_eq!(differing, [], "see stored_instants() in migrations/");
    app.stop().await;
}
