//! `segmentd keys`

use clap::Subcommand;

use crate::app::Database;
use crate::config::Config;
use crate::domain::access::Scope;
use crate::service::access;
use crate::service::clock::Clock;
use crate::store::keys;

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key. It is printed once and cannot be read again.
    Create {
        /// What it is for, for people.
        name: String,
        /// What it may do: ingest, score, read, train, admin. All when left out.
        #[arg(long, value_delimiter = ',', value_parser = scope)]
        scopes: Vec<Scope>,
    },
    /// List keys, without their secrets.
    List,
    /// Make a key invalid.
    Revoke { key_id: String },
}

impl Keys {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let database = Database::open(&config).await?;
        let outcome = self.act(&database).await;
        database.close().await?;
        outcome
    }

    async fn act(self, database: &Database) -> anyhow::Result<()> {
        let clock = Clock::System;
        match self {
            Self::Create { name, scopes } => {
                let scopes = if scopes.is_empty() { Scope::ALL.to_vec() } else { scopes };
                println!("{}", access::create(&database.db, &clock, &name, &scopes).await?);
            }
            Self::List => {
                for key in keys::list(database.db.read()).await? {
                    let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
                    let scopes = key.scopes.join(",");
                    println!("{}\t{state}\t{}\t{scopes}\t{}", key.key_id, key.created_at, key.name);
                }
            }
            Self::Revoke { key_id } => {
                access::revoke(&database.db, &clock, &key_id).await?;
                println!("revoked {key_id}");
            }
        }
        Ok(())
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    let known = Scope::ALL.map(Scope::as_str).join(", ");
    Scope::parse(text).ok_or(format!("must be one of {known}"))
}
