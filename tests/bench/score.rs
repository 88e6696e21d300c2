//! `/v1/score` with authentication, validation and metrics, relative to a bare axum handler
//! that parses the same JSON and answers a constant; and tail latency during promotions and
//! training.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use segmentd::domain::id::{ModelId, RunId};
use segmentd::domain::train::{SegmentCount, SegmentCountRange, TrainingSpec};
use segmentd::service::models::step_request::DeploymentChange;
use segmentd::service::training::RunPurpose;
use segmentd::store::models::runs;
use serde_json::{Value, json};

use crate::load::{self, Load, Run};
use crate::server::Server;
use crate::{Figure, median};

const RUNS: usize = 3;
const CONNECTIONS: usize = 64;
const DURATION: Duration = Duration::from_secs(4);
const CUSTOMERS: usize = 600;

/// The rows of the largest training run of the benchmarks.
const MANY_CUSTOMERS: usize = 20_000;
/// The share of the saturation rate.
const HALF: f64 = 0.5;

/// A difference of some percent needs more rounds than a factor.
const MONITORING_RUNS: usize = 7;

pub(crate) const FIGURES: [&str; 5] = [
    "score_single_vs_bare",
    "score_batch256_vs_bare",
    "score_monitoring_on_vs_off",
    "swap_p99_ratio",
    "train_p99_ratio",
];

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let server = Server::start();
    server.load(CUSTOMERS, 4);
    let models = [server.train(6), server.train(8)];
    let bare = server.runtime.block_on(bare());
    let row = json!({
        "recency_days": 3.5, "orders_365d": 41, "spend_365d": 1210.5, "tenure_days": 300,
    });
    let single = json!({ "features": row }).to_string();
    let batch = json!({ "rows": vec![row; 256] }).to_string();
    let mut figures = Vec::new();
    for id in FIGURES.into_iter().filter(|id| ids.contains(id)) {
        figures.push(match id {
            "score_single_vs_bare" => {
                compare(id, "/v1/score, one row, 64 connections", &server, bare, &single)
            }
            "score_batch256_vs_bare" => {
                compare(id, "/v1/score, 256 rows, 64 connections", &server, bare, &batch)
            }
            "score_monitoring_on_vs_off" => monitoring(&server, &single),
            "swap_p99_ratio" => swaps(&server, &single, &models),
            _ => training(&server, &single),
        });
    }
    server.stop();
    figures
}

