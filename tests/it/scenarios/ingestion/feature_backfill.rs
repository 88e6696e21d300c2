//! Back-fill after a change of the features: states are rebuilt once each while events
//! arrive, and after kills.

use std::path::Path;
use std::process::Stdio;

use futures_util::TryStreamExt as _;
use segmentd::domain::feature::CustomerState;
use segmentd::store::customers;
use segmentd::store::customers::backfill::{ClaimedRange, open_ranges};
use segmentd::store::customers::rebuild::{EventCutoff, EventPage, EventPages, StateSnapshot};
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, ndjson, orders};

const RETAIL: &str = include_str!("../../../../config/features.retail.toml");

/// Scheduled rescoring also rebuilds unreadable states. Here the back-fill is to do it.
const NO_RECHECK: (&str, &str) = ("scheduled_rescoring.poll_seconds", "3600");

/// Writes the retail features and one more to a file; returns its path.
fn with_feature(directory: &Path, name: &str) -> String {
    let file = directory.join(format!("{name}.toml"));
    let more = format!(
        r#"
[[feature]]
name = "{name}"
title = "Orders ever"
unit = "orders"
owner = "crm@example.com"
sensitivity = "internal"
fold = "count"
from = {{ kind = "track", name = "Order Completed" }}
"#
    );
    std::fs::write(&file, RETAIL.replacen("\n[rfm]", &format!("{more}\n[rfm]"), 1)).unwrap();
    file.display().to_string()
}

/// The numbers of rebuilt, unchanged and failed customers in the output.
fn counts(output: &str) -> [u64; 3] {
    let line = output.lines().find(|line| line.starts_with("rebuilt")).unwrap();
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap()
}

/// The number of states with the features of `app`; each of them equals the replay of its
/// events.
async fn rebuilt(app: &TestApp) -> usize {
    let set = &app.app.deployments.snapshot().features;
    let states: Vec<_> = customers::stream_states(app.db.read()).try_collect().await.unwrap();
    let mut rebuilt = 0;
    for stored in states {
        if CustomerState::from_bytes(set, &stored.state).is_ok() {
            let mut snapshot = StateSnapshot::open(app.db.read()).await.unwrap();
            let all = EventPages::open(&mut snapshot, &stored.customer, EventCutoff::default());
            let (mut pages, mut events) = (all.await.unwrap(), Vec::new());
            while let Some(page) = pages.next_page(&mut snapshot).await.unwrap() {
                let EventPage { customer, events: of_page } = page;
                events.extend(of_page.into_iter().map(|event| event.read(&customer).unwrap()));
            }
            assert_eq!(CustomerState::replay(set, &events).to_bytes(set), stored.state);
            rebuilt += 1;
        }
    }
    rebuilt
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_rebuilt_while_events_arrive() {
    let files = tempfile::tempdir().unwrap();
    let first = TestApp::start_with(&[NO_RECHECK]).await;
    let before = orders(300, 3);
    first.post("/v1/events/bulk", ndjson(&before)).await;
    let before_count = before.len();

    // With one more feature, and new events of known and new customers meanwhile. The first
    // 150 customers send none, so that the backfill finds work however late it starts.
    let setting = with_feature(files.path(), "orders_ever");
    let app = first.replica_with(&[NO_RECHECK, ("features.file", &setting)]).await;
    let file = format!("features.file={setting}");
    let rebuild = ["--set", &file, "backfill"];
    let more: Vec<Value> = (0..600)
        .map(|n| {
            json!({
                "type": "track", "name": "Order Completed", "message_id": format!("more-{n}"),
                "customer_id": format!("c{:04}", 150 + n % 180), "properties": { "sales_value": 2.5 },
            })
        })
        .collect();
    let send = async {
        for part in more.chunks(10) {
            let (status, _) = app.post("/v1/events/bulk", ndjson(part)).await;
            assert_eq!(status, 200);
        }
    };
    let backfill = app.command(&rebuild);
    let ((), (ok, output)) = tokio::join!(send, backfill);
    assert!(ok, "{output}");
    let [by_this, _, failed] = counts(&output);
    assert!(by_this > 0 && failed == 0, "{output}");
    assert_eq!(rebuilt(&app).await, 330);

    // Nothing is lost: the orders of all customers add up.
    let mut orders_ever = 0;
    for customer in 0..330 {
        let (_, found) = app.get(&format!("/v1/customers/c{customer:04}/features")).await;
        assert_eq!(found["replayed_events"], Value::Null, "read from the stored state");
        let orders = found["features"]["orders_ever"].to_string();
        orders_ever += orders.trim_end_matches(".0").parse::<usize>().unwrap();
    }
    assert_eq!(orders_ever, before_count + more.len());
    let (_, output) = app.command(&rebuild).await;
    assert_eq!(counts(&output), [0, 330, 0]);
    app.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_back_fills_share_the_work_and_resume_after_a_kill() {
    let files = tempfile::tempdir().unwrap();
    let first = TestApp::start_with(&[NO_RECHECK]).await;
    first.post("/v1/events/bulk", ndjson(&orders(2500, 1))).await;
    let setting = with_feature(files.path(), "orders_two");
    let app = first.replica_with(&[NO_RECHECK, ("features.file", &setting)]).await;
    let file = format!("features.file={setting}");

    // A slow back-fill is killed after it has begun.
    let pause = ["--set", &file, "--set", "bulk_rescoring.pause_ratio=100", "backfill"];
    let mut slow =
        app.start_command(&pause).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the back-fill has begun", async || rebuilt(&app).await > 0).await;
    slow.kill().await.unwrap();
    let done = rebuilt(&app).await as u64;
    assert!(done < 2500, "all done before the kill");

    // Two at once rebuild the rest, each customer once.
    let other = ["--set", &file, "--set", "bulk_rescoring.pause_ratio=0", "backfill"];
    let (one, two) = tokio::join!(app.command(&other), app.command(&other));
    assert!(one.0 && two.0, "{} {}", one.1, two.1);
    assert_eq!(counts(&one.1)[0] + counts(&two.1)[0], 2500 - done);
    assert_eq!(rebuilt(&app).await, 2500);

    // A repair of all customers skips a range that another process has claimed; the claim
    // of a killed process is released.
    let features = &app.app.deployments.snapshot().features;
    let mut tx = app.db.begin().await.unwrap();
    let ranges = open_ranges(&mut tx, features, app.app.ingestion.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((ranges.open_ranges, ranges.is_new), (3, true));
    let claimed = ClaimedRange::claim(&app.db, features).await.unwrap().unwrap();
    let all = ["--set", &file, "backfill", "--all"];
    let (_, output) = app.command(&all).await;
    assert_eq!(counts(&output), [0, 1500, 0], "{output}");
    drop(claimed);
    let (_, output) = app.command(&all).await;
    assert!(output.contains("1 ranges left"), "{output}");
    assert_eq!(counts(&output), [0, 1000, 0], "{output}");
    let (_, output) = app.command(&all).await;
    assert_eq!(counts(&output), [0, 2500, 0], "{output}");
    app.stop().await;
    first.stop().await;
}
