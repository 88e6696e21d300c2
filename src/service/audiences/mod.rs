//! Changes of audiences, and previews of their sizes.

pub(crate) mod current;
mod preview;

use std::sync::Arc;

use crate::domain::audience::{AudienceDefinition, AudienceSet, named_segments, names_audience};
use crate::domain::experiment::spec::ExperimentStatus;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::model::UNASSIGNED;
use crate::domain::rfm;
use crate::domain::text::{MAX_FREE_TEXT_CHARS, check_free_text, check_name, check_required_text};
use crate::service::ServiceError;
use crate::service::alerts::ChangeAuthor;
use crate::service::clock::TimeSource;
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::serving::ServingState;
use crate::store::audiences::{AudienceVersion, NewAudienceVersion};
use crate::store::database::connect::ChangeTopic;
use crate::store::{DatabaseHandle, DatabaseTransaction, audiences, experiments};

/// Maximum number of audiences of a workspace.
const MAX_AUDIENCES: usize = 500;
/// Maximum length of a name.
const MAX_NAME_BYTES: usize = 64;

/// Defines, changes and deletes audiences.
#[derive(Debug)]
pub struct AudienceService {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
}

/// The text of a new or changed audience.
#[derive(Debug)]
pub struct AudienceText {
    pub expression: String,
    pub description: Option<String>,
    pub owner: Option<String>,
}

impl AudienceService {
    pub fn new(db: DatabaseHandle, serving: Arc<ServingState>, clock: TimeSource) -> Self {
        Self { db, serving, clock }
    }

    /// Creates the audience with this name, or replaces its definition. Returns whether it is new.
    /// On return, this replica evaluates the rule; stored customers follow in the background.
    pub async fn define(
        &self,
        name: &str,
        text: AudienceText,
        by: &ChangeAuthor,
    ) -> Result<bool, ServiceError> {
        let reason = check_required_text("reason", &by.reason, MAX_FREE_TEXT_CHARS)?;
        let deployment = self.serving.snapshot();
        let text = text.check(name, &deployment).map_err(ServiceError::Invalid)?;
        // Commits together: the new version, checked against the locked others, and its
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let in_force = audiences::lock_in_force(&mut tx).await?;
        let known = in_force.iter().find(|known| known.name == name);
        if known.is_none() && in_force.len() >= MAX_AUDIENCES {
            return Err(ServiceError::Conflict(format!(
                "there are {MAX_AUDIENCES} audiences: delete one first"
            )));
        }
        compile_with(name, &text.expression, &in_force, &deployment)
            .map_err(ServiceError::Invalid)?;
        let new = NewAudienceVersion {
            name,
            expression: &text.expression,
            description: text.description.as_deref(),
            owner: text.owner.as_deref(),
            is_deleted: false,
            changed_at: self.clock.now(),
            changed_by: &by.name,
            reason: &reason,
        };
        self.publish(tx, new).await?;
        Ok(known.is_none())
    }

    /// Deletes an audience: all its customers leave it. Refused while a rule names it.
    pub async fn delete(&self, name: &str, by: &ChangeAuthor) -> Result<(), ServiceError> {
        let reason = check_required_text("reason", &by.reason, MAX_FREE_TEXT_CHARS)?;
        // Commits together: the last version, checked against the locked others, and its
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let in_force = audiences::lock_in_force(&mut tx).await?;
        let known = in_force
            .iter()
            .find(|known| known.name == name)
            .ok_or_else(|| ServiceError::NotFound(format!("audience `{name}`")))?;
        let user = in_force.iter().find(|other| names_audience(&other.expression, name));
        if let Some(user) = user {
            return Err(ServiceError::Conflict(format!(
                "the rule of the audience `{}` names `{name}`: change that rule first",
                user.name
            )));
        }
        self.check_not_targeted(name).await?;
        let new = NewAudienceVersion {
            name,
            expression: &known.expression,
            description: known.description.as_deref(),
            owner: known.owner.as_deref(),
            is_deleted: true,
            changed_at: self.clock.now(),
            changed_by: &by.name,
            reason: &reason,
        };
        self.publish(tx, new).await
    }

