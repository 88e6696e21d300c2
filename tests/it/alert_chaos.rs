//! Killed replicas and a Postgres that ends: every message comes, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use segmentd::config::{Config, Environment};
use segmentd::domain::drift::Severity;
use segmentd::domain::objective::Objectives;
use segmentd::service::ServiceError;
use segmentd::service::alerts::{Alerts, Voice};
use segmentd::service::clock::Clock;
use segmentd::store::Db;
use segmentd::store::database::connect::Connection;
use segmentd::store::database::private::{PrivatePostgres, Settings};
use segmentd::telemetry::Metrics;
use serde_json::json;
use tokio::sync::Notify;

use crate::law::end_at_once;
use crate::support::hook::{Hook, Mood};
use crate::support::house::found;
use crate::support::process::Process;
use crate::support::{TestApp, eventually, open_to_all};

const SERVER: Settings = Settings { binaries: None, max_connections: 100 };
/// A replica that was killed is missed after three seconds.
const SETTINGS: [&str; 4] = [
    "alerts.poll_seconds=1",
    "alerts.allow_private_addresses=yes",
    "alerts.timeout_seconds=2",
    "alerts.claim_seconds=3",
];
const KEYS: usize = 12;
const ROUNDS: usize = 8;

/// As a replica that finds something has it.
async fn alerts(database: &str) -> Alerts {
    let connection = Connection {
        url: database.to_owned(),
        max_connections: 6,
        acquire_timeout: Duration::from_secs(3),
        time_limits: segmentd::config::TimeLimits::default(),
    };
    let config = Config::load_from(None, &Environment::default(), &[]).unwrap();
    Alerts {
        db: Db::connect(&connection).await.unwrap(),
        clock: Clock::System,
        settings: config.alerts,
        metrics: Arc::new(Metrics::new(Clock::System.now(), Objectives::default()).unwrap()),
        wake: Notify::new(),
    }
}

/// Raises and resolves until it is committed; whether it fires then.
async fn turn(alerts: &Alerts, key: &str, fires: bool) {
    loop {
        let once = async {
            let mut tx = alerts.db.begin().await?;
            if fires {
                alerts.raise(&mut tx, &found(key, Severity::Warning, None), Voice::Plain).await?;
            } else {
                alerts.resolve(&mut tx, key, "it is back").await?;
            }
            Ok::<_, ServiceError>(tx.commit().await?)
        };
        match once.await {
            Ok(()) => return,
            // Whether that was committed nobody knows; once more changes nothing.
            Err(ServiceError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_every_message_comes_in_order() {
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = place.path().join("server");
    std::fs::create_dir(&server).unwrap();
    std::fs::set_permissions(&server, open_to_all()).unwrap();
    let postgres = PrivatePostgres::start(&server, &SERVER).await.unwrap();
    let database = postgres.url();
    let start = || Process::start_with(place.path(), Some(&database), &SETTINGS);
    let mut processes = [start(), start()];
    let key = Process::key(place.path(), Some(&database));
    let (one, two) = tokio::join!(Hook::start(), Hook::start());
    let client = reqwest::Client::new();
    for (name, hook) in [("one", &one), ("two", &two)] {
        // Slow enough to be killed at it.
        hook.set(Mood::Takes(15));
        let wish = json!({ "name": name, "target": { "kind": "webhook", "url": hook.url } });
        let url = format!("{}/v1/channels", processes[0].url);
        eventually("the key is known", async || {
            let sent = client.post(&url).bearer_auth(&key).body(wish.to_string()).send().await;
            sent.unwrap().status() == 201
        })
        .await;
    }

    let alerts = alerts(&database).await;
    let total = KEYS * ROUNDS * 2;
    let finds = async {
        for _ in 0..ROUNDS {
            for fires in [true, false] {
                for number in 0..KEYS {
                    turn(&alerts, &format!("source:{number}"), fires).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let until = async |share: usize| {
        while one.taken().len() < total * share / 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let crashes = async {
        // In the middle of a message, again and again.
        for share in [1, 2, 3] {
            until(share).await;
            processes[share % 2].kill();
            processes[share % 2] = start();
        }
        until(5).await;
        end_at_once(&server);
        postgres.stop().await.unwrap();
        let restarted = PrivatePostgres::start(&server, &SERVER).await.unwrap();
        until(7).await;
        // Nobody is left for a while.
        for process in &mut processes {
            process.kill();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        processes = [start(), start()];
        restarted
    };
    let ((), postgres) = tokio::join!(finds, crashes);

    for hook in [&one, &two] {
        let distinct = || hook.taken().into_iter().map(|heard| heard.id).collect::<BTreeSet<_>>();
        eventually("every message comes", async || distinct().len() >= total).await;
        let mut first = BTreeSet::new();
        let mut by_key = BTreeMap::<String, Vec<String>>::new();
        for heard in hook.taken() {
            if first.insert(heard.id.clone()) {
                by_key
                    .entry(heard.field("key").to_owned())
                    .or_default()
                    .push(heard.body["type"].as_str().unwrap().to_owned());
            }
        }
        let expected = ["source.firing", "source.resolved"].repeat(ROUNDS);
        assert_eq!(by_key.len(), KEYS);
        for (key, told) in by_key {
            assert_eq!(told, expected, "{key}");
        }
        // Twice only what was on its way when somebody was killed, or Postgres ended.
        let twice = hook.taken().len() - total;
        assert!(twice <= 8, "{twice} messages came twice");
    }
    drop(processes);
    alerts.db.close().await;
    postgres.stop().await.unwrap();
}

/// Two replicas find the same at the same time, and both look for what is to be sent.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_nothing_twice() {
    let settings = [
        ("alerts.poll_seconds", "1"),
        ("alerts.allow_private_addresses", "yes"),
        ("alerts.timeout_seconds", "2"),
    ];
    let one = TestApp::start_with(&settings).await;
    let two = one.replica_with(&settings).await;
    let hook = Hook::start().await;
    hook.set(Mood::Takes(5));
    let wish = json!({ "name": "x", "target": { "kind": "webhook", "url": hook.url } });
    assert_eq!(one.post("/v1/channels", wish.to_string()).await.0, 201);
    let keys: Vec<String> = (0..20).map(|number| format!("source:{number}")).collect();
    for fires in [true, false] {
        let both = [&one, &two, &one, &two].map(async |replica| {
            for key in &keys {
                turn(&replica.app.alerts, key, fires).await;
                replica.app.alerts.sweep().await.unwrap();
            }
        });
        futures_util::future::join_all(both).await;
    }
    eventually("all is told", async || hook.taken().len() >= 40).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(hook.heard().len(), 40, "{:?}", hook.says());
    let ids: BTreeSet<String> = hook.heard().into_iter().map(|heard| heard.id).collect();
    assert_eq!(ids.len(), 40);
    for key in &keys {
        let says = hook.says();
        let of: Vec<_> = says.iter().filter(|said| said.ends_with(&format!(" of {key}"))).collect();
        assert_eq!(of.len(), 2, "{of:?}");
        assert!(of[0].starts_with("source.firing") && of[1].starts_with("source.resolved"));
    }
    two.stop().await;
    one.stop().await;
}
