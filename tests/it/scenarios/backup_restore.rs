//! Backup and restore: runs the commands of `config/guides/backup.md`, and reads the change feed
//! before and after.

use std::collections::HashMap;
use std::path::Path;

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::process::Process;
use crate::support::{TestApp, eventually, ndjson, open_to_all, orders};

const GUIDE: &str = include_str!("../../../config/guides/backup.md");
/// Uses transaction ids, so that those of the old cluster are higher than those of the new
/// one.
const USE_UP_TRANSACTIONS: &str = "do $$ begin for number in 1..8000 loop \
    perform pg_current_xact_id(); commit; end loop; end $$";

/// The shell blocks of the guide, in order.
fn blocks() -> Vec<&'static str> {
    let blocks = GUIDE.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// Runs a block in a shell; returns whether it succeeded, and its output.
async fn run(block: &str, directory: &Path, variables: &[(&str, &str)]) -> (bool, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_segmentd")).parent().unwrap();
    let mut shell = tokio::process::Command::new("sh");
    let block = format!("PATH=\"$PROGRAM:$PATH\"\n{block}");
    shell.args(["-e", "-c", &block]).current_dir(directory).env_remove("DATABASE_URL");
    shell.env("PROGRAM", program).envs(variables.iter().copied()).kill_on_drop(true);
    let ended = shell.output().await.unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8(text).unwrap())
}

struct Client {
    url: String,
    key: String,
    http: reqwest::Client,
}

