//! Errors of opening the database at the start: each is one line for an operator that says what
//! failed and where. No line has a password.

use std::error::Error;
use std::io;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;

use crate::domain::text::plain_os_error;

/// Failure to connect to Postgres, or to migrate the schema.
#[derive(Debug, thiserror::Error)]
pub enum OpenDatabaseError {
    #[error("database.url is not a valid address of a Postgres database: {0}")]
    InvalidUrl(String),
    #[error("cannot connect to Postgres at {address}: {reason}")]
    Connection { address: String, reason: String },
    #[error("cannot migrate the schema of the database `{database}` at {address}: {reason}")]
    Migration { database: String, address: String, reason: String },
}

impl OpenDatabaseError {
    pub(super) fn invalid_url(error: &sqlx::Error) -> Self {
        Self::InvalidUrl(root_cause(error))
    }

    pub(super) fn connection(options: &PgConnectOptions, error: &sqlx::Error) -> Self {
        Self::Connection { address: address(options), reason: connection_reason(options, error) }
    }

    pub(super) fn no_answer(options: &PgConnectOptions, seconds: u64) -> Self {
        Self::Connection {
            address: address(options),
            reason: format!("no answer within {seconds} s"),
        }
    }

    pub(super) fn migration(options: &PgConnectOptions, error: &MigrateError) -> Self {
        // Postgres names the database after the user by default.
        let database = options.get_database().unwrap_or(options.get_username());
        Self::Migration {
            database: database.to_owned(),
            address: address(options),
            reason: migration_reason(options, error),
        }
    }
}

/// Host and port, or the path of the Unix socket.
fn address(options: &PgConnectOptions) -> String {
    let port = options.get_port();
    match options.get_socket() {
        Some(directory) => format!("{}/.s.PGSQL.{port}", directory.display()),
        None => format!("{}:{port}", options.get_host()),
    }
}

fn connection_reason(options: &PgConnectOptions, error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => io_reason(options, error),
        // The text of the driver, from `PgStream`.
        sqlx::Error::Tls(error) if error.to_string() == "server does not support TLS" => {
            "the server does not support TLS, but the sslmode in database.url requires it"
                .to_owned()
        }
        sqlx::Error::Tls(error) => format!("TLS failed: {}", root_cause(&**error)),
        sqlx::Error::Protocol(_) => "the server does not answer as Postgres does".to_owned(),
        sqlx::Error::PoolTimedOut => {
            "no connection within database.acquire_timeout_seconds".to_owned()
        }
        sqlx::Error::Database(refusal) => refusal.message().to_owned(),
        other => root_cause(other),
    }
}

fn io_reason(options: &PgConnectOptions, error: &io::Error) -> String {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::NotFound if options.get_socket().is_some() => {
            "there is no such socket; is Postgres running?".to_owned()
        }
        io::ErrorKind::NotFound => {
            "a file that database.url names (sslrootcert, sslcert or sslkey) does not exist"
                .to_owned()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the server closed the connection".to_owned()
        }
        _ if text.starts_with("failed to lookup address") => {
            "the host name cannot be resolved".to_owned()
        }
        // The text of rustls.
        _ => match text.strip_prefix("invalid peer certificate: ") {
            Some(reason) => format!("the TLS certificate of the server is not accepted: {reason}"),
            None => plain_os_error(error),
        },
    }
}

fn migration_reason(options: &PgConnectOptions, error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) => format!(
            "the schema is of a newer segmentd (its migration {version} is unknown to this one); \
             run that version"
        ),
        MigrateError::VersionMismatch(version) => format!(
            "migration {version} was applied with another content; the schema is of another \
             build of segmentd"
        ),
        MigrateError::Dirty(version) => {
            format!("migration {version} was interrupted; restore a backup, or use a new database")
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if lacks_privilege(error) =>
        {
            let (user, reason) = (options.get_username(), connection_reason(options, error));
            format!("{reason}; the user `{user}` needs the right to create tables")
        }
        MigrateError::Execute(error) => connection_reason(options, error),
        MigrateError::ExecuteMigration(error, version) => {
            format!("{} (in migration {version})", connection_reason(options, error))
        }
        other => root_cause(other),
    }
}

/// Whether the user may not create objects: `insufficient_privilege`, or `invalid_schema_name`
/// because the user may use no schema.
fn lacks_privilege(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42501" | "3F000"))
}

/// The text of the innermost cause: outer texts of the driver repeat it.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain_os_error(cause)
}
