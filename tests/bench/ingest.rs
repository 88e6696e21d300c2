//! Durable stateful events per second, relative to a bare sqlx program that writes the same
//! rows, to pgbench, and over the number of customers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use segmentd::domain::id::ModelId;
use sqlx::{Connection as _, PgConnection};

use crate::load::{Load, Run};
use crate::pgbench::{Over, Pgbench};
use crate::server::{Server, settle};
use crate::{Figure, median};

pub(crate) const FIGURES: [&str; 5] = [
    "ingest_batch100_vs_sqlx",
    "ingest_single_vs_pgbench",
    "ingest_growth_100k_vs_10k",
    "ingest_growth_1m_vs_100k",
    "ingest_value_on_vs_off",
];

pub(crate) const RUNS: usize = 5;
const DURATION: Duration = Duration::from_secs(5);
pub(crate) const CUSTOMERS: usize = 10_000;
pub(crate) const ORDERS: usize = 5;
pub(crate) const BATCH: usize = 100;
/// The number of batch senders that keeps both cores busy; with 8 senders a seventh of the
/// machine is idle.
pub(crate) const CALLERS: usize = 32;

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let server = Server::start();
    server.load(CUSTOMERS, ORDERS);
    server.train(6);
    let wants = |id: &str| ids.contains(&id);
    let mut figures = Vec::new();
    if wants("ingest_batch100_vs_sqlx") {
        figures.push(batches(&server));
    }
    if wants("ingest_single_vs_pgbench") {
        figures.push(singles(&server));
    }
    if wants("ingest_growth_100k_vs_10k") || wants("ingest_growth_1m_vs_100k") {
        let grown = growth(&server);
        figures.extend(grown.into_iter().filter(|figure| wants(figure.id)));
    }
    server.stop();
    if wants("ingest_value_on_vs_off") {
        figures.push(value_on_vs_off());
    }
    figures
}

/// Throughput with a model of customer value and without one, in turn.
fn value_on_vs_off() -> Figure {
    let server = Server::start();
    server.load(CUSTOMERS, ORDERS);
    let off = server.train(6);
    // With older orders of a tenth, the orders span long enough for a model of value.
    server.load_before(300, CUSTOMERS / 10, ORDERS);
    let on = server.train(7);
    let has_value = |model: &ModelId| {
        server.promote(model);
        server.state.deployments.snapshot().active.as_ref().unwrap().value().is_some()
    };
    assert!(has_value(&on) && !has_value(&off));
    send(&server, BATCH, CALLERS, None, CUSTOMERS);
    server.runtime.block_on(settle(&server.database_url));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        server.promote(&off);
        without.push(send(&server, BATCH, CALLERS, None, CUSTOMERS).requests_per_second * 100.0);
        server.promote(&on);
        with.push(send(&server, BATCH, CALLERS, None, CUSTOMERS).requests_per_second * 100.0);
    }
    server.stop();
    let (value, baseline_value) = (median(with), median(without));
    Figure {
        id: "ingest_value_on_vs_off",
        description: "/v1/events, 100 a request, with the value of each customer",
        value,
        unit: "ev/s",
        baseline: "a model without customer value",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// Numbers every message, and chooses its customer.
#[derive(Clone)]
struct Ids {
    next: Arc<AtomicU64>,
    customers: u64,
    /// Where the digits of each event start in the body: of its message and of its customer.
    /// They are searched once, so that the sender costs the machine as little as it can.
    places: Arc<[(usize, usize)]>,
}

impl Ids {
    fn new(customers: usize, body: &str) -> Self {
        // Ids of two runs never collide.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let first = NEXT.fetch_add(1_000_000_000, Ordering::Relaxed);
        let starts = |id: &'static str| body.match_indices(id).map(|(at, id)| at + id.len());
        let places = starts(r#""message_id":"m"#).zip(starts(r#""customer_id":"c"#)).collect();
        Self { next: Arc::new(AtomicU64::new(first)), customers: customers as u64, places }
    }

    /// Overwrites the digits in the ids of every event of `body`.
    fn patch(&self, body: &mut [u8]) {
        for (message, customer) in self.places.iter() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            digits(&mut body[*message..message + 12], number);
            // Any even spread works: here by the golden ratio.
            let drawn = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            digits(&mut body[*customer..customer + 7], drawn % self.customers);
        }
    }
}

fn digits(place: &mut [u8], mut number: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + u8::try_from(number % 10).unwrap();
        number /= 10;
    }
}

