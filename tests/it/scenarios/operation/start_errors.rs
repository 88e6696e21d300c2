//! Errors at the start: one line that says what failed and where, without a secret.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use sqlx::{Connection as _, PgConnection};

use crate::support::open_to_all;

const PASSWORD: &str = "correct-horse";

/// Runs `segmentd serve` with these settings until it fails; returns what it prints.
fn start_error(database_url: Option<&str>, settings: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segmentd"));
    command.args(["--set", "http.bind=127.0.0.1:0", "--set", "admin.bind=127.0.0.1:0"]);
    command.args(["--set", "log.level=error"]).env_remove("DATABASE_URL");
    for setting in settings {
        command.args(["--set", setting]);
    }
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    let ended = command.arg("serve").output().unwrap();
    assert!(!ended.status.success());
    let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[track_caller]
fn cannot_connect(url: &str, expected: &str) {
    assert_eq!(
        start_error(Some(url), &[]),
        format!("error: cannot connect to Postgres at {expected}\n")
    );
}

/// A server that accepts one connection, reads the first message and answers with `bytes`.
fn server(bytes: &'static [u8]) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut message = [0; 512];
        assert!(stream.read(&mut message).unwrap() > 0);
        stream.write_all(bytes).unwrap();
    });
    (port, answering)
}

fn url(port: u16, parameters: &str) -> String {
    format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/shop{parameters}")
}

#[test]
fn an_unreachable_postgres_is_named_with_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    cannot_connect(&url(port, ""), &format!("127.0.0.1:{port}: connection refused"));
    cannot_connect(
        &format!("postgres://app:{PASSWORD}@postgres.invalid/shop"),
        "postgres.invalid:5432: the host name cannot be resolved",
    );
    cannot_connect(
        &format!("postgres:///shop?host=/nowhere&user=app&password={PASSWORD}"),
        "/nowhere/.s.PGSQL.5432: there is no such socket; is Postgres running?",
    );
}

#[test]
fn a_refused_login_is_reported_in_the_words_of_postgres() {
    // `AuthenticationCleartextPassword` is answered with the password, and that with an error.
    let refusal: &[u8] =
        b"E\0\0\0\x54SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0Fauth.c\0L1\0\0";
    assert_eq!(refusal.len(), 1 + 0x54, "the length of the message");
    let (port, answering) = server(refusal);
    let reason = "password authentication failed for user \"app\"";
    cannot_connect(&url(port, "?sslmode=disable"), &format!("127.0.0.1:{port}: {reason}"));
    answering.join().unwrap();

    // `N`: the server does not support TLS.
    let (port, answering) = server(b"N");
    let reason = "the server does not support TLS, but the sslmode in database.url requires it";
    cannot_connect(&url(port, "?sslmode=require"), &format!("127.0.0.1:{port}: {reason}"));
    answering.join().unwrap();

    let (port, answering) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let reason = "the server does not answer as Postgres does";
    cannot_connect(&url(port, ""), &format!("127.0.0.1:{port}: {reason}"));
    answering.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_is_named() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let settings = PrivateServerSettings { binaries: None, max_connections: 60 };
    let postgres = PrivatePostgres::start(state.path(), &settings).await.unwrap();
    let (server, database) = split_database(&postgres.url());
    let missing = start_error(Some(&server.replace("DATABASE", "nowhere")), &[]);
    assert!(missing.starts_with("error: cannot connect to Postgres at "), "{missing}");
    assert!(missing.ends_with(": database \"nowhere\" does not exist\n"), "{missing}");

    // A migration that only a newer version knows.
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let sql =
        "create table _sqlx_migrations (version bigint primary key, description text not null,
                   installed_on timestamptz not null default now(), success boolean not null,
                   checksum bytea not null, execution_time bigint not null);
               insert into _sqlx_migrations values (9999, 'future', now(), true, '\\x00', 1)";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let newer = start_error(Some(&postgres.url()), &[]);
    let expected = format!("error: cannot migrate the schema of the database `{database}` at ");
    assert!(newer.starts_with(&expected), "{newer}");
    let reason = ": the schema is of a newer segmentd (its migration 9999 is unknown to this \
                  one); run that version\n";
    assert!(newer.ends_with(reason), "{newer}");
    postgres.stop().await.unwrap();
}

/// The address with the word DATABASE in place of the database's name, and that name.
fn split_database(url: &str) -> (String, String) {
    let (address, parameters) = url.split_once('?').unwrap();
    let (server, database) = address.rsplit_once('/').unwrap();
    (format!("{server}/DATABASE?{parameters}"), database.to_owned())
}

#[test]
fn an_occupied_port_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for setting in ["http.bind", "admin.bind"] {
        let error = start_error(None, &[format!("{setting}={address}")]);
        let reason = "another process uses this port";
        assert_eq!(error, format!("error: cannot listen on {address} ({setting}): {reason}\n"));
    }
}

#[test]
fn an_unreadable_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let missing = path("missing.toml");
    let error = start_error(None, &[format!("features.file={missing}")]);
    let reason = "no such file or directory";
    assert_eq!(error, format!("error: cannot read the feature set {missing}: {reason}\n"));
    let error = start_error(None, &["training.outcomes=orders,survey_scor".to_owned()]);
    let problem = "outcomes[1]: `survey_scor` is not a feature of this set";
    assert_eq!(error, format!("error: 1 problem in the setting training.outcomes: {problem}\n"));

    let mut command = Command::new(env!("CARGO_BIN_EXE_segmentd"));
    let ended = command.args(["--config", &missing, "serve"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(ended.stderr).unwrap(),
        format!("error: 1 problem in the settings: {missing}: cannot be read: {reason}\n")
    );

    // Root may write everywhere, but not into a file.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let state = Path::new(&path("file")).join("state").display().to_string();
    let error = start_error(None, &[format!("database.state_directory={state}")]);
    assert_eq!(
        error,
        format!("error: cannot create the state directory {state}: not a directory\n")
    );
}
