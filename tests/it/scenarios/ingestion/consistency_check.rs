//! The consistency check compares stored states with their events: mismatches are counted
//! and repaired, and events in progress cause none.

use std::sync::Arc;
use std::time::Duration;

use segmentd::domain::objective::ObjectiveTargets;
use segmentd::domain::time::Timestamp;
use segmentd::service::consistency_check::ConsistencyCheck;
use segmentd::telemetry::ServiceMetrics;
use segmentd::telemetry::labels::{StateMismatch, UncomparedReason};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::{TestApp, eventually, ndjson, orders};

const KINDS: [StateMismatch; 4] = [
    StateMismatch::Differs,
    StateMismatch::Missing,
    StateMismatch::Extra,
    StateMismatch::Unreadable,
];

/// A sampler with metrics of its own.
struct TestedSampler {
    sampler: ConsistencyCheck,
    metrics: Arc<ServiceMetrics>,
}

/// A sampler that takes every customer.
fn sampler(app: &TestApp) -> TestedSampler {
    let metrics = ServiceMetrics::new(Timestamp::default(), ObjectiveTargets::default()).unwrap();
    let metrics = Arc::new(metrics);
    let (db, live) = (app.db.read().clone(), Arc::clone(&app.app.deployments));
    let sampler =
        ConsistencyCheck::new(db, live, Duration::from_secs(1), 10_000, Arc::clone(&metrics));
    TestedSampler { sampler, metrics }
}

fn mismatches(sampler: &TestedSampler) -> [u64; 4] {
    KINDS.map(|kind| sampler.metrics.consistency_check.mismatched.get(kind))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_progress_are_no_mismatch() {
    let app = TestApp::start().await;
    let mut events = orders(60, 2);
    app.post("/v1/events/bulk", ndjson(&events)).await;
    let sampler = sampler(&app);
    // The rounds, not the events, say when it ends: events arrive during each of them.
    let send = async {
        for part in 0.. {
            for (place, event) in events.iter_mut().enumerate() {
                event["message_id"] = json!(format!("order-{place}-again-{part}"));
            }
            let (status, _) = app.post("/v1/events/bulk", ndjson(&events)).await;
            assert_eq!(status, 200);
        }
    };
    let sample = async {
        while sampler.metrics.consistency_check.compared.get() < 600 {
            sampler.sampler.run_round().await.unwrap();
        }
    };
    tokio::select! {
        () = send => {}
        () = sample => {}
    }
    assert_eq!(mismatches(&sampler), [0; 4]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_mismatch_is_counted_and_repaired() {
    let settings = [
        ("consistency_check.interval_seconds", "1"),
        ("consistency_check.customers_per_sample", "1000"),
    ];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(60, 4))).await;
    let healthy = sampler(&app);
    healthy.sampler.run_round().await.unwrap();
    // Each customer is compared by state, and again by events.
    assert_eq!(healthy.metrics.consistency_check.compared.get(), 120);
    assert_eq!(mismatches(&healthy), [0; 4]);
    let whole = app.states_digest().await;

    let mut connection = PgConnection::connect(&app.database_url).await.unwrap();
    for statement in [
        // The state of another customer, a changed byte, no state, no events, an event of
        // an unknown type, a state of other features.
        "update customer set state = (select state from customer where customer_id = 'c0011')
         where customer_id = 'c0001'",
        "update customer set state = set_byte(state, length(state) - 1, 255)
         where customer_id = 'c0002'",
        "delete from customer where customer_id = 'c0003'",
        "delete from event where customer_id = 'c0004'",
        "update event set kind = 'nothing' where customer_id = 'c0005'",
        "update customer set state = set_byte(state, 1, 255 - get_byte(state, 1))
         where customer_id = 'c0006'",
    ] {
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0);
    }
    let round = sampler(&app);
    round.sampler.run_round().await.unwrap();
    assert_eq!(mismatches(&round), [2, 1, 1, 1]);
    assert_eq!(round.metrics.consistency_check.uncompared.get(UncomparedReason::OtherFeatures), 1);
    // The background job of the service finds them too.
    for kind in ["differs", "missing", "extra", "unreadable"] {
        let name = format!("segmentd_consistency_check_mismatches_total{{kind=\"{kind}\"}}");
        eventually("the service counts the mismatch", async || app.metric(&name).await > 0).await;
    }

    // One customer is checked and repaired.
    let (_, output) = app.command(&["backfill", "--customer", "c0001"]).await;
    assert!(output.starts_with("rebuilt; feature: stored value, value from events\n"), "{output}");
    assert!(output.contains("spend_365d: "), "{output}");
    let (ok, output) = app.command(&["backfill", "--customer", "c0001"]).await;
    assert!(ok && output.starts_with("unchanged"), "{output}");
    assert!(!app.command(&["backfill", "--customer", "nobody"]).await.0);

    // Then all customers: those without readable events are left unchanged, and reported.
    let (ok, output) = app.command(&["backfill", "--all"]).await;
    assert!(output.contains("rebuilt 3, unchanged 55, failed 2"), "{output}");
    assert!(!ok);
    let round = sampler(&app);
    round.sampler.run_round().await.unwrap();
    assert_eq!(mismatches(&round), [0, 0, 1, 1]);
    assert_eq!(app.states_digest().await, whole);
    app.stop().await;
}
