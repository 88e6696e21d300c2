//! Input cases: requests and tables as real clients send them, each with its right answer.
//!
//! `tests/data/cases/README.md` describes the files.

mod answer;
mod case;
mod run;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::open_to_all;
use case::{Case, read_cases, unused_inputs};
use run::run_case;

/// Names another folder of cases, absolute or relative to the root of the repository.
const FOLDER_VARIABLE: &str = "SEGMENTD_CASES";
const DEFAULT_FOLDER: &str = "tests/data/cases";

/// Cases that run at once. Each has a server and a database of its own.
const CONCURRENT_CASES: usize = 4;

/// Connections of the servers and commands of these cases.
const MAX_CONNECTIONS: u32 = 400;

fn folder() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the folder of a test is no setting of segmentd")]
    let named = std::env::var_os(FOLDER_VARIABLE);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(named.unwrap_or(DEFAULT_FOLDER.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_gets_its_right_answer() {
    let folder = folder();
    let (cases, mut failures) = read_cases(&folder);
    // With an unreadable case it is not known which inputs are used.
    if failures.is_empty() {
        failures = unused_inputs(&folder, &cases);
    }
    let count = cases.len() + failures.len();
    assert!(count > 0, "no cases in {}", folder.display());
    failures.extend(run_all(&cases).await);
    failures.sort();
    assert!(failures.is_empty(), "{}: wrong answers:\n{}", folder.display(), failures.join("\n"));
}

/// Runs the cases on one Postgres, as to create one for each takes longer than most cases.
async fn run_all(cases: &[Case]) -> Vec<String> {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let settings = PrivateServerSettings { binaries: None, max_connections: MAX_CONNECTIONS };
    let postgres = PrivatePostgres::start(state.path(), &settings).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut databases = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let name = format!("case_{number}");
        // A name contains no value from outside.
        let create = AssertSqlSafe(format!("create database {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        databases.push((case, postgres.url_for(&name)));
    }
    connection.close().await.unwrap();
    let ended = stream::iter(databases)
        .map(|(case, database_url)| run_alone(case, database_url))
        .buffer_unordered(CONCURRENT_CASES);
    let failures = ended.filter_map(std::future::ready).collect().await;
    postgres.stop().await.unwrap();
    failures
}

/// Runs the case; returns its failures. A server that does not start panics, which fails only
/// its case.
async fn run_alone(case: &Case, database_url: String) -> Option<String> {
    let ended = AssertUnwindSafe(run_case(case, &database_url)).catch_unwind().await;
    ended.unwrap_or_else(|payload| Some(format!("{}: {}", case.name, panic_text(&*payload))))
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref().copied()).unwrap_or("panicked")
}
