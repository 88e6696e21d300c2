//! `SIGKILL` during a bulk load: every acknowledged event is stored once.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::support::process::Process;
use crate::support::{ndjson, open_to_all, orders};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_are_stored_once_after_a_kill() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let key = Process::key(state.path(), None);
    let mut process = Process::start(state.path(), None);
    let events = orders(3000, 4);
    let lines = ndjson(&events);
    let client = reqwest::Client::new();
    let bulk = |url: &str| client.post(format!("{url}/v1/events/bulk")).bearer_auth(&key);

    // Killed after the first verdicts.
    let answer = bulk(&process.url).body(lines.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut verdicts = answer.bytes_stream();
    let mut received = Vec::new();
    while let Some(Ok(chunk)) = verdicts.next().await {
        received.extend_from_slice(&chunk);
        process.kill();
    }
    let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let acknowledged = accepted(std::str::from_utf8(&received[..whole]).unwrap());
    assert!(!acknowledged.is_empty());
    assert!(acknowledged.len() < events.len(), "the load was over before the kill");

    // Sent again: no acknowledged event is counted again, and none is missing.
    let process = Process::start(state.path(), None);
    let again = bulk(&process.url).body(lines.clone()).send().await.unwrap().text().await.unwrap();
    let counted_now = accepted(&again);
    assert_eq!(counted_now.intersection(&acknowledged).count(), 0);
    assert_eq!(again.matches(r#""status":"rejected""#).count(), 0);
    let third = bulk(&process.url).body(lines).send().await.unwrap().text().await.unwrap();
    assert_eq!(third.matches(r#""status":"duplicate""#).count(), events.len());

    // Each customer state has each of its orders once.
    for customer in [0, 1, 2, 2999] {
        let url = format!("{}/v1/customers/c{customer:04}", process.url);
        let found: Value =
            client.get(url).bearer_auth(&key).send().await.unwrap().json().await.unwrap();
        assert_eq!(found["features"]["orders_365d"], f64::from(1 + 4 * (customer % 3)), "{found}");
    }
}

/// Message ids of accepted events.
fn accepted(verdicts: &str) -> HashSet<String> {
    verdicts
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|verdict| verdict["status"] == "accepted")
        .map(|verdict| verdict["message_id"].as_str().unwrap().to_owned())
        .collect()
}
