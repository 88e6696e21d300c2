//! `/v1/score`, authentication, validation and metrics on, beside a bare axum
//! handler that parses the same JSON and answers a constant; and the tail while
//! a model is promoted every second.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use segmentd::app::App;
use segmentd::config::{Config, Environment};
use segmentd::domain::access::Scope;
use segmentd::domain::wire::Door;
use segmentd::service::access;
use segmentd::service::failed::Source;
use segmentd::service::intake::WhenFull;
use segmentd::service::registry::Change;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::Figure;
use crate::load::{self, Run};

const RUNS: usize = 3;
const CONNECTIONS: usize = 64;
const DURATION: Duration = Duration::from_secs(4);
const CUSTOMERS: usize = 600;

pub(crate) const FIGURES: [&str; 3] =
    ["score_single_vs_bare", "score_batch256_vs_bare", "swap_p99_ratio"];

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let server =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let (app, key, models, stop) = server.block_on(start(state.path()));
    let bare = server.block_on(bare());
    let row = json!({
        "recency_days": 3.5, "orders_365d": 41, "spend_365d": 1210.5, "tenure_days": 300,
    });
    let single = json!({ "features": row }).to_string();
    let batch = json!({ "rows": vec![row; 256] }).to_string();
    let mut figures = Vec::new();
    for id in FIGURES.into_iter().filter(|id| ids.contains(id)) {
        figures.push(match id {
            "score_single_vs_bare" => {
                compare(id, "/v1/score, one row, 64 connections", app.addr, bare, &key, &single)
            }
            "score_batch256_vs_bare" => {
                compare(id, "/v1/score, 256 rows, 64 connections", app.addr, bare, &key, &batch)
            }
            _ => swaps(&server, &app, &key, &single, &models),
        });
    }
    server.block_on(async {
        stop.send(()).unwrap();
        app.running.await.unwrap().unwrap();
    });
    figures
}

struct Started {
    addr: SocketAddr,
    state: segmentd::api::ApiState,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

type Models = [segmentd::domain::id::ModelId; 2];

/// The whole program with two trained models.
async fn start(state: &std::path::Path) -> (Started, String, Models, oneshot::Sender<()>) {
    let set = [
        ("http.bind", "127.0.0.1:0".to_owned()),
        ("admin.bind", "127.0.0.1:0".to_owned()),
        ("database.state_directory", state.display().to_string()),
        ("training.schedule", String::new()),
    ];
    let set: Vec<_> = set.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let config = Config::load_from(None, &Environment::default(), &set).unwrap();
    let app = App::build(config).await.unwrap();
    let key = access::create(app.db(), app.clock(), "bench", &Scope::ALL).await.unwrap();
    let handles = app.state();
    handles.access.refresh().await.unwrap();
    let now = handles.intake.now();
    let read = |n| handles.intake.read(order(n, now).to_string().as_bytes(), now);
    let events = (0..CUSTOMERS * 4).map(read).collect();
    let source = Source { door: Door::Events, key_id: "bench" };
    handles.intake.accept(events, source, now, WhenFull::Refuse).await.unwrap();
    let mut models = Vec::new();
    for segments in [6, 8] {
        let spec =
            segmentd::domain::train::TrainSpec { segments, ..handles.training.default_spec() };
        handles.training.request(spec, "bench", None).await.unwrap();
        handles.training.run_queued().await.unwrap();
        models.push(handles.live.snapshot().active.as_ref().unwrap().id().clone());
    }
    let (stop, stopped) = oneshot::channel();
    let started = Started {
        addr: app.addr().unwrap(),
        state: handles,
        running: app.spawn(async {
            let _ = stopped.await;
        }),
    };
    (started, key, models.try_into().unwrap(), stop)
}

fn order(n: usize, now: segmentd::domain::time::Timestamp) -> Value {
    let (customer, order) = (n / 4, n % 4);
    let days = i64::try_from(1 + order * (5 + customer % 40)).unwrap();
    json!({
        "type": "track",
        "name": "Order Completed",
        "message_id": format!("bench-{n}"),
        "customer_id": format!("c{customer}"),
        "timestamp": now.plus_millis(-days * 86_400_000).to_string(),
        "properties": { "sales_value": 3 + customer % 70, "lines": 1 + customer % 9, "store_id": "1" },
    })
}

/// Parses the body as JSON and answers a constant.
async fn bare() -> SocketAddr {
    let answer = |body: axum::body::Bytes| async move {
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        std::hint::black_box(parsed);
        r#"{"segment":"s1","distance":1.25}"#
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
    what: &'static str,
    ours: SocketAddr,
    bare: SocketAddr,
    key: &str,
    body: &str,
) -> Figure {
    let send = |to| load::post(to, "/v1/score", key, body, CONNECTIONS, DURATION, |_| true);
    // A warm-up each, then in turn, so that both meet the same noise.
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
        what,
        value,
        unit: "req/s",
        baseline: "bare axum handler parsing the same JSON",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// p99 with a promotion every second, over p99 without; 60 s each, in turn. An
/// answer that is not wholly that of the model it names is a failure.
fn swaps(
    server: &tokio::runtime::Runtime,
    app: &Started,
    key: &str,
    body: &str,
    models: &Models,
) -> Figure {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let expected: Vec<(String, String)> = models
        .iter()
        .map(|model| {
            let change = Change { by: "bench".into(), reason: "what it answers".into() };
            server.block_on(app.state.registry.promote(model, change)).unwrap();
            let answer = load::ask(app.addr, "/v1/score", key, body);
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
            load::post(app.addr, "/v1/score", key, body, 8, Duration::from_secs(20), check)
        };
        without.push(send.clone()());
        let registry = app.state.registry.clone();
        let models = models.clone();
        let promotions = server.spawn(async move {
            for turn in 0.. {
                let change = Change { by: "bench".into(), reason: "swap".into() };
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
        what: "p99 of /v1/score with one promotion a second, 60 s in all",
        value,
        unit: "ms",
        baseline: "the same without promotions",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// The part of an answer that follows from the model alone.
fn scores_of(answer: &str) -> &str {
    &answer[answer.find("\"segment\"").unwrap()..]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn open_to_all() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o755)
}
