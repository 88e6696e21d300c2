//! `segmentd keys`

use std::fmt::Write as _;

use clap::Subcommand;

use crate::app::{DatabaseUse, ManagedDatabase};
use crate::config::AppConfig;
use crate::domain::access::AccessScope;
use crate::domain::access::api_key::{ApiKeyRequest, DEFAULT_OVERLAP_SECONDS, KeyRateLimits};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::{COMMAND_LINE, KeyRegistry, KeyWithSecret};
use crate::service::clock::TimeSource;
use crate::store::api_keys;
use crate::store::api_keys::ApiKeyRow;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Create a key. It is printed once and cannot be read again.
    Create(CreateKeyArgs),
    /// List keys without their secrets: id, status, kind (public or secret), creation, expiry,
    /// last use, scopes, name.
    List,
    /// Give a key a new secret. It is printed once and cannot be read again.
    Rotate {
        key_id: String,
        /// Seconds for which the secret before is still accepted.
        #[arg(long, default_value_t = DEFAULT_OVERLAP_SECONDS)]
        overlap_seconds: u32,
    },
    /// Revoke a key.
    Revoke { key_id: String },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateKeyArgs {
    /// Name of the key, shown in lists, logs and decisions.
    name: String,
    /// By default a public key for browsers and apps.
    #[arg(long, value_delimiter = ',', value_parser = scope, default_value = "track",
          help = scopes_help())]
    scopes: Vec<AccessScope>,
    /// The key is not valid from this instant on. [default: never]
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    expires_at: Option<Timestamp>,
    /// Web origins that may send requests with a public key, such as `https://shop.example`,
    /// separated by commas. [default: all]
    #[arg(long, value_delimiter = ',', value_name = "ORIGINS")]
    allowed_origins: Vec<String>,
    /// Maximum requests per second in each process; 0 for no limit. [default: as configured]
    #[arg(long, value_name = "NUMBER")]
    requests_per_second: Option<u32>,
    /// Maximum events per second in each process; 0 for no limit. [default: as configured]
    #[arg(long, value_name = "NUMBER")]
    events_per_second: Option<u32>,
    /// Maximum exports and other expensive requests per minute in each process; 0 for no
    /// limit. [default: as configured]
    #[arg(long, value_name = "NUMBER")]
    expensive_requests_per_minute: Option<u32>,
}

impl CreateKeyArgs {
    fn request(self) -> ApiKeyRequest {
        ApiKeyRequest {
            expires_at: self.expires_at,
            allowed_origins: self.allowed_origins,
            limits: KeyRateLimits {
                requests_per_second: self.requests_per_second,
                events_per_second: self.events_per_second,
                expensive_requests_per_minute: self.expensive_requests_per_minute,
            },
            ..ApiKeyRequest::with_scopes(&self.name, &self.scopes)
        }
    }
}

impl KeysCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let purpose = match self {
            // The first key may be created before the service starts.
            Self::Create(_) => DatabaseUse::Command,
            Self::List | Self::Rotate { .. } | Self::Revoke { .. } => DatabaseUse::CommandOnData,
        };
        let database = ManagedDatabase::open(&config, purpose).await?;
        let outcome = self.execute(&database).await;
        database.close().await?;
        outcome
    }

    async fn execute(self, database: &ManagedDatabase) -> anyhow::Result<()> {
        let clock = TimeSource::System;
        let registry = KeyRegistry::new(database.db.clone(), clock.clone());
        match self {
            Self::Create(create) => {
                print_key(registry.create_key(create.request(), COMMAND_LINE).await)?;
            }
            Self::List => {
                for key in api_keys::list(database.db.read()).await? {
                    println!("{}", line(&key, clock.now()));
                }
            }
            Self::Rotate { key_id, overlap_seconds } => {
                print_key(registry.rotate_key(&key_id, overlap_seconds, COMMAND_LINE).await)?;
            }
            Self::Revoke { key_id } => {
                registry.revoke_key(&key_id, COMMAND_LINE).await?;
                println!("revoked {key_id}");
            }
        }
        Ok(())
    }
}

/// Prints the secret, or returns invalid input as a list of problems.
fn print_key(outcome: Result<KeyWithSecret, ServiceError>) -> anyhow::Result<()> {
    match outcome {
        Ok(created) => println!("{}", created.key.expose()),
        Err(ServiceError::Invalid(faults)) => return Err(faults.into()),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// A key as a line of `keys list`.
fn line(key: &ApiKeyRow, now: Timestamp) -> String {
    let status = if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "valid"
    };
    let scopes: Vec<AccessScope> =
        key.scopes.iter().filter_map(|text| AccessScope::parse(text)).collect();
    let kind = if AccessScope::is_public_key(&scopes) { "public" } else { "secret" };
    let instant =
        |at: Option<Timestamp>, none: &str| at.map_or_else(|| none.to_owned(), |at| at.to_string());
    [
        key.key_id.clone(),
        status.to_owned(),
        kind.to_owned(),
        key.created_at.to_string(),
        instant(key.expires_at, "never expires"),
        instant(key.last_used_at, "never used"),
        key.scopes.join(","),
        key.name.clone(),
    ]
    .join("\t")
}

/// Help text with every scope and its permissions.
fn scopes_help() -> String {
    let mut help =
        "Permissions of the key, separated by commas. The default creates a public key for \
                    browsers and apps, which can have no other scope.\n"
            .to_owned();
    for scope in AccessScope::ALL {
        // Writing to a String cannot fail.
        let _ = write!(help, "\n{scope}: {}.", scope.description());
    }
    help
}

fn scope(text: &str) -> Result<AccessScope, String> {
    let known = AccessScope::ALL.map(AccessScope::as_str).join(", ");
    AccessScope::parse(text).ok_or(format!("must be one of {known}"))
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "must be an RFC 3339 timestamp such as 2027-01-01T00:00:00Z".to_owned())
}
