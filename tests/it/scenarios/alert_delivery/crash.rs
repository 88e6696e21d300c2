//! Notifications while replicas are killed and Postgres crashes: every message arrives, in
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use segmentd::config::{AppConfig, Environment};
use segmentd::domain::drift::Severity;
use segmentd::domain::objective::ObjectiveTargets;
use segmentd::service::ServiceError;
use segmentd::service::alerts::AlertService;
use segmentd::service::clock::TimeSource;
use segmentd::store::DatabaseHandle;
use segmentd::store::database::connect::ConnectionSettings;
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use segmentd::telemetry::ServiceMetrics;
use serde_json::json;

use crate::support::alerting::found;
use crate::support::process::{Process, end_postgres_at_once};
use crate::support::webhook_receiver::{Behaviour, WebhookReceiver};
use crate::support::{TestApp, eventually, eventually_within, open_to_all};

const SERVER: PrivateServerSettings =
    PrivateServerSettings { binaries: None, max_connections: 100 };
/// The claim of a killed replica expires after three seconds.
const SETTINGS: [&str; 4] = [
    "alerts.poll_seconds=1",
    "alerts.allow_private_addresses=true",
    "alerts.timeout_seconds=2",
    "alerts.claim_timeout_seconds=3",
];
const KEYS: usize = 12;
const ROUNDS: usize = 8;

/// A connection of a replica to the database.
async fn connect(database: &str) -> DatabaseHandle {
    let connection = ConnectionSettings {
        url: database.to_owned(),
        max_connections: 6,
        acquire_timeout: Duration::from_secs(3),
        time_limits: segmentd::config::DatabaseTimeLimits::default(),
    };
    DatabaseHandle::connect(&connection).await.unwrap()
}

/// The alert service of a replica.
fn alert_service(db: DatabaseHandle) -> AlertService {
    let config = AppConfig::load_from(None, &Environment::default(), &[]).unwrap();
    let metrics =
        ServiceMetrics::new(TimeSource::System.now(), ObjectiveTargets::default()).unwrap();
    AlertService::new(db, TimeSource::System, config.alerts, Arc::new(metrics))
}

