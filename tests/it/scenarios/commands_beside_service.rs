//! Commands beside a running service with a private Postgres, from another folder.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Process, user_command};
use crate::support::{eventually, ndjson, open_to_all, orders};

/// A directory that the account of the Postgres server can reach.
fn directory() -> TempDir {
    tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap()
}

/// The user's state and two folders.
struct User {
    state_home: TempDir,
    service_folder: TempDir,
    folder: TempDir,
}

impl User {
    fn new() -> Self {
        Self { state_home: directory(), service_folder: directory(), folder: directory() }
    }

    /// Runs a command in the user's other folder.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = user_command(self.state_home.path(), self.folder.path());
        command.args(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; returns its standard output.
    fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    }

    /// Runs a command that must fail; returns its standard error.
    fn fail(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert!(!ended.status.success(), "{arguments:?}");
        String::from_utf8(ended.stderr).unwrap()
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn status(url: &str, key: &str) -> u16 {
    let request = reqwest::Client::new().get(format!("{url}/v1/segments")).bearer_auth(key);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_another_folder_use_the_database_of_the_running_service() {
    let user = User::new();
    let service = Process::start_as_user(user.state_home.path(), user.service_folder.path());
    let key = user.succeed(&[
        "keys",
        "create",
        "all",
        "--scopes",
        "ingest,score,read,replay,train,admin",
    ]);
    eventually("the service knows the key", async || status(&service.url, &key).await == 200).await;

    let client = reqwest::Client::new();
    let upload = client.post(format!("{}/v1/events/bulk", service.url)).bearer_auth(&key);
    let events = orders(150, 5);
    let verdicts = upload.body(ndjson(&events)).send().await.unwrap().text().await.unwrap();
    assert_eq!(verdicts.matches(r#""status":"accepted""#).count(), events.len());

    let trained = user.succeed(&[
        "train",
        "--from",
        "database",
        "--segments",
        "3",
        "--starts",
        "3",
        "--out",
        "model.json",
    ]);
    assert!(trained.contains("saved to model.json"), "{trained}");
    let rebuilt = user.succeed(&["backfill", "--all"]);
    assert!(rebuilt.contains("failed 0"), "{rebuilt}");
    assert!(user.succeed(&["check", "database"]).contains("ok"));
    user.succeed(&["postgres", "--", "sh", "-c", "test -n \"$DATABASE_URL\""]);
    user.succeed(&["migrate"]);
    user.succeed(&["export", "--url", &service.url, "--key", &key, "customers.csv"]);
    let table = std::fs::read_to_string(user.folder.path().join("customers.csv")).unwrap();
    assert_eq!(table.lines().count(), 151);
    assert_eq!(names_in(user.folder.path()), ["customers.csv", "model.json"]);

    // Rotation and revocation reach the service.
    let id = key.split('_').nth(1).unwrap();
    let new = user.succeed(&["keys", "rotate", id, "--overlap-seconds", "0"]);
    eventually("the service refuses the secret before", async || {
        status(&service.url, &key).await == 401
    })
    .await;
    eventually("the service accepts the new secret", async || {
        status(&service.url, &new).await == 200
    })
    .await;
    user.succeed(&["keys", "revoke", id]);
    eventually("the service refuses the key", async || status(&service.url, &new).await == 401)
        .await;
    assert!(user.succeed(&["keys", "list"]).contains("revoked"));

    // The database still runs, and a second service says who uses it.
    let ready = reqwest::get(format!("{}/readyz/stateful", service.admin)).await.unwrap();
    assert_eq!(ready.status(), 200);
    let refusal =
        user.fail(&["--set", "http.bind=127.0.0.1:0", "--set", "admin.bind=127.0.0.1:0", "serve"]);
    let lines: Vec<&str> = refusal.lines().collect();
    assert_eq!(lines.len(), 1, "{refusal}");
    let state = user.state_home.path().join("segmentd/postgres");
    assert!(lines[0].contains(&*state.to_string_lossy()), "{refusal}");
    assert!(lines[0].contains("in use by another segmentd (process "), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_database_says_what_to_do_and_creates_none() {
    let user = User::new();
    for arguments in [
        &["backfill"][..],
        &["train"],
        &["train", "--from", "database"],
        &["keys", "list"],
        &["keys", "revoke", "k"],
        &["check", "database"],
        &["repair", "clock"],
    ] {
        let refusal = user.fail(arguments);
        assert!(refusal.contains("there is no database"), "{arguments:?}: {refusal}");
        assert!(refusal.contains("segmentd serve"), "{arguments:?}: {refusal}");
    }
    assert_eq!(names_in(user.state_home.path()), [""; 0]);
    let refusal = user.fail(&["export", "--key", "k", "--url", "http://127.0.0.1:1", "x.csv"]);
    assert!(refusal.contains("cannot reach the service at http://127.0.0.1:1"), "{refusal}");
}

/// The first key may be created before the service starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_created_before_the_service_is_the_key_of_the_service() {
    let user = User::new();
    let key = user.succeed(&["keys", "create", "shop", "--scopes", "read"]);
    let service = Process::start_as_user(user.state_home.path(), user.service_folder.path());
    assert_eq!(status(&service.url, &key).await, 200);
    let faults = user.fail(&["keys", "create", "x", "--allowed-origins", "shop"]);
    assert!(faults.contains("allowed_origins[0]: must be an origin"), "{faults}");
    let limited = user.succeed(&[
        "keys",
        "create",
        "limited",
        "--scopes",
        "read",
        "--requests-per-second",
        "5",
    ]);
    eventually("the service knows the key", async || status(&service.url, &limited).await == 200)
        .await;
    let request = reqwest::Client::new().get(format!("{}/v1/segments", service.url));
    let answer = request.bearer_auth(&limited).send().await.unwrap();
    assert_eq!(answer.headers()["ratelimit-policy"], "\"requests\";q=5;w=1");
    assert!(answer.json::<Value>().await.is_ok());
}
