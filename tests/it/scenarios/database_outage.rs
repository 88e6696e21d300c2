//! The private Postgres crashes, or its disk is full: responses meanwhile, and recovery
//! without an operator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, kill_process};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::support::process::postmaster_pid;
use crate::support::{TestApp, eventually, open_to_all, print_skipped};

const ROW: &str = r#"{"features": {"recency_days": 3}}"#;

fn state_directory() -> TempDir {
    tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap()
}

async fn start(state: &Path, settings: &[(&str, &str)]) -> TestApp {
    let place = state.to_str().unwrap();
    let settings = [&[("database.state_directory", place)], settings].concat();
    TestApp::start_with(&settings).await
}

fn kill_postmaster(data: &Path) {
    kill_process(postmaster_pid(data), Signal::KILL).unwrap();
}

/// Sends a new event; returns the status of the response.
async fn event(app: &TestApp, number: &mut usize) -> u16 {
    *number += 1;
    let event = format!(
        r#"{{"type": "page", "name": "x", "customer_id": "c1", "message_id": "m{number}"}}"#
    );
    app.post("/v1/events", event).await.0
}

async fn answers_again(app: &TestApp, number: &mut usize) {
    eventually("events are answered again", async || event(app, number).await == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postmaster_is_restarted() {
    let state = state_directory();
    let app = start(state.path(), &[]).await;
    let data = state.path().join("postgres/data");
    let mut number = 0;
    assert_eq!(event(&app, &mut number).await, 200);
    assert_eq!(app.metric("segmentd_private_postgres_restarts_total").await, 0);
    assert_eq!(app.metric("segmentd_database_up").await, 1);
    for restarts in 1..=2 {
        kill_postmaster(&data);
        assert_eq!(app.post("/v1/score", ROW).await.0, 200);
        eventually("Postgres is restarted", async || {
            app.metric("segmentd_private_postgres_restarts_total").await >= restarts
        })
        .await;
        answers_again(&app, &mut number).await;
    }
    // No acknowledged event is lost, and everything else works, once each pool has replaced
    // its connections.
    eventually("the customer can be read", async || app.get("/v1/customers/c1").await.0 == 200)
        .await;
    eventually("channels can be written", async || {
        let body = r#"{"name": "x", "target": {"kind": "webhook", "url": "https://example.com/"}}"#;
        [201, 409].contains(&app.post("/v1/channels", body).await.0)
    })
    .await;
    app.stop().await;
    assert!(!data.join("postmaster.pid").exists(), "the server is stopped with the process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_restarted_is_reported_and_retried() {
    let state = state_directory();
    let app = start(state.path(), &[]).await;
    let (data, away) = (state.path().join("postgres/data"), state.path().join("away"));
    let mut number = 0;
    assert_eq!(event(&app, &mut number).await, 200);
    let ready = (200, "ready\n".to_owned());
    assert_eq!(
        (app.admin("/readyz").await, app.admin("/readyz/stateful").await),
        (ready.clone(), ready.clone())
    );

    fs::rename(&data, &away).unwrap();
    kill_postmaster(&away);
    eventually("readiness reports it", async || {
        app.admin("/readyz").await.1.contains("degraded: database")
    })
    .await;
    let (status, output) = app.admin("/readyz?verbose").await;
    assert!(
        status == 200 && output.contains("[-] database") && output.ends_with("\nready\n"),
        "{output}"
    );
    assert_eq!(app.admin("/readyz/stateful").await.0, 503);
    assert_eq!(app.metric("segmentd_database_up").await, 0);
    assert_eq!(event(&app, &mut number).await, 503);
    assert_eq!(app.post("/v1/score", ROW).await.0, 200);
    eventually("restarts are retried", async || {
        app.metric("segmentd_private_postgres_restarts_total").await >= 3
    })
    .await;
    // An empty database instead of the lost one would look like success.
    assert!(!data.exists());

    fs::rename(&away, &data).unwrap();
    answers_again(&app, &mut number).await;
    eventually("readiness reports it", async || app.admin("/readyz/stateful").await == ready).await;
    assert_eq!(app.metric("segmentd_database_up").await, 1);
    app.stop().await;
}

/// A small file system. Mounting needs root.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Returns `None` if the test is to be skipped: this process may not mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = state_directory();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0755"), "tmpfs"])
            .arg(folder.path())
            .output();
        let is_mounted = mounted.is_ok_and(|ended| ended.status.success());
        if !is_mounted {
            print_skipped("a small file system cannot be mounted: this needs root");
        }
        is_mounted.then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(self.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills the file system, except for `left_bytes`.
    fn fill(&self, left_bytes: u64) {
        let mut file = fs::File::create(self.ballast()).unwrap();
        let block = vec![1_u8; 64 * 1024];
        while self.free_bytes() > left_bytes {
            let take = usize::try_from(self.free_bytes() - left_bytes).unwrap().min(block.len());
            if std::io::Write::write_all(&mut file, &block[..take]).is_err() {
                break;
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: files may still be open.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_refused_before_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount(400) else { return };
    let bounds = [
        ("database.warn_free_bytes", "150000000"),
        ("database.min_free_bytes", "60000000"),
        ("drift.enabled", "false"),
    ];
    let app = start(disk.path(), &bounds).await;
    let mut number = 0;
    assert_eq!(event(&app, &mut number).await, 200);
    let alert = async |severity: &str| {
        let (_, answer) = app.get("/v1/alerts?topic=operations").await;
        let alerts = answer["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().any(|alert| alert["severity"] == severity)
    };
    disk.fill(120_000_000);
    eventually("a warning fires", async || alert("warning").await).await;
    assert_eq!(event(&app, &mut number).await, 200);
    disk.make_room();
    disk.fill(40_000_000);
    eventually("events are refused", async || event(&app, &mut number).await == 503).await;
    let (_, problem) = app.post("/v1/events", r#"{"type": "page", "customer_id": "c2"}"#).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("database.min_free_bytes"), "{detail}");
    assert_eq!(app.post("/v1/score", ROW).await.0, 200);
    assert!(app.admin("/readyz").await.1.contains("degraded: disk"));
    assert_eq!(app.admin("/readyz/stateful").await.0, 503);
    eventually("a critical alert fires", async || alert("critical").await).await;
    let free = app.metric("segmentd_disk_free_bytes{volume=\"private_postgres\"}").await;
    assert!(free < 60_000_000, "{free}");
    disk.make_room();
    answers_again(&app, &mut number).await;
    eventually("the alert is resolved", async || !alert("critical").await).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ended_by_a_full_disk_recovers_once_there_is_space() {
    let Some(disk) = SmallDisk::mount(400) else { return };
    let unbounded = [("database.warn_free_bytes", "0"), ("database.min_free_bytes", "0")];
    let app = start(disk.path(), &unbounded).await;
    let mut number = 0;
    assert_eq!(event(&app, &mut number).await, 200);
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    disk.fill(0);
    // The write-ahead log needs another segment, and has no space for it.
    eventually("the server ends", async || {
        let _ = sqlx::query("create table filler as select generate_series(1, 300000)")
            .execute(&mut connection)
            .await;
        let _ = sqlx::query("select pg_switch_wal()").execute(&mut connection).await;
        let _ = event(&app, &mut number).await;
        app.metric("segmentd_private_postgres_restarts_total").await >= 2
    })
    .await;
    assert_eq!(event(&app, &mut number).await, 503);
    assert_eq!(app.post("/v1/score", ROW).await.0, 200);
    disk.make_room();
    answers_again(&app, &mut number).await;
    // Idle connections of the ended server are replaced as reads meet them.
    eventually("reads are answered", async || app.get("/v1/customers/c1").await.0 == 200).await;
    app.stop().await;
}
