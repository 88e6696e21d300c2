//! `segmentd channels`

use clap::{Subcommand, ValueEnum};

use crate::app::{self, DatabaseUse, ManagedDatabase};
use crate::config::AppConfig;
use crate::domain::alert::{AlertRoute, DeliveryTarget, WebhookEnvelope};
use crate::domain::drift::Severity;
use crate::domain::secret::SecretValue;
use crate::service::ServiceError;
use crate::service::alerts::ChangeAuthor;
use crate::service::alerts::channels::ChannelRequest;
use crate::store::alerting::channels;

#[derive(Debug, Subcommand)]
pub(super) enum ChannelsCommand {
    /// Create a channel for all alerts, as POST /v1/channels does, which can filter them too.
    /// Prints the id of the channel, and the generated secret of a webhook.
    Create {
        /// Name of the channel.
        name: String,
        #[arg(long, value_enum)]
        kind: TargetKind,
        /// Address of the receiver; that of an Alertmanager is its root.
        #[arg(long)]
        url: String,
        /// Succeed, and change nothing, if a channel of this name exists.
        #[arg(long)]
        if_absent: bool,
    },
}

/// A kind of receiver that has an address.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum TargetKind {
    Alertmanager,
    Slack,
    Webhook,
}

impl ChannelsCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let database = ManagedDatabase::open(&config, DatabaseUse::Command).await?;
        let outcome = self.execute(&config, &database).await;
        database.close().await?;
        outcome
    }

    async fn execute(self, config: &AppConfig, database: &ManagedDatabase) -> anyhow::Result<()> {
        let Self::Create { name, kind, url, if_absent } = self;
        let known = channels::list(database.db.read()).await?;
        if let Some(known) = known.iter().find(|channel| if_absent && channel.name == name) {
            println!("{}", known.channel_id);
            return Ok(());
        }
        let route = AlertRoute {
            owners: Vec::new(),
            topics: Vec::new(),
            min_severity: Severity::Notice,
            escalation_delay_seconds: 0,
        };
        let request = ChannelRequest { name, target: Some(target(kind, url)), route };
        let author = ChangeAuthor { name: "command line".into(), reason: "requested".into() };
        let alerts = app::alert_service(config, &database.db)?;
        let created = alerts.create_channel(request, &author).await;
        let created = created.map_err(|error| match error {
            // The list of problems is printed.
            ServiceError::Invalid(faults) => anyhow::Error::from(faults),
            error => error.into(),
        })?;
        println!("{}", created.row.channel_id);
        if let Some(secret) = created.generated {
            println!("{}", secret.expose());
        }
        Ok(())
    }
}

fn target(kind: TargetKind, url: String) -> DeliveryTarget {
    let url = SecretValue::new(url);
    match kind {
        TargetKind::Alertmanager => DeliveryTarget::Alertmanager { url },
        TargetKind::Slack => DeliveryTarget::Slack { url },
        TargetKind::Webhook => {
            DeliveryTarget::Webhook { url, format: WebhookEnvelope::Standard, secrets: Vec::new() }
        }
    }
}