    /// Fails if an experiment that has not ended is for the audience.
    async fn check_not_targeted(&self, name: &str) -> Result<(), ServiceError> {
        let in_force = experiments::list_in_force(self.db.read()).await?;
        let user = in_force.iter().find(|one| {
            one.status != ExperimentStatus::Stopped
                && one.spec.target.audience.as_deref() == Some(name)
        });
        match user {
            None => Ok(()),
            Some(user) => Err(ServiceError::Conflict(format!(
                "the experiment `{}` is for the audience `{name}`: stop it first",
                user.key
            ))),
        }
    }

    /// Inserts a version, announces it to the other replicas, and serves it.
    async fn publish(
        &self,
        mut tx: DatabaseTransaction,
        new: NewAudienceVersion<'_>,
    ) -> Result<(), ServiceError> {
        audiences::insert(&mut tx, new).await?;
        tx.notify_replicas(ChangeTopic::Deployment).await?;
        tx.commit().await?;
        self.serving.refresh_deployment().await
    }
}

impl AudienceText {
    /// Checks the texts, and the segments that the expression names.
    fn check(self, name: &str, deployment: &Deployment) -> Result<Self, ValidationFaults> {
        let mut faults = check_names(name, &self.expression, deployment).err().unwrap_or_default();
        let description =
            self.description.map(|text| check_free_text("description", &text, MAX_FREE_TEXT_CHARS));
        let description = faults.take(description);
        let owner = self.owner.map(|text| check_name("owner", &text));
        let owner = faults.take(owner);
        faults.into_result(Self { expression: self.expression, description, owner })
    }
}

/// Checks the name of an audience, and the segments that its rule names.
fn check_names(
    name: &str,
    expression: &str,
    deployment: &Deployment,
) -> Result<(), ValidationFaults> {
    let mut faults = ValidationFaults::default();
    if !is_identifier(name) {
        let problem = format!(
            "must match [a-z][a-z0-9_]* and have at most {MAX_NAME_BYTES} characters: rules name the audience by it"
        );
        faults.push(ValidationFault::new("name", problem));
    }
    faults.0.extend(unknown_segment(expression, deployment));
    faults.into_result(())
}

/// Whether rules can name an audience by this text: `[a-z][a-z0-9_]{0,63}`.
fn is_identifier(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Compiles the rule of an audience together with the rules of all others. Fails if the rule
/// cannot be evaluated.
fn compile_with(
    name: &str,
    expression: &str,
    in_force: &[AudienceVersion],
    deployment: &Deployment,
) -> Result<Arc<AudienceSet>, ValidationFaults> {
    let mut definitions: Vec<AudienceDefinition> =
        in_force.iter().filter(|known| known.name != name).map(current::definition).collect();
    // The id plays no part in the check.
    definitions.push(AudienceDefinition {
        id: 0,
        name: name.into(),
        expression: expression.into(),
    });
    let set = AudienceSet::compile(0, &definitions, &deployment.features);
    match set.fault_of(name) {
        None => Ok(set),
        Some(fault) => Err(ValidationFaults::single("expression", fault.to_string())),
    }
}

/// The fault of an expression that names a segment which no serving model has.
pub(crate) fn unknown_segment(
    expression: &str,
    deployment: &Deployment,
) -> Option<ValidationFault> {
    // A syntax error is reported with the rule.
    let named = named_segments(expression).ok()?;
    let (position, unknown) =
        named.into_iter().find(|(_, id)| !is_known_segment(id, deployment))?;
    let by_name = deployment.segments().find(|(_, segment)| *segment.name == *unknown);
    let right = match (by_name, deployment.segments().next()) {
        (Some((_, named)), _) => format!("the segment `{}` has the id `{}`", named.name, named.id),
        (None, Some((_, other))) => format!("use an id such as `{}` ({})", other.id, other.name),
        (None, None) => "no model serves yet: use a rule-based segment, such as `champions`".into(),
    };
    let problem = format!("at character {position}: there is no segment `{unknown}`; {right}");
    Some(ValidationFault::new("expression", problem))
}

/// Whether the id is one of a served segment, of a rule-based segment, or of no segment.
pub(crate) fn is_known_segment(id: &str, deployment: &Deployment) -> bool {
    deployment.find_segment(id).is_some() || rfm::segment_name(id).is_some() || id == UNASSIGNED
}