/// Parses the body as JSON and answers a constant.
async fn bare() -> SocketAddr {
    let answer = |body: axum::body::Bytes| async move {
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        std::hint::black_box(parsed);
        r#"{"segment_id":"seg_5f2c8d10b7a94e36","distance":1.25}"#
    };
    let router = Router::new().route("/v1/score", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Dropped with the runtime.
    tokio::runtime::Handle::current().spawn(async move { axum::serve(listener, router).await });
    addr
}

fn compare(
    id: &'static str,
    description: &'static str,
    server: &Server,
    bare: SocketAddr,
    body: &str,
) -> Figure {
    let ours = server.addr;
    let send = |to| Load { to, ..load(server, body) }.run(|_| true);
    // A warm-up each, then in turn, so that noise affects both equally.
    send(ours);
    send(bare);
    let pairs: Vec<(Run, Run)> = (0..RUNS).map(|_| (send(ours), send(bare))).collect();
    assert_eq!(pairs.iter().map(|(a, b)| a.failures + b.failures).sum::<usize>(), 0);
    for (name, run) in pairs.iter().flat_map(|(a, b)| [("segmentd", a), ("bare axum", b)]) {
        println!(
            "  {id} {name}: {:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms",
            run.requests_per_second, run.p50_ms, run.p99_ms
        );
    }
    let value = median(pairs.iter().map(|(a, _)| a.requests_per_second).collect());
    let baseline_value = median(pairs.iter().map(|(_, b)| b.requests_per_second).collect());
    Figure {
        id,
        description,
        value,
        unit: "req/s",
        baseline: "bare axum handler parsing the same JSON",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// Requests per second with drift counts of every row, relative to a server without; in
/// turn.
fn monitoring(server: &Server, body: &str) -> Figure {
    let off = Server::start_with(&[("drift.enabled", "false")]);
    off.load(CUSTOMERS, 4);
    off.train(8);
    let send = |server: &Server| load(server, body).run(|_| true);
    send(server);
    send(&off);
    let pairs: Vec<(Run, Run)> = (0..MONITORING_RUNS).map(|_| (send(server), send(&off))).collect();
    off.stop();
    assert_eq!(pairs.iter().map(|(a, b)| a.failures + b.failures).sum::<usize>(), 0);
    let value = median(pairs.iter().map(|(on, _)| on.requests_per_second).collect());
    let baseline_value = median(pairs.iter().map(|(_, off)| off.requests_per_second).collect());
    Figure {
        id: "score_monitoring_on_vs_off",
        description: "/v1/score, one row, 64 connections, counted to watch for drift",
        value,
        unit: "req/s",
        baseline: "the same with drift.enabled = false",
        baseline_value,
        ratio: value / baseline_value,
        runs: MONITORING_RUNS,
    }
}

/// p99 with a promotion every second, relative to p99 without; 60 s each, in turn. A
/// response with fields of another model than it names is a failure.
fn swaps(server: &Server, body: &str, models: &[ModelId; 2]) -> Figure {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let expected: Vec<(String, String)> = models
        .iter()
        .map(|model| {
            server.promote(model);
            let answer = load::ask(server.addr, "/v1/score", &server.key, body);
            assert!(answer.contains(model.as_str()));
            (model.to_string(), scores_of(&answer).to_owned())
        })
        .collect();
    assert_ne!(expected[0].1, expected[1].1);
    for _ in 0..RUNS {
        let expected = expected.clone();
        let send = || {
            let check = move |answer: &str| {
                expected.iter().any(|(model, s)| answer.contains(model) && scores_of(answer) == s)
            };
            let duration = Duration::from_secs(20);
            Load { connections: 8, duration, ..load(server, body) }.run(check)
        };
        without.push(send.clone()());
        let registry = server.state.registry.clone();
        let models = models.clone();
        let promotions = server.runtime.spawn(async move {
            for turn in 0.. {
                let change = DeploymentChange { author: "bench".into(), reason: "swap".into() };
                registry.promote(&models[turn % 2], change).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        with.push(send());
        promotions.abort();
    }
    assert_eq!(with.iter().chain(&without).map(|run| run.failures).sum::<usize>(), 0);
    let value = median(with.iter().map(|run| run.p99_ms).collect());
    let baseline_value = median(without.iter().map(|run| run.p99_ms).collect());
    Figure {
        id: "swap_p99_ratio",
        description: "p99 of /v1/score with one promotion a second, 60 s in all",
        value,
        unit: "ms",
        baseline: "the same without promotions",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// p99 at half of saturation during a training run that takes longer than the measurement,
/// relative to p99 without; in turn. The run is a what-if, and is cancelled.
fn training(server: &Server, body: &str) -> Figure {
    server.load(MANY_CUSTOMERS, 4);
    let few = || Load { connections: 8, ..load(server, body) };
    let most = few().run(|_| true).requests_per_second;
    let send = || {
        let (duration, rate) = (Duration::from_secs(20), Some(most * HALF));
        Load { duration, rate, ..few() }.run(|_| true)
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        without.push(send());
        let run = start_largest(server);
        with.push(send());
        server.runtime.block_on(async {
            let row = runs::find(&server.state.db, &run).await.unwrap().unwrap();
            assert_eq!(row.status, "running", "the run was over before the measurement");
            server.state.training.cancel_run(&run, "bench").await.unwrap();
        });
        // The training threads end within two seconds, before the next round.
        std::thread::sleep(Duration::from_secs(5));
    }
    assert_eq!(with.iter().chain(&without).map(|run| run.failures).sum::<usize>(), 0);
    let value = median(with.iter().map(|run| run.p99_ms).collect());
    let baseline_value = median(without.iter().map(|run| run.p99_ms).collect());
    println!("  train_p99_ratio: {:.0} requests/s, half of saturation", most * HALF);
    Figure {
        id: "train_p99_ratio",
        description: "p99 of /v1/score at half saturation while the largest run trains",
        value,
        unit: "ms",
        baseline: "the same without training",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// Returns when the run has begun to cluster.
fn start_largest(server: &Server) -> RunId {
    let training = &server.state.training;
    let segments = SegmentCount::Range(SegmentCountRange { from: 2, to: 64 });
    let spec = TrainingSpec { segments, minimum_rows: 200, starts: 100, ..training.default_spec() };
    let purpose = RunPurpose { is_what_if: true, reason: Some("p99 beside it".into()) };
    server.runtime.block_on(async {
        let run = training.request_run_for(spec, "bench", None, purpose).await.unwrap().unwrap();
        loop {
            let row = runs::find(&server.state.db, &run).await.unwrap().unwrap();
            if row.stage == "candidates" {
                return run;
            }
            assert!(row.error.is_none(), "{:?}", row.error);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

/// The part of a response that depends on the model only.
fn scores_of(answer: &str) -> &str {
    &answer[answer.find("\"segment_id\"").unwrap()..]
}

fn load(server: &Server, body: &str) -> Load {
    Load {
        to: server.addr,
        path: "/v1/score",
        key: server.key.clone(),
        body: body.to_owned(),
        connections: CONNECTIONS,
        duration: DURATION,
        rate: None,
    }
}