fn event(server: &Server) -> String {
    let now = server.state.ingestion.now();
    format!(
        r#"{{"type":"track","name":"Order Completed","message_id":"m000000000000","customer_id":"c0000000","timestamp":"{now}","properties":{{"sales_value":37.5,"lines":4,"store_id":"1"}}}}"#
    )
}

pub(crate) fn send(
    server: &Server,
    events: usize,
    connections: usize,
    rate: Option<f64>,
    customers: usize,
) -> Run {
    let event = event(server);
    let body = match events {
        1 => event,
        _ => format!("[{}]", vec![event; events].join(",")),
    };
    let ids = Ids::new(customers, &body);
    let load = Load {
        to: server.addr,
        path: "/v1/events",
        key: server.key.clone(),
        body,
        connections,
        duration: DURATION,
        rate,
    };
    let all_accepted = format!(r#"{{"accepted":{events},"#);
    let run =
        load.run_with(move |body| ids.patch(body), move |answer| answer.starts_with(&all_accepted));
    assert_eq!(run.failures, 0);
    run
}

fn batches(server: &Server) -> Figure {
    // First, so that both write customers with as many orders into tables that have rows.
    send(server, BATCH, CALLERS, None, CUSTOMERS);
    let bare = Bare::start(server);
    server.runtime.block_on(bare.run());
    server.runtime.block_on(async {
        settle(&bare.url).await;
        settle(&server.database_url).await;
    });
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..RUNS {
        let run = send(server, BATCH, CALLERS, None, CUSTOMERS);
        println!(
            "  ingest_batch100 segmentd: {:.0} events/s, p50 {:.1} ms, p99 {:.1} ms",
            run.requests_per_second * 100.0,
            run.p50_ms,
            run.p99_ms
        );
        ours.push(run.requests_per_second * 100.0);
        theirs.push(server.runtime.block_on(bare.run()));
        println!("  ingest_batch100 bare sqlx: {:.0} events/s", theirs.last().unwrap());
    }
    let (value, baseline_value) = (median(ours), median(theirs));
    Figure {
        id: "ingest_batch100_vs_sqlx",
        description: "/v1/events, 100 a request, 32 connections",
        value,
        unit: "ev/s",
        baseline: "the same rows written by bare sqlx in transactions of 100, 2 connections",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

fn singles(server: &Server) -> Figure {
    let pgbench = Pgbench::start(server);
    server.runtime.block_on(settle(&server.database_url));
    send(server, 1, 64, None, CUSTOMERS);
    let (mut ours, mut over_tcp, mut over_socket) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let run = send(server, 1, 64, None, CUSTOMERS);
        println!(
            "  ingest_single segmentd: {:.0} requests/s, p50 {:.1} ms, p99 {:.1} ms",
            run.requests_per_second, run.p50_ms, run.p99_ms
        );
        ours.push(run.requests_per_second);
        let (tcp, socket) = (pgbench.run(Over::Tcp, DURATION), pgbench.run(Over::Socket, DURATION));
        println!("  ingest_single pgbench: {tcp:.0} transactions/s, {socket:.0} over the socket");
        over_tcp.push(tcp);
        over_socket.push(socket);
    }
    let (value, baseline_value) = (median(ours), median(over_tcp));
    println!("  ingest_single beside pgbench over the socket: {:.3}", value / median(over_socket));
    let paced = send(server, 1, 64, Some(value / 2.0), CUSTOMERS);
    println!(
        "  ingest_single at half of that: p50 {:.2} ms, p99 {:.2} ms",
        paced.p50_ms, paced.p99_ms
    );
    Figure {
        id: "ingest_single_vs_pgbench",
        description: "/v1/events, one a request, 64 connections",
        value,
        unit: "ev/s",
        baseline: "pgbench, one-row insert a transaction, 64 clients over TCP",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// Events per second with 10,000, 100,000 and 1,000,000 customers stored.
fn growth(server: &Server) -> Vec<Figure> {
    let mut measured = Vec::new();
    for customers in [CUSTOMERS, 100_000, 1_000_000] {
        server.runtime.block_on(async {
            grow(&server.database_url, customers).await;
            settle(&server.database_url).await;
        });
        let runs: Vec<f64> = (0..RUNS)
            .map(|_| send(server, BATCH, CALLERS, None, customers).requests_per_second * 100.0)
            .collect();
        println!("  ingest_growth {customers} customers: {runs:.0?} events/s");
        measured.push(median(runs));
    }
    let figure = |id, description, value: f64, baseline_value: f64| Figure {
        id,
        description,
        value,
        unit: "ev/s",
        baseline: "a tenth of the customers",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    };
    vec![
        figure("ingest_growth_100k_vs_10k", "with 100,000 customers", measured[1], measured[0]),
        figure("ingest_growth_1m_vs_100k", "with 1,000,000 customers", measured[2], measured[1]),
    ]
}

/// Copies one customer until there are `count`.
pub(crate) async fn grow(database: &str, customers: usize) {
    let mut connection = PgConnection::connect(database).await.unwrap();
    let copy = "insert into customer (workspace_id, customer_id, state, last_event_at, updated_at, generation,
            fallback, segment_id, distance, p_value, confidence, outlier, retained_by_hysteresis, assigned_at,
            moved_at, next_rescore_at)
        select workspace_id, 'c' || lpad(n::text, 7, '0'), state, last_event_at, updated_at, generation,
            fallback, segment_id, distance, p_value, confidence, outlier, retained_by_hysteresis, assigned_at,
            moved_at, next_rescore_at
        from customer, generate_series(0, $1) n
        where workspace_id = 1 and customer_id = 'c0000001'
        on conflict do nothing";
    let last = i32::try_from(customers - 1).unwrap();
    sqlx::query(copy).bind(last).execute(&mut connection).await.unwrap();
}

/// A program that only writes the rows that ingestion writes.
struct Bare {
    url: String,
    customers: Vec<Known>,
    /// Instant of every event.
    now: DateTime<Utc>,
}

/// A customer row, with the columns that ingestion writes.
#[derive(Debug, Clone, PartialEq, PartialOrd, sqlx::FromRow)]
struct Known {
    customer_id: String,
    state: Vec<u8>,
    generation: i64,
    segment_id: String,
    moved_at: Option<DateTime<Utc>>,
    next_rescore_at: Option<DateTime<Utc>>,
}

impl Bare {
    /// The same tables, indexes and customers in another database.
    fn start(server: &Server) -> Self {
        server.runtime.block_on(async {
            let mut ours = PgConnection::connect(&server.database_url).await.unwrap();
            sqlx::query("create database bare").execute(&mut ours).await.unwrap();
            let url = server.database_url.replacen("/segmentd?", "/bare?", 1);
            assert_ne!(url, server.database_url);
            let mut bare = PgConnection::connect(&url).await.unwrap();
            sqlx::migrate!("./migrations").run(&mut bare).await.unwrap();
            let customers: Vec<Known> =
                sqlx::query_as("select * from customer").fetch_all(&mut ours).await.unwrap();
            let now = server.state.ingestion.now().to_string().parse().unwrap();
            let bare = Self { url, customers, now };
            for some in bare.customers.chunks(1000) {
                bare.insert_customers(some).await;
            }
            bare
        })
    }

    async fn insert_customers(&self, some: &[Known]) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let insert =
            "insert into customer (workspace_id, customer_id, state, generation, segment_id,
                moved_at, next_rescore_at, fallback, outlier, updated_at, assigned_at)
            select 1, *, false, false, now(), now()
            from unnest($1::text[], $2::bytea[], $3::bigint[], $4::text[], $5::timestamptz[],
                $6::timestamptz[])";
        bind(sqlx::query(insert), &some.iter().collect::<Vec<_>>())
            .execute(&mut connection)
            .await
            .unwrap();
    }

    /// Two connections, transactions of 100 events each; events per second.
    async fn run(&self) -> f64 {
        let ids = Ids::new(CUSTOMERS, "");
        let started = Instant::now();
        let counts =
            futures_util::future::join_all((0..2).map(|_| self.write(&ids, started))).await;
        let events: usize = counts.into_iter().sum();
        f64::from(u32::try_from(events).unwrap()) / started.elapsed().as_secs_f64()
    }

    async fn write(&self, ids: &Ids, started: Instant) -> usize {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let mut written = 0;
        while started.elapsed() < DURATION {
            let numbers: Vec<u64> =
                (0..BATCH).map(|_| ids.next.fetch_add(1, Ordering::Relaxed)).collect();
            let messages: Vec<String> = numbers.iter().map(|n| format!("m{n:012}")).collect();
            let mut rows: Vec<&Known> = numbers
                .iter()
                .map(|n| {
                    let drawn = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize;
                    &self.customers[drawn % self.customers.len()]
                })
                .collect();
            let customers: Vec<&str> = rows.iter().map(|row| row.customer_id.as_str()).collect();
            let contents: Vec<Vec<u8>> =
                numbers.iter().map(|n| [n.to_le_bytes(), (!n).to_le_bytes()].concat()).collect();
            let now = vec![self.now; BATCH];
            let mut tx = connection.begin().await.unwrap();
            // Every value is a parameter: a program that receives events knows none beforehand.
            sqlx::query(
                "insert into event (workspace_id, customer_id, message_id, sender, kind, name,
                    occurred_at, received_at, content_hash, properties)
                 select 1, c, m, s, k, n, o, r, h, p::jsonb
                 from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                    $6::timestamptz[], $7::timestamptz[], $8::bytea[], $9::text[])
                    as new (c, m, s, k, n, o, r, h, p)",
            )
            .bind(&customers)
            .bind(&messages)
            .bind(vec![""; BATCH])
            .bind(vec!["track"; BATCH])
            .bind(vec!["Order Completed"; BATCH])
            .bind(&now)
            .bind(&now)
            .bind(&contents)
            .bind(vec![r#"{"sales_value":37.5,"lines":4,"store_id":"1"}"#; BATCH])
            .execute(&mut *tx)
            .await
            .unwrap();
            rows.sort_unstable_by(|a, b| a.customer_id.cmp(&b.customer_id));
            rows.dedup();
            let update = "update customer set state = new.state, generation = new.generation,
                    segment_id = new.segment_id, moved_at = new.moved_at, next_rescore_at = new.next_rescore_at,
                    last_event_at = new.last_event_at, updated_at = now(),
                    assigned_at = new.assigned_at, fallback = new.fallback,
                    distance = new.distance, p_value = new.p_value,
                    confidence = new.confidence, outlier = new.outlier,
                    retained_by_hysteresis = new.retained,
                    audiences = new.audiences::integer[], audience_version = new.version
                from unnest($1::text[], $2::bytea[], $3::bigint[], $4::text[],
                    $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[],
                    $9::boolean[], $10::real[], $11::float8[], $12::real[], $13::boolean[],
                    $14::boolean[], $15::text[], $16::bigint[])
                    as new (id, state, generation, segment_id, moved_at, next_rescore_at,
                        last_event_at, assigned_at, fallback, distance, p_value, confidence,
                        outlier, retained, audiences, version)
                where workspace_id = 1 and customer_id = new.id";
            let (now, no) = (&now[..rows.len()], vec![false; rows.len()]);
            bind(sqlx::query(update), &rows)
                .bind(now)
                .bind(now)
                .bind(&no)
                .bind(vec![1.5_f32; rows.len()])
                .bind(vec![0.5_f64; rows.len()])
                .bind(vec![0.5_f32; rows.len()])
                .bind(&no)
                .bind(&no)
                .bind(vec![None::<String>; rows.len()])
                .bind(vec![0_i64; rows.len()])
                .execute(&mut *tx)
                .await
                .unwrap();
            tx.commit().await.unwrap();
            written += BATCH;
        }
        written
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// One array for each column.
fn bind<'q>(query: Query<'q>, rows: &[&'q Known]) -> Query<'q> {
    let rows = rows.iter();
    query
        .bind(rows.clone().map(|row| row.customer_id.as_str()).collect::<Vec<_>>())
        .bind(rows.clone().map(|row| row.state.as_slice()).collect::<Vec<_>>())
        .bind(rows.clone().map(|row| row.generation).collect::<Vec<_>>())
        .bind(rows.clone().map(|row| row.segment_id.as_str()).collect::<Vec<_>>())
        .bind(rows.clone().map(|row| row.moved_at).collect::<Vec<_>>())
        .bind(rows.map(|row| row.next_rescore_at).collect::<Vec<_>>())
}
