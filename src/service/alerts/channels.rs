//! Notification channels: create, replace, delete, enable and test. Every change is validated
//! and recorded with its author.

use std::collections::BTreeMap;

use crate::domain::alert::{
    AlertRoute, AlertState, AlertTopic, DeliveryTarget, Notification, encode_webhook_secret,
};
use crate::domain::drift::Severity;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::secret::SecretValue;
use crate::domain::text::{self, MAX_NAME_CHARS};
use crate::service::alerts::{AlertService, ChangeAuthor, DecisionSubject, validated_text};
use crate::service::{ServiceError, random};
use crate::store::StoreError;
use crate::store::alerting::channels::ChannelRow;
use crate::store::alerting::{channels, deliveries, move_deliveries};

/// Most channels there may be: routing an alert reads all channels.
const MAX_CHANNELS: usize = 500;
const MAX_OWNERS: usize = 1000;
const MAX_AFTER_SECONDS: u32 = 30 * 86_400;
/// Ordering key of test messages: they are sent in order among themselves and never wait for an
/// alert.
const TEST_KEY: &str = "test";

/// A channel as requested.
#[derive(Debug, Clone)]
pub(crate) struct ChannelRequest {
    pub name: String,
    /// `None` leaves the target of an existing channel unchanged.
    pub target: Option<DeliveryTarget>,
    pub route: AlertRoute,
}

/// A stored channel and, once, its generated secret.
#[derive(Debug)]
pub(crate) struct ChannelWithSecret {
    pub row: ChannelRow,
    /// The secret generated for the channel: returned in this response only, never again.
    pub generated: Option<SecretValue<String>>,
}

impl AlertService {
    /// Creates a channel. A webhook without a secret gets a generated one.
    pub(crate) async fn create_channel(
        &self,
        wanted: ChannelRequest,
        by: &ChangeAuthor,
    ) -> Result<ChannelWithSecret, ServiceError> {
        let Some(target) = wanted.target.clone() else {
            return Err(ServiceError::Invalid(ValidationFaults::single("target", "is missing")));
        };
        let (target, generated) = with_generated_secret(target)?;
        validate(&wanted, &target)?;
        if channels::list(self.db.read()).await?.len() >= MAX_CHANNELS {
            let why = format!("the limit of {MAX_CHANNELS} channels is reached");
            return Err(ServiceError::Conflict(why));
        }
        let row = ChannelRow {
            channel_id: random::prefixed_id::<8>("channel")?,
            name: wanted.name,
            target,
            route: wanted.route,
            created_at: self.clock.now(),
            disabled: None,
        };
        // Commits together: the channel, its position in the change feed if it receives moves,
        // and the record of its creation.
        let mut tx = self.db.begin().await?;
        channels::insert(&mut tx, &row).await.map_err(duplicate_name)?;
        if row.route.has_moves() {
            move_deliveries::start(&mut tx, &row.channel_id, row.created_at).await?;
        }
        self.record_decision(
            &mut tx,
            DecisionSubject::Channel(&row.channel_id),
            "create",
            &validated_author(by)?,
        )
        .await?;
        tx.commit().await?;
        Ok(ChannelWithSecret { row, generated })
    }

    /// Replaces a channel. A webhook keeps its secrets unless the request contains new ones.
    pub(crate) async fn replace_channel(
        &self,
        channel_id: &str,
        wanted: ChannelRequest,
        by: &ChangeAuthor,
    ) -> Result<ChannelWithSecret, ServiceError> {
        let before = self.channel(channel_id).await?;
        let (target, generated) = match wanted.target.clone() {
            Some(target) => with_generated_secret(with_previous_secrets(target, &before.target))?,
            None => (before.target.clone(), None),
        };
        validate(&wanted, &target)?;
        let row = ChannelRow { name: wanted.name, target, route: wanted.route, ..before };
        // Commits together: the channel, its position in the change feed if it receives moves,
        // and the record of its change.
        let mut tx = self.db.begin().await?;
        if !channels::update(&mut tx, &row).await.map_err(duplicate_name)? {
            return Err(unknown_channel(channel_id));
        }
        if row.route.has_moves() {
            move_deliveries::start(&mut tx, channel_id, self.clock.now()).await?;
        } else {
            move_deliveries::end(&mut tx, channel_id).await?;
        }
        self.record_decision(
            &mut tx,
            DecisionSubject::Channel(channel_id),
            "replace",
            &validated_author(by)?,
        )
        .await?;
        tx.commit().await?;
        Ok(ChannelWithSecret { row, generated })
    }

