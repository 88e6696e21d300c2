//! `segmentd keys`

use std::fmt::Write as _;

use clap::Subcommand;

use crate::app::ManagedDatabase;
use crate::config::AppConfig;
use crate::domain::access::AccessScope;
use crate::service::api_keys;
use crate::service::clock::TimeSource;
use crate::store::api_keys as stored_keys;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Create a key. It is printed once and cannot be read again.
    Create {
        /// Name of the key, shown in lists and logs.
        name: String,
        /// By default a public key for browsers and apps.
        #[arg(long, value_delimiter = ',', value_parser = scope, default_value = "track",
              help = scopes_help())]
        scopes: Vec<AccessScope>,
    },
    /// List keys without their secrets: id, state, kind (public or secret), creation,
    /// scopes, name.
    List,
    /// Revoke a key.
    Revoke { key_id: String },
}

impl KeysCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let database = ManagedDatabase::open(&config).await?;
        let outcome = self.execute(&database).await;
        database.close().await?;
        outcome
    }

    async fn execute(self, database: &ManagedDatabase) -> anyhow::Result<()> {
        let clock = TimeSource::System;
        match self {
            Self::Create { name, scopes } => {
                println!("{}", api_keys::create_key(&database.db, &clock, &name, &scopes).await?);
            }
            Self::List => {
                for key in stored_keys::list(database.db.read()).await? {
                    let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
                    let scopes: Vec<AccessScope> =
                        key.scopes.iter().filter_map(|text| AccessScope::parse(text)).collect();
                    let kind =
                        if AccessScope::is_public_key(&scopes) { "public" } else { "secret" };
                    let (id, scopes) = (key.key_id, key.scopes.join(","));
                    println!("{id}\t{state}\t{kind}\t{}\t{scopes}\t{}", key.created_at, key.name);
                }
            }
            Self::Revoke { key_id } => {
                api_keys::revoke_key(&database.db, &clock, &key_id).await?;
                println!("revoked {key_id}");
            }
        }
        Ok(())
    }
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