impl Client {
    fn new(url: &str, key: &str) -> Self {
        Self { url: url.to_owned(), key: key.to_owned(), http: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post(&self, events: &[Value]) {
        let url = format!("{}/v1/events/bulk", self.url);
        let request = self.http.post(url).bearer_auth(&self.key).body(ndjson(events));
        let verdicts = request.send().await.unwrap().text().await.unwrap();
        assert_eq!(verdicts.matches(r#""status":"accepted""#).count(), events.len(), "{verdicts}");
    }

    /// Every change after `after`, and the cursor behind it. Waits for at least `least`
    /// changes, because transactions in progress delay the feed.
    async fn changes(&self, after: Option<&str>, least: usize) -> (Vec<Value>, String) {
        let (mut all, mut next) = (Vec::new(), after.map(str::to_owned));
        loop {
            let from = next.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let wait = if all.len() < least { "&wait_seconds=30" } else { "" };
            let (status, page) =
                self.get(&format!("/v1/changes?moves_only=false&limit=7{wait}{from}")).await;
            assert_eq!((status, &page["gap"]), (200, &json!(false)), "{page}");
            all.extend(page["changes"].as_array().unwrap().iter().cloned());
            let cursor = page["next_cursor"].as_str().unwrap().to_owned();
            if page["more"] == false && all.len() >= least {
                return (all, cursor);
            }
            next = Some(cursor);
        }
    }
}

/// One order of each customer in the range.
fn first_orders(customers: std::ops::Range<usize>) -> Vec<Value> {
    orders(customers.end, 0).split_off(customers.start)
}

fn segments(changes: &[Value]) -> HashMap<String, Value> {
    let last = |change: &Value| {
        (change["customer_id"].as_str().unwrap().to_owned(), change["segment_id"].clone())
    };
    changes.iter().map(last).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_private_database_is_dumped_and_restored_as_documented() {
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let state = place.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, open_to_all()).unwrap();
    let state_text = state.display().to_string();
    let variables = [("SEGMENTD_DATABASE__STATE_DIRECTORY", &*state_text)];
    let key = Process::key(&state, None);
    let use_up = format!(
        r#"segmentd postgres -- sh -c 'psql -c "{}" "$DATABASE_URL"'"#,
        USE_UP_TRANSACTIONS.replace('$', r"\$")
    );
    let (done, output) = run(&use_up, place.path(), &variables).await;
    assert!(done, "{output}");

    let mut process = Process::start(&state, None);
    let before = Client::new(&process.url, &key);
    before.post(&first_orders(0..40)).await;
    let (all, end) = before.changes(None, 40).await;
    assert_eq!(all.len(), 40);
    let middle = all[14]["cursor"].as_str().unwrap();

    // While the service runs.
    let [backup, restore, ..] = blocks()[..] else { panic!("{GUIDE}") };
    let (done, output) = run(backup, place.path(), &variables).await;
    assert!(done, "{output}");
    process.kill();

    // Changes that the restore loses, although a consumer has read them.
    let mut process = Process::start(&state, None);
    let before = Client::new(&process.url, &key);
    before.post(&first_orders(40..45)).await;
    let (lost, behind_lost) = before.changes(Some(&end), 5).await;
    assert_eq!(lost.len(), 5);
    process.kill();

    let restored = place.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::set_permissions(&restored, open_to_all()).unwrap();
    let (done, output) = run(restore, place.path(), &variables).await;
    assert!(done, "{output}");
    assert!(output.contains("epoch 2"), "{output}");
    assert!(!output.contains("PROBLEM"), "{output}");

    let process = Process::start(&restored, None);
    let after = Client::new(&process.url, &key);
    assert_eq!(after.changes(None, 40).await.0, all);
    assert_eq!(after.changes(Some(middle), 25).await.0, all[15..]);
    assert_eq!(after.changes(Some(&end), 0).await.0, Vec::<Value>::new());
    let (status, gone) = after.get(&format!("/v1/changes?cursor={behind_lost}")).await;
    assert_eq!(status, 410, "{gone}");
    assert!(gone["detail"].as_str().unwrap().contains("export"), "{gone}");

    // New changes follow, once each.
    let (_, now) = after.get("/v1/changes?cursor=now").await;
    after.post(&first_orders(50..60)).await;
    let (new, _) = after.changes(Some(&end), 10).await;
    assert_eq!(new.len(), 10);
    assert_eq!(after.changes(Some(middle), 35).await.0, [&all[15..], &new[..]].concat());
    assert_eq!(after.changes(now["next_cursor"].as_str(), 10).await.0, new);
    // A lost cursor stays invalid, even when the new cluster reaches its transaction ids.
    assert_eq!(after.get(&format!("/v1/changes?cursor={behind_lost}")).await.0, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_database_is_dumped_and_restored_as_documented() {
    let app = TestApp::start().await;
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql(USE_UP_TRANSACTIONS).execute(&mut session).await.unwrap();
    app.post("/v1/events/bulk", ndjson(&orders(120, 4))).await;
    app.train().await;
    let before = Client::new(&app.url, &app.key);
    let (all, _) = before.changes(None, 240).await;

    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = PrivatePostgres::start(
        place.path(),
        &PrivateServerSettings { binaries: None, max_connections: 100 },
    );
    let server = server.await.unwrap();
    let restored_url = server.url();
    let variables =
        [("DATABASE_URL", app.database_url()), ("RESTORED_DATABASE_URL", &*restored_url)];
    let [.., backup, restore] = blocks()[..] else { panic!("{GUIDE}") };
    let files = tempfile::tempdir().unwrap();
    let (done, output) = run(backup, files.path(), &variables).await;
    assert!(done, "{output}");
    let (done, output) = run(restore, files.path(), &variables).await;
    assert!(done && !output.contains("PROBLEM"), "{output}");

    let restored = TestApp::start_with(&[("database.url", &restored_url)]).await;
    let after = Client::new(&restored.url, &restored.key);
    let (again, _) = after.changes(None, all.len()).await;
    assert_eq!(again[..all.len()], all);
    // A consumer that reads from the start has the current segment of every customer.
    for (customer, segment) in segments(&again) {
        let (_, assignment) = after.get(&format!("/v1/customers/{customer}")).await;
        assert_eq!(assignment["segment_id"], segment, "{customer}");
    }
    restored.stop().await;
    server.stop().await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_timeline_begins_an_epoch_and_the_check_names_each_problem() {
    let app = TestApp::start().await;
    let client = Client::new(&app.url, &app.key);
    client.post(&first_orders(0..10)).await;
    let (all, end) = client.changes(None, 10).await;
    let (done, output) = app.command(&["check", "database"]).await;
    assert!(done && output.contains("states: ") && !output.contains("PROBLEM"), "{output}");

    // The state after a point-in-time recovery.
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql("update change_epoch set timeline = 77").execute(&mut session).await.unwrap();
    let (done, output) = app.command(&["check", "database"]).await;
    assert!(
        !done && output.contains("PROBLEM change feed: recovered on another timeline"),
        "{output}"
    );
    let replica = app.replica().await;
    let (done, output) = app.command(&["check", "database"]).await;
    assert!(done && output.contains("epoch 2"), "{output}");
    client.post(&first_orders(10..20)).await;
    let other = Client::new(&replica.url, &app.key);
    eventually("the other replica knows the key", async || other.get("/v1/changes").await.0 == 200)
        .await;
    let (new, _) = other.changes(Some(&end), 10).await;
    assert_eq!(other.changes(None, 20).await.0, [&all[..], &new[..]].concat());
    let epochs: i64 = sqlx::query_scalar("select count(*) from change_epoch")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(epochs, 2);

    sqlx::raw_sql("select setval('change_number', 1)").execute(&mut session).await.unwrap();
    sqlx::raw_sql(
        "update customer set state = (select state from customer where customer_id = 'c0004')
         where customer_id = 'c0003'",
    )
    .execute(&mut session)
    .await
    .unwrap();
    let (done, output) = app.command(&["check", "database"]).await;
    assert!(!done && output.contains("PROBLEM sequences: change_number is at 2"), "{output}");
    assert!(output.contains("PROBLEM states: 1 of "), "{output}");
    replica.stop().await;
    app.stop().await;
}