/// Raises or resolves the alert, and retries until the transaction is committed.
async fn turn(alerts: &AlertService, key: &str, fires: bool) {
    eventually("the change of the alert is committed", async || {
        let outcome = if fires {
            alerts.raise_in_own_transaction(&found(key, Severity::Warning, None)).await
        } else {
            alerts.resolve_in_own_transaction(key, "it is back").await
        };
        match outcome {
            Ok(()) => true,
            // The outcome of this commit is unknown. A repetition is idempotent.
            Err(ServiceError::Unavailable(_)) => false,
            Err(error) => panic!("{error:?}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_arrives_in_order_although_replicas_and_postgres_are_killed() {
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = place.path().join("server");
    std::fs::create_dir(&server).unwrap();
    std::fs::set_permissions(&server, open_to_all()).unwrap();
    let postgres = PrivatePostgres::start(&server, &SERVER).await.unwrap();
    let database = postgres.url();
    let start = || Process::start_with(place.path(), Some(&database), &SETTINGS);
    let mut processes = [start(), start()];
    let key = Process::key(place.path(), Some(&database));
    let (one, two) = tokio::join!(WebhookReceiver::start(), WebhookReceiver::start());
    let client = reqwest::Client::new();
    for (name, receiver) in [("one", &one), ("two", &two)] {
        // Slow enough that kills happen during deliveries.
        receiver.set(Behaviour::Accepts(15));
        let channel = json!({ "name": name, "target": { "kind": "webhook", "url": receiver.url } });
        let url = format!("{}/v1/channels", processes[0].url);
        eventually("the key is known", async || {
            let sent = client.post(&url).bearer_auth(&key).body(channel.to_string()).send().await;
            sent.unwrap().status() == 201
        })
        .await;
    }

    let db = connect(&database).await;
    let alerts = alert_service(db.clone());
    let total = KEYS * ROUNDS * 2;
    let finds = async {
        for _ in 0..ROUNDS {
            for fires in [true, false] {
                for number in 0..KEYS {
                    turn(&alerts, &format!("source:{number}"), fires).await;
                }
            }
            // A sleep, because it paces the load: the failures below fall between rounds too.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let until = async |share: usize| {
        eventually_within(Duration::from_mins(5), "this share of messages arrives", async || {
            one.accepted().len() >= total * share / 10
        })
        .await;
    };
    let crashes = async {
        // Kills during deliveries.
        for share in [1, 2, 3] {
            until(share).await;
            processes[share % 2].kill();
            processes[share % 2] = start();
        }
        until(5).await;
        end_postgres_at_once(&server);
        postgres.stop().await.unwrap();
        let restarted = PrivatePostgres::start(&server, &SERVER).await.unwrap();
        until(7).await;
        // No replica runs for a while.
        for process in &mut processes {
            process.kill();
        }
        // A sleep, because it is the length of the outage.
        tokio::time::sleep(Duration::from_millis(500)).await;
        processes = [start(), start()];
        restarted
    };
    let ((), postgres) = tokio::join!(finds, crashes);

    for receiver in [&one, &two] {
        let distinct =
            || receiver.accepted().into_iter().map(|message| message.id).collect::<BTreeSet<_>>();
        eventually("every message arrives", async || distinct().len() >= total).await;
        let mut first = BTreeSet::new();
        let mut by_key = BTreeMap::<String, Vec<String>>::new();
        for message in receiver.accepted() {
            if first.insert(message.id.clone()) {
                by_key
                    .entry(message.field("key").to_owned())
                    .or_default()
                    .push(message.body["type"].as_str().unwrap().to_owned());
            }
        }
        let expected = ["source.firing", "source.resolved"].repeat(ROUNDS);
        assert_eq!(by_key.len(), KEYS);
        for (key, answer) in by_key {
            assert_eq!(answer, expected, "{key}");
        }
        // Only messages in delivery during a kill or the end of Postgres may arrive twice.
        let twice = receiver.accepted().len() - total;
        assert!(twice <= 8, "{twice} messages came twice");
    }
    drop(processes);
    db.close().await;
    postgres.stop().await.unwrap();
}

/// Two replicas raise the same alerts at the same time, and both sweep for notifications.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_send_each_notification_once() {
    let settings = [
        ("alerts.poll_seconds", "1"),
        ("alerts.allow_private_addresses", "true"),
        ("alerts.timeout_seconds", "2"),
    ];
    let one = TestApp::start_with(&settings).await;
    let two = one.replica_with(&settings).await;
    let receiver = WebhookReceiver::start().await;
    receiver.set(Behaviour::Accepts(5));
    let body = json!({ "name": "x", "target": { "kind": "webhook", "url": receiver.url } });
    assert_eq!(one.post("/v1/channels", body.to_string()).await.0, 201);
    let keys: Vec<String> = (0..20).map(|number| format!("source:{number}")).collect();
    for fires in [true, false] {
        let both = [&one, &two, &one, &two].map(async |replica| {
            for key in &keys {
                turn(&replica.app.alerts, key, fires).await;
                replica.app.alerts.notify_due_alerts().await.unwrap();
            }
        });
        futures_util::future::join_all(both).await;
    }
    eventually("all notifications arrive", async || receiver.accepted().len() >= 40).await;
    // A sleep, because it proves a negative: no message arrives twice.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(receiver.received().len(), 40, "{:?}", receiver.summaries());
    let ids: BTreeSet<String> = receiver.received().into_iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), 40);
    for key in &keys {
        let says = receiver.summaries();
        let of: Vec<_> =
            says.iter().filter(|output| output.ends_with(&format!(" of {key}"))).collect();
        assert_eq!(of.len(), 2, "{of:?}");
        assert!(of[0].starts_with("source.firing") && of[1].starts_with("source.resolved"));
    }
    two.stop().await;
    one.stop().await;
}