    /// Deletes a channel with its delivery log and its pending messages.
    pub(crate) async fn delete_channel(
        &self,
        channel_id: &str,
        by: &ChangeAuthor,
    ) -> Result<(), ServiceError> {
        // Commits together: the deletion, the resolution of the alert about the channel, and
        // the record of the deletion.
        let mut tx = self.db.begin().await?;
        if !channels::delete(&mut tx, channel_id).await? {
            return Err(unknown_channel(channel_id));
        }
        self.resolve_channel_alert(&mut tx, channel_id, "the channel was deleted").await?;
        self.record_decision(
            &mut tx,
            DecisionSubject::Channel(channel_id),
            "delete",
            &validated_author(by)?,
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// Enables a disabled channel; idempotent. Alerts that are firing are sent to it by the
    /// next sweep. Moves continue after the last accepted one.
    pub(crate) async fn enable_channel(
        &self,
        channel_id: &str,
        by: &ChangeAuthor,
    ) -> Result<ChannelRow, ServiceError> {
        // Commits together: the enabled channel, its moves made due, the resolution of the alert
        // about it, and the record of the change.
        let mut tx = self.db.begin().await?;
        if channels::enable(&mut tx, channel_id).await? {
            move_deliveries::restart(&mut tx, channel_id, self.clock.now()).await?;
            let why = format!("the channel was enabled by {}", by.name);
            self.resolve_channel_alert(&mut tx, channel_id, &why).await?;
            self.record_decision(
                &mut tx,
                DecisionSubject::Channel(channel_id),
                "enable",
                &validated_author(by)?,
            )
            .await?;
            tx.notify_deliverers().await?;
            tx.commit().await?;
        }
        self.channel(channel_id).await
    }

    /// Enqueues a test message and returns its delivery id.
    pub(crate) async fn test_channel(
        &self,
        channel_id: &str,
        by: &ChangeAuthor,
    ) -> Result<String, ServiceError> {
        let channel = self.channel(channel_id).await?;
        refuse_disabled(&channel)?;
        let now = self.clock.now();
        let notice = Notification {
            delivery_id: random::prefixed_id::<16>("msg")?,
            alert_id: random::prefixed_id::<12>("test")?,
            key: TEST_KEY.into(),
            topic: AlertTopic::Test,
            state: AlertState::Firing,
            severity: Severity::Notice,
            owner: None,
            subject: BTreeMap::from([("channel".to_owned(), channel.name.clone())]),
            title: format!("Test of channel {}", channel.name),
            description: format!("{} requested a test message. No alert is firing.", by.name),
            advice: "No action is needed.".into(),
            facts: Vec::new(),
            parts: vec![],
            picture: None,
            started_at: now,
            at: now,
            link: self.settings.external_url.clone(),
        };
        // Commits together: the message and the record of the request.
        let mut tx = self.db.begin().await?;
        crate::store::alerting::lock_key(&mut tx, TEST_KEY).await?;
        deliveries::insert(&mut tx, channel_id, &notice, now).await?;
        self.record_decision(
            &mut tx,
            DecisionSubject::Channel(channel_id),
            "test",
            &validated_author(by)?,
        )
        .await?;
        tx.commit().await?;
        Ok(notice.delivery_id)
    }

    pub(crate) async fn channel(&self, channel_id: &str) -> Result<ChannelRow, ServiceError> {
        let found = channels::find(self.db.read(), channel_id).await?;
        found.ok_or_else(|| unknown_channel(channel_id))
    }
}

pub(super) fn refuse_disabled(channel: &ChannelRow) -> Result<(), ServiceError> {
    match &channel.disabled {
        Some(disabled) => {
            let why = format!("the channel is disabled ({}): enable it first", disabled.reason);
            Err(ServiceError::Conflict(why))
        }
        None => Ok(()),
    }
}

fn unknown_channel(channel_id: &str) -> ServiceError {
    ServiceError::NotFound(format!("channel `{channel_id}`"))
}

fn duplicate_name(error: StoreError) -> ServiceError {
    match error {
        StoreError::Conflict { .. } => {
            ServiceError::Conflict("another channel has this name".into())
        }
        error => error.into(),
    }
}

fn validated_author(by: &ChangeAuthor) -> Result<ChangeAuthor, ServiceError> {
    Ok(ChangeAuthor { name: by.name.clone(), reason: validated_text("reason", &by.reason)? })
}

/// Generates a secret for a webhook without one.
fn with_generated_secret(
    mut target: DeliveryTarget,
) -> Result<(DeliveryTarget, Option<SecretValue<String>>), ServiceError> {
    let mut generated = None;
    if let DeliveryTarget::Webhook { secrets, .. } = &mut target
        && secrets.is_empty()
    {
        let secret = encode_webhook_secret(random::random_bytes()?);
        secrets.push(secret.clone());
        generated = Some(secret);
    }
    Ok((target, generated))
}

fn with_previous_secrets(mut target: DeliveryTarget, before: &DeliveryTarget) -> DeliveryTarget {
    if let (DeliveryTarget::Webhook { secrets, .. }, DeliveryTarget::Webhook { secrets: old, .. }) =
        (&mut target, before)
        && secrets.is_empty()
    {
        secrets.clone_from(old);
    }
    target
}

fn validate(wanted: &ChannelRequest, target: &DeliveryTarget) -> Result<(), ServiceError> {
    let mut faults = target.check().err().unwrap_or_default();
    for fault in &mut faults.0 {
        fault.path = format!("target.{}", fault.path);
    }
    let ChannelRequest { name, route, .. } = wanted;
    if let Err(fault) = text::check_name("name", name) {
        faults.push(fault);
    }
    if route.has_moves() && !matches!(target, DeliveryTarget::Webhook { .. }) {
        let kind = target.kind();
        let problem = format!("`moves` needs a target of the kind webhook: it is {kind}");
        faults.push(ValidationFault::new("topics", problem));
    }
    if route.owners.len() > MAX_OWNERS {
        let problem = format!("must be at most {MAX_OWNERS}; there are {}", route.owners.len());
        faults.push(ValidationFault::new("owners", problem));
    }
    for (i, owner) in route.owners.iter().enumerate().take(MAX_OWNERS) {
        if let Err(fault) = text::check_free_text(&format!("owners[{i}]"), owner, MAX_NAME_CHARS) {
            faults.push(fault);
        }
    }
    if route.escalation_delay_seconds > MAX_AFTER_SECONDS {
        let problem =
            format!("must be at most {MAX_AFTER_SECONDS}: is {}", route.escalation_delay_seconds);
        faults.push(ValidationFault::new("escalation_delay_seconds", problem));
    }
    faults.into_result(()).map_err(ServiceError::Invalid)
}
