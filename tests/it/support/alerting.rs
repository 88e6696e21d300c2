//! A program under test whose alerts and clock the test controls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use segmentd::config::{AlertSettings, AppConfig, DriftCheckSources, Environment};
use segmentd::domain::alert::AlertTopic;
use segmentd::domain::drift::Severity;
use segmentd::domain::time::Timestamp;
use segmentd::service::alerts::{AlertService, NewAlert};
use segmentd::service::clock::TimeSource;
use segmentd::service::drift::monitor::{DriftMonitor, DriftMonitorDependencies};
use serde_json::{Value, json};

use crate::support::webhook_receiver::WebhookReceiver;
use crate::support::{TestApp, eventually};

/// Background jobs run only when the test calls them; queued notifications are sent.
pub(crate) const BY_HAND: [(&str, &str); 6] = [
    ("alerts.poll_seconds", "3600"),
    ("alerts.allow_private_addresses", "true"),
    ("alerts.timeout_seconds", "2"),
    ("alerts.external_url", "https://segmentd.example.com/"),
    ("drift.flush_seconds", "86400"),
    ("drift.window_hours", "1"),
];

pub(crate) struct AlertingApp {
    pub(crate) app: TestApp,
    now: Arc<AtomicI64>,
}

impl AlertingApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Self::start`], with additional settings.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let (clock, now) = TimeSource::manual(TimeSource::System.now());
        let settings = [&BY_HAND, settings].concat();
        Self { app: TestApp::start_at(clock, &settings).await, now }
    }

    /// Moves the clock forward, and wakes the sender of notifications.
    pub(crate) fn pass(&self, seconds: i64) {
        self.now.fetch_add(1000 * seconds, Ordering::Relaxed);
        self.app.app.alerts.wake_delivery();
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    pub(crate) fn alerts(&self) -> &Arc<AlertService> {
        &self.app.app.alerts
    }

    /// Creates a webhook channel to `receiver` with additional fields; returns its id.
    pub(crate) async fn channel(
        &self,
        name: &str,
        receiver: &WebhookReceiver,
        more: Value,
    ) -> String {
        let mut body =
            json!({ "name": name, "target": { "kind": "webhook", "url": receiver.url } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, made) = self.app.post("/v1/channels", body.to_string()).await;
        assert_eq!(status, 201, "{made}");
        made["channel_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn raise(&self, found: &NewAlert) {
        raise(self.alerts(), found).await;
    }

    pub(crate) async fn resolve(&self, key: &str) {
        resolve(self.alerts(), key).await;
    }

    /// The firing alert with this key.
    pub(crate) async fn firing(&self, key: &str) -> Option<Value> {
        let (_, answer) = self.app.get("/v1/alerts").await;
        let alerts = answer["alerts"].as_array().unwrap();
        alerts.iter().find(|alert| alert["key"] == key).cloned()
    }

    /// The delivery log of the channel, once `until` holds for it.
    pub(crate) async fn log(&self, channel: &str, until: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut log = Vec::new();
        eventually("the delivery log is as expected", async || {
            let (_, answer) = self.app.get(&format!("/v1/channels/{channel}/deliveries")).await;
            log.clone_from(answer["deliveries"].as_array().unwrap());
            until(&log)
        })
        .await;
        log
    }
}

/// A drift monitor of this replica that checks `check_sources`.
pub(crate) fn watcher(app: &TestApp, check_sources: DriftCheckSources) -> DriftMonitor {
    let config = AppConfig::load_from(None, &Environment::default(), &[]).unwrap();
    DriftMonitor::new(DriftMonitorDependencies {
        db: app.db.clone(),
        clock: app.app.clock.clone(),
        settings: AlertSettings { drift_check_sources: check_sources, ..config.alerts },
        alerts: Arc::clone(&app.app.alerts),
        drift: Arc::clone(&app.app.drift),
        serving: Arc::clone(&app.app.deployments),
        metrics: Arc::clone(&app.app.metrics),
    })
}

pub(crate) async fn raise(alerts: &AlertService, found: &NewAlert) {
    alerts.raise_in_own_transaction(found).await.unwrap();
}

pub(crate) async fn resolve(alerts: &AlertService, key: &str) {
    alerts.resolve_in_own_transaction(key, "a test says so").await.unwrap();
}

pub(crate) fn found(key: &str, severity: Severity, owner: Option<&str>) -> NewAlert {
    NewAlert {
        key: key.into(),
        topic: AlertTopic::Source,
        severity,
        owner: owner.map(str::to_owned),
        subject: BTreeMap::from([("source".to_owned(), key.to_owned())]),
        title: format!("{key} is quiet"),
        description: "Nothing came for an hour.".into(),
        advice: "Look whether it still runs.".into(),
        facts: vec![],
        parts: vec![],
        picture: None,
    }
}

/// Time in which a message that must not arrive would arrive.
pub(crate) async fn a_moment() {
    // A sleep, because it proves a negative: no condition shows that nothing comes.
    tokio::time::sleep(Duration::from_millis(400)).await;
}

/// Waits until the receiver has accepted exactly these messages, in this order.
pub(crate) async fn receives(receiver: &WebhookReceiver, expected: &[&str]) {
    eventually("all messages arrive", async || receiver.accepted().len() >= expected.len()).await;
    a_moment().await;
    assert_eq!(receiver.summaries(), expected);
}
