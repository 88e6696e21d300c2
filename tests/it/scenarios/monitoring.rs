//! The Prometheus rules and the Grafana dashboard in `config/`, with Prometheus and
//! Alertmanager themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use segmentd::domain::drift::Severity;
use segmentd::telemetry::labels::{BackgroundTask, LabelSet as _};
use serde_json::{Value, json};

use crate::support::alerting::{AlertingApp, found};
use crate::support::clients::{alertmanager, amtool, debian_program};
use crate::support::{TestApp, eventually, ndjson, orders};

const RULES: &str = "config/prometheus/rules.yml";
const DASHBOARD: &str = "config/grafana/segmentd.json";

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    let Some(promtool) = debian_program("prometheus", "usr/bin/promtool") else { return };
    let check = |arguments: &[&str]| {
        let ended = Command::new(&promtool).args(arguments).current_dir(root()).output().unwrap();
        let text = [ended.stdout, ended.stderr].concat();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&text));
    };
    check(&["check", "config", "config/prometheus/prometheus.yml"]);
    check(&["check", "rules", "--lint-fatal", RULES]);
    check(&["test", "rules", "tests/data/prometheus/rules.test.yml"]);
}

#[test]
fn amtool_accepts_the_configuration_of_alertmanager() {
    let Some(amtool) = amtool() else { return };
    let check = ["check-config", "config/alertmanager/alertmanager.yml"];
    let ended = Command::new(&amtool).args(check).current_dir(root()).output().unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// Exported only with events, or with a live model and enough rows; other tests cover them.
const LATER: [&str; 10] = [
    "segmentd_backtest_explained_share",
    "segmentd_backtest_lift",
    "segmentd_drift_psi",
    "segmentd_segment_churn_probability",
    "segmentd_segment_churn_ratio",
    "segmentd_segment_customers",
    "segmentd_segment_predicted_spend",
    "segmentd_segment_revenue_share",
    "segmentd_segment_value_at_risk",
    "segmentd_source_last_event_age_seconds",
];

#[tokio::test(flavor = "multi_thread")]
async fn segment_sizes_and_sources_are_exported() {
    let app = TestApp::start().await;
    let (status, _) = app.post("/v1/events/bulk", ndjson(&orders(300, 2))).await;
    assert_eq!(status, 200);
    let sizes = async || -> BTreeMap<String, u64> {
        let (_, metrics) = app.admin("/metrics").await;
        let lines = metrics.lines();
        let sizes = lines.filter_map(|line| line.strip_prefix("segmentd_segment_customers{"));
        let sizes = sizes.map(|line| line.rsplit_once(' ').unwrap());
        sizes.map(|(segment, size)| (segment.to_owned(), size.parse().unwrap())).collect()
    };
    // Each count covers the segments of the active model only.
    for segments in [3, 2] {
        app.train_with(&json!({ "segments": segments, "starts": 3 }).to_string()).await;
        let (_, expected) = app.get("/v1/segments").await;
        let expected = expected["segments"].as_array().unwrap().iter();
        let expected: BTreeMap<String, u64> = expected
            .map(|segment| {
                let label = format!(
                    "segment_id={},segment_name={}}}",
                    segment["segment_id"], segment["name"]
                );
                (label, segment["customers"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(expected.values().sum::<u64>(), 300, "{expected:?}");
        eventually("the sizes are exported", async || sizes().await == expected).await;
        let (_, metrics) = app.admin("/metrics").await;
        let shares =
            metrics.lines().filter(|line| line.starts_with("segmentd_segment_revenue_share{"));
        let shares: Vec<f64> =
            shares.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
        assert_eq!(shares.len(), segments);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    }

    app.app.sources.flush().await.unwrap();
    app.app.sources.check_sources().await.unwrap();
    let (_, metrics) = app.admin("/metrics").await;
    let age = "segmentd_source_last_event_age_seconds{endpoint=\"";
    assert_eq!(metrics.lines().filter(|line| line.starts_with(age)).count(), 1, "{metrics}");
    let sources = metrics.lines().filter_map(|line| line.strip_prefix("segmentd_sources{"));
    let sources = sources.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(sources.sum::<u64>(), 1, "{metrics}");
    app.stop().await;
}

/// A rule on a missing metric never fires.
#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboard_name_only_existing_metrics() {
    let app = TestApp::start().await;
    // The series of a route begin with its first request.
    assert_eq!(app.get("/v1/segments").await.0, 200);
    let (_, metrics) = app.admin("/metrics").await;
    let declared: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let rules = std::fs::read_to_string(root().join(RULES)).unwrap();
    let recorded: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join(DASHBOARD)).unwrap()).unwrap();
    let queries: Vec<String> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect();
    assert!(queries.len() > 20, "{}", queries.len());
    for shown in [
        "segmentd_segment_customers",
        "segmentd_segment_revenue_share",
        "segmentd_segment_predicted_spend",
        "segmentd_segment_value_at_risk",
        "segmentd_segment_churn_probability",
        "segmentd_backtest_lift",
        "segmentd_backtest_explained_share",
        "segmentd_sources",
        "segmentd_alerts_firing",
    ] {
        assert!(queries.iter().any(|query| query.contains(shown)), "no panel shows {shown}");
    }
    let ids: Vec<&Value> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| &panel["id"]).collect();
    assert!(ids.iter().all(|id| ids.iter().filter(|other| other == &id).count() == 1), "{ids:?}");
    let mut named = 0;
    for text in queries.iter().chain([&rules]) {
        for name in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))) {
            let name = name.trim_end_matches(':');
            let is_recorded = name.starts_with("segmentd:");
            let is_metric = name.starts_with("segmentd_") && !name.ends_with('_');
            if is_recorded && !rules.contains(&format!("name: {name}")) {
                assert!(recorded.contains(name), "no rule records {name}");
                named += 1;
            } else if is_metric {
                let family = ["_bucket", "_sum", "_count"]
                    .into_iter()
                    .find_map(|end| name.strip_suffix(end));
                let is_there =
                    declared.contains(name) || family.is_some_and(|f| declared.contains(f));
                assert!(is_there || LATER.contains(&name), "there is no {name}");
                named += 1;
            }
        }
    }
    assert!(named > 60, "{named}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_task_that_is_not_restarted_is_named_by_readiness() {
    let app = TestApp::start().await;
    let (_, metrics) = app.admin("/metrics").await;
    for task in BackgroundTask::all() {
        let task = task.name();
        let series = format!("segmentd_background_task_failures_total{{task=\"{task}\"}} 0");
        assert!(metrics.lines().any(|line| line == series), "{series}");
    }
    assert_eq!(app.admin("/readyz").await, (200, "ready\n".to_owned()));
    let (_, checks) = app.admin("/readyz?verbose").await;
    assert!(checks.contains("[+] background_tasks\n"), "{checks}");

    app.app.readiness.failed_tasks.add(BackgroundTask::Ingestion);
    let failed = "failed: background task ingestion (restart this process)\nnot ready\n";
    assert_eq!(app.admin("/readyz").await, (503, failed.to_owned()));
    assert_eq!(app.admin("/readyz/stateful").await, (503, failed.to_owned()));
    let (_, checks) = app.admin("/readyz?verbose").await;
    assert!(checks.contains("[-] background_tasks\n"), "{checks}");
    assert_eq!(app.admin("/livez").await.0, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_and_alertmanager_receives_a_failed_training() {
    let Some(prometheus) = debian_program("prometheus", "usr/bin/prometheus") else { return };
    let Some(alertmanager) = alertmanager() else { return };
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::start().await;
    let manager = Server::alertmanager(alertmanager, folder.path());
    let scraper = Server::prometheus(&prometheus, folder.path(), &app.admin, &manager.url);
    let query =
        |text: &str| format!("{}/api/v1/query?query={}", scraper.url, text.replace('"', "%22"));
    eventually("the first scrape", async || {
        let found = get(&query("segmentd_objective_target")).await;
        found["data"]["result"].as_array().is_some_and(|series| series.len() == 5)
    })
    .await;

    let (status, _) = app.post("/v1/events/bulk", ndjson(&orders(300, 2))).await;
    assert_eq!(status, 200);
    // The smallest of three segments cannot have 90 % of the customers, so the run fails.
    let spec = json!({"segments": 3, "starts": 1, "gates": {"smallest_share": 0.9}});
    let (status, run) = app.post("/v1/training-runs", spec.to_string()).await;
    assert_eq!(status, 202, "{run}");
    eventually("Alertmanager receives the alert", async || {
        let alerts = get(&format!("{}/api/v2/alerts", manager.url)).await;
        alerts.as_array().is_some_and(|alerts| {
            alerts.iter().any(|alert| {
                alert["labels"]["alertname"] == "SegmentdTrainingFailing"
                    && alert["labels"]["severity"] == "ticket"
            })
        })
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_groups_and_resolves_alerts_sent_directly() {
    let Some(alertmanager) = alertmanager() else { return };
    let folder = tempfile::tempdir().unwrap();
    let manager = Server::alertmanager(alertmanager, folder.path());
    eventually("Alertmanager listens", async || {
        !get(&format!("{}/api/v2/status", manager.url)).await.is_null()
    })
    .await;
    let alerting = AlertingApp::start().await;
    let body = json!({ "name": "am", "target": { "kind": "alertmanager", "url": manager.url } });
    assert_eq!(alerting.app.post("/v1/channels", body.to_string()).await.0, 201);
    for (key, owner) in [("one", "checkout"), ("two", "checkout"), ("three", "loyalty")] {
        alerting.raise(&found(key, Severity::Warning, Some(owner))).await;
    }
    // The sources with active alerts, by owner.
    let groups = async || -> BTreeMap<String, BTreeSet<String>> {
        let groups = get(&format!("{}/api/v2/alerts/groups", manager.url)).await;
        let groups = groups.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = |group: &Value| group["alerts"].as_array().cloned().unwrap_or_default();
        let sources = |group: &Value| {
            alerts(group).iter().map(|alert| text(&alert["labels"]["source"])).collect()
        };
        groups.iter().map(|group| (text(&group["labels"]["owner"]), sources(group))).collect()
    };
    let set = |sources: &[&str]| sources.iter().map(|source| (*source).to_owned()).collect();
    let all = [("checkout", set(&["one", "two"])), ("loyalty", set(&["three"]))];
    let all = BTreeMap::from(all.map(|(owner, sources)| (owner.to_owned(), sources)));
    eventually("all alerts are grouped by owner", async || groups().await == all).await;
    let answer = get(&format!("{}/api/v2/alerts", manager.url)).await;
    let one =
        answer.as_array().unwrap().iter().find(|alert| alert["labels"]["source"] == "one").unwrap();
    assert_eq!(one["labels"]["alertname"], "SegmentdSource", "{one}");
    assert_eq!(
        (&one["labels"]["severity"], &one["status"]["state"]),
        (&json!("warning"), &json!("active"))
    );
    assert_eq!(one["annotations"]["summary"], "one is quiet");

    alerting.resolve("one").await;
    alerting.resolve("three").await;
    let left = BTreeMap::from([("checkout".to_owned(), set(&["two"]))]);
    eventually("resolved alerts are gone", async || {
        let answer = get(&format!("{}/api/v2/alerts", manager.url)).await;
        let active = answer.as_array().cloned().unwrap_or_default();
        let sources: BTreeSet<String> = active
            .iter()
            .map(|alert| alert["labels"]["source"].as_str().unwrap().to_owned())
            .collect();
        sources == left["checkout"]
    })
    .await;
    alerting.app.stop().await;
}

/// A third-party server on a free port; killed at the latest when the test ends.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn alertmanager(command: Command, folder: &Path) -> Self {
        let config = folder.join("alertmanager.yml");
        std::fs::write(
            &config,
            "route: {receiver: nobody, group_by: [owner]}\nreceivers: [{name: nobody}]\n",
        )
        .unwrap();
        Self::start(command, |address| {
            vec![
                format!("--config.file={}", config.display()),
                format!("--storage.path={}", folder.join("alertmanager").display()),
                format!("--web.listen-address={address}"),
                "--cluster.listen-address=".into(),
            ]
        })
    }

    fn prometheus(program: &Path, folder: &Path, admin: &str, manager: &str) -> Self {
        let config = folder.join("prometheus.yml");
        let host = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
        // JSON is YAML.
        let text = json!({
            "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
            "rule_files": [root().join(RULES)],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [host(manager)]}]}]},
            "scrape_configs": [
                {"job_name": "segmentd", "static_configs": [{"targets": [host(admin)]}]},
            ],
        });
        std::fs::write(&config, text.to_string()).unwrap();
        Self::start(Command::new(program), |address| {
            vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
                format!("--web.listen-address={address}"),
            ]
        })
    }

    fn start(mut command: Command, arguments: impl Fn(&str) -> Vec<String>) -> Self {
        // Neither program reports the port that it gets for port 0.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let child = command
            .args(arguments(&address))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{address}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(url: &str) -> Value {
    let answer = reqwest::get(url).await;
    match answer {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        // It may not listen yet.
        Err(_) => Value::Null,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
