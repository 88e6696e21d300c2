//! Stored states beside their events: a fault is found and repaired, and events
//! on their way are never taken for one.

use std::sync::Arc;
use std::time::Duration;

use segmentd::domain::objective::Objectives;
use segmentd::domain::time::Timestamp;
use segmentd::service::consistency_check::Sampler;
use segmentd::telemetry::Metrics;
use segmentd::telemetry::labels::{Mismatch, Uncompared};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::{TestApp, ndjson, orders};

const KINDS: [Mismatch; 4] =
    [Mismatch::Differs, Mismatch::Missing, Mismatch::Extra, Mismatch::Unreadable];

/// One that takes all, as the table is small.
fn sampler(app: &TestApp) -> Sampler {
    Sampler {
        db: app.db.read().clone(),
        live: Arc::clone(&app.app.live),
        every: Duration::from_secs(1),
        customers: 10_000,
        metrics: Arc::new(Metrics::new(Timestamp::default(), Objectives::default()).unwrap()),
    }
}

fn mismatches(sampler: &Sampler) -> [u64; 4] {
    KINDS.map(|kind| sampler.metrics.skew.mismatched.get(kind))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_on_their_way_are_no_mismatch() {
    let app = TestApp::start().await;
    let events = orders(60, 30);
    app.post("/v1/events/bulk", ndjson(&events[..100])).await;
    let sampler = sampler(&app);
    let send = async {
        for part in events[100..].chunks(40) {
            let (status, _) = app.post("/v1/events/bulk", ndjson(part)).await;
            assert_eq!(status, 200);
        }
    };
    let sample = async {
        loop {
            sampler.run().await.unwrap();
        }
    };
    tokio::select! {
        () = send => {}
        () = sample => {}
    }
    assert!(sampler.metrics.skew.compared.get() > 120);
    assert_eq!(mismatches(&sampler), [0; 4]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_mismatch_is_counted_and_repaired() {
    let settings = [("skew.every_seconds", "1"), ("skew.customers", "1000")];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(60, 4))).await;
    let healthy = sampler(&app);
    healthy.run().await.unwrap();
    // By their states, and again by their events.
    assert_eq!(healthy.metrics.skew.compared.get(), 120);
    assert_eq!(mismatches(&healthy), [0; 4]);
    let whole = app.states_digest().await;

    let mut connection = PgConnection::connect(&app.database_url).await.unwrap();
    for statement in [
        // Another's state; a byte of it; none; no events; an event of no kind; a
        // state of other features.
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
    round.run().await.unwrap();
    assert_eq!(mismatches(&round), [2, 1, 1, 1]);
    assert_eq!(round.metrics.skew.uncompared.get(Uncompared::OtherFeatures), 1);
    // And the service finds them by itself.
    for kind in ["differs", "missing", "extra", "unreadable"] {
        let name = format!("segmentd_skew_mismatched_total{{kind=\"{kind}\"}}");
        while app.metric(&name).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    // One is looked at, and repaired.
    let (_, said) = app.command(&["backfill", "--customer", "c0001"]).await;
    assert!(said.starts_with("rebuilt: as stored, and as the events say\n"), "{said}");
    assert!(said.contains("spend_365d: "), "{said}");
    let (ok, said) = app.command(&["backfill", "--customer", "c0001"]).await;
    assert!(ok && said.starts_with("unchanged"), "{said}");
    assert!(!app.command(&["backfill", "--customer", "nobody"]).await.0);

    // Then all: what has no readable events is left as it is, and said.
    let (ok, said) = app.command(&["backfill", "--all"]).await;
    assert!(said.contains("rebuilt 3, unchanged 55, failed 2"), "{said}");
    assert!(!ok);
    let round = sampler(&app);
    round.run().await.unwrap();
    assert_eq!(mismatches(&round), [0, 0, 1, 1]);
    assert_eq!(app.states_digest().await, whole);
    app.stop().await;
}
