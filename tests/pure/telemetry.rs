//! The metrics of a scrape, and logs of panics.

use std::process::Command;
use std::time::Duration;

use segmentd::domain::objective::ObjectiveTargets;
use segmentd::domain::time::Timestamp;
use segmentd::telemetry::labels::{
    AnsweringModel, AssignmentEffect, EventOutcome, RequestClass, ScoringEndpoint, ShedReason,
    TrainingRunOutcome,
};
use segmentd::telemetry::{ServiceMetrics, trace};

fn metrics() -> ServiceMetrics {
    ServiceMetrics::new(Timestamp::from_millis(1_500), ObjectiveTargets::default())
        .expect("every name is registered once")
}

fn scrape(metrics: &ServiceMetrics) -> String {
    metrics.render().expect("every family has a child")
}

#[track_caller]
fn shows(metrics: &ServiceMetrics, line: &str) {
    let text = scrape(metrics);
    assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
}

/// A difference is a new or changed metric. To accept it, run the `cp` of the message.
#[test]
fn the_guide_to_the_metrics_lists_every_metric() {
    let mut guide =
        "# Metrics\n\nMetrics in Prometheus' text format are at `/metrics` of the admin \
        port. This list is generated.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
            .to_owned();
    for metric in metrics().catalogue() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [
            format!("`{}`", metric.name),
            metric.kind.to_owned(),
            labels.join(", "),
            metric.help.replace('|', "\\|"),
        ];
        guide.extend(["| ", &row.join(" | "), " |\n"]);
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let known = std::fs::read_to_string(format!("{root}/config/guides/metrics.md"));
    if known.unwrap_or_default() != guide {
        let proposed = format!("{root}/target/metrics.md");
        std::fs::write(&proposed, guide).unwrap();
        panic!("the metrics changed; to accept: cp {proposed} config/guides/metrics.md");
    }
}

#[test]
fn every_label_value_is_exported_from_the_start() {
    let metrics = metrics();
    shows(&metrics, r#"segmentd_events_total{outcome="rejected"} 0"#);
    shows(&metrics, r#"segmentd_scores_total{endpoint="inference",model="fallback"} 0"#);
    shows(&metrics, r#"segmentd_training_runs_total{outcome="cancelled"} 0"#);
    shows(&metrics, "segmentd_deployment_refusals_total 0");
    shows(&metrics, r#"segmentd_background_task_failures_total{task="ingestion"} 0"#);
}

#[test]
fn counters_count_under_their_own_labels() {
    let metrics = metrics();
    metrics.ingestion.events.add(EventOutcome::Duplicate, 3);
    metrics.ingestion.assignments.add(AssignmentEffect::First, 2);
    metrics.scoring.scores.add((ScoringEndpoint::Stateless, AnsweringModel::Fallback), 5);
    metrics.training.runs.add(TrainingRunOutcome::Failed, 1);
    shows(&metrics, r#"segmentd_events_total{outcome="duplicate"} 3"#);
    shows(&metrics, r#"segmentd_events_total{outcome="accepted"} 0"#);
    shows(&metrics, r#"segmentd_assignments_total{decision="first"} 2"#);
    shows(&metrics, r#"segmentd_scores_total{endpoint="stateless",model="fallback"} 5"#);
    shows(&metrics, r#"segmentd_scores_total{endpoint="inference",model="active"} 0"#);
    shows(&metrics, r#"segmentd_training_runs_total{outcome="failed"} 1"#);
}

#[test]
fn requests_are_counted_by_route_method_and_status() {
    let metrics = metrics();
    let get = metrics.http.route("/v1/customers/{id}", "GET").expect("valid labels");
    let delete = metrics.http.route("/v1/customers/{id}", "DELETE").expect("valid labels");
    get.record_response(200, Duration::from_micros(300));
    get.record_response(200, Duration::from_secs(31));
    get.record_response(404, Duration::from_micros(300));
    delete.record_response(204, Duration::from_micros(99));
    get.record_response(999, Duration::ZERO);

    let requests = |method, status, count| {
        let labels = format!(r#"method="{method}",route="/v1/customers/{{id}}",status="{status}""#);
        shows(&metrics, &format!("segmentd_http_requests_total{{{labels}}} {count}"));
    };
    requests("GET", 200, 2);
    requests("GET", 404, 1);
    requests("DELETE", 204, 1);
    assert!(!scrape(&metrics).contains(r#"status="999""#));

    let bucket = |up_to, count| {
        let labels = format!(r#"route="/v1/customers/{{id}}",le="{up_to}""#);
        shows(
            &metrics,
            &format!("segmentd_http_request_duration_seconds_bucket{{{labels}}} {count}"),
        );
    };
    bucket("0.0001", 2);
    bucket("0.0005", 4);
    bucket("30", 4);
    bucket("+Inf", 5);
}

#[test]
fn requests_in_flight_come_down_again() {
    let metrics = metrics();
    let (first, second) = (metrics.http.begin_request(), metrics.http.begin_request());
    shows(&metrics, "segmentd_http_requests_in_flight 2");
    drop(first);
    shows(&metrics, "segmentd_http_requests_in_flight 1");
    drop(second);
    shows(&metrics, "segmentd_http_requests_in_flight 0");
}

#[test]
fn process_metrics_describe_the_build() {
    let metrics = metrics();
    let version = env!("CARGO_PKG_VERSION");
    shows(&metrics, &format!(r#"segmentd_build_info{{version="{version}"}} 1"#));
    shows(&metrics, "process_start_time_seconds 1.5");
    if cfg!(target_os = "linux") {
        let text = scrape(&metrics);
        let resident = text.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes "));
        let bytes: u64 = resident.and_then(|n| n.parse().ok()).expect("a number");
        assert!(bytes > 1 << 20, "{bytes} bytes is no running process");
    }
}

#[test]
fn two_sets_of_metrics_live_side_by_side() {
    let (one, other) = (metrics(), metrics());
    one.http.shed.add((RequestClass::Read, ShedReason::Full), 1);
    let series = "segmentd_http_requests_shed_total{class=\"read\",reason=\"full\"}";
    shows(&one, &format!("{series} 1"));
    shows(&other, &format!("{series} 0"));
}

/// The log is global to a process, so this test runs in a child process.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a test tells its copy what to be")]
fn a_panic_is_logged_like_any_error() {
    const MARK: &str = "SEGMENTD_TEST_PANIC";
    if std::env::var_os(MARK).is_some() {
        trace::init_logging("warn,segmentd::quiet=off", true).expect("nothing else logs here");
        trace::init_logging("warn", true).expect_err("logs already");
        tracing::warn!(bytes = 7, "kept");
        tracing::info!("too little");
        tracing::error!(target: "segmentd::quiet", "switched off");
        panic!("on purpose");
    }
    let copy = Command::new(std::env::current_exe().expect("on every system"))
        .args(["--exact", "telemetry::a_panic_is_logged_like_any_error", "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("a copy of this program starts");
    let text = String::from_utf8_lossy(&copy.stderr);
    let lines: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["message"], "kept");
    assert_eq!(lines[0]["bytes"], 7);
    assert_eq!(lines[1]["level"], "ERROR");
    assert_eq!(lines[1]["message"], "panic: on purpose");
    let location = lines[1]["location"].as_str().expect("text");
    assert!(location.starts_with("tests/pure/telemetry.rs:"), "{location}");
}
