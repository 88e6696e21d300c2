//! Experiments: changes of definitions, and results.
//!
//! Ingestion answers which variations a customer is in, and records exposures
//! (`service/ingestion/exposures.rs`).

pub(crate) mod current;
pub(crate) mod results;

use std::sync::Arc;

use crate::config::StoredEventNames;
use crate::domain::experiment::spec::{self, ExperimentSpec, ExperimentStatus};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::text::{MAX_FREE_TEXT_CHARS, check_free_text, check_name, check_required_text};
use crate::service::ServiceError;
use crate::service::alerts::ChangeAuthor;
use crate::service::audiences::is_known_segment;
use crate::service::clock::TimeSource;
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::serving::ServingState;
use crate::store::database::connect::ChangeTopic;
use crate::store::experiments::{ExperimentVersion, NewExperimentVersion};
use crate::store::{DatabaseHandle, audiences, experiments};

/// Maximum number of experiments of a workspace.
const MAX_EXPERIMENTS: usize = 2_000;
/// Maximum number of experiments that run at the same time: every event is answered for each.
const MAX_RUNNING: usize = 50;

/// Defines and changes experiments, and reads their results.
#[derive(Debug)]
pub struct ExperimentService {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    event_names: StoredEventNames,
}

/// A new or changed definition.
#[derive(Debug)]
pub struct ExperimentDraft {
    pub status: ExperimentStatus,
    pub description: Option<String>,
    pub owner: Option<String>,
    pub spec: ExperimentSpec,
    /// Why the results are shown although the sample ratio is mismatched.
    pub mismatch_override: Option<String>,
}

/// The texts of a definition, checked.
struct ExperimentTexts {
    description: Option<String>,
    owner: Option<String>,
    mismatch_override: Option<String>,
}

impl ExperimentService {
    pub fn new(
        db: DatabaseHandle,
        serving: Arc<ServingState>,
        clock: TimeSource,
        event_names: StoredEventNames,
    ) -> Self {
        Self { db, serving, clock, event_names }
    }

    /// Creates the experiment with this key, or replaces its definition. Returns whether it is new.
    /// On return, this replica assigns customers by it if it runs.
    pub async fn define(
        &self,
        key: &str,
        draft: ExperimentDraft,
        by: &ChangeAuthor,
    ) -> Result<bool, ServiceError> {
        let reason = check_required_text("reason", &by.reason, MAX_FREE_TEXT_CHARS)?;
        let texts = self.check(key, &draft).map_err(ServiceError::Invalid)?;
        // Commits together: the new version, checked against the locked others, and its
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        if let Some(name) = draft.spec.target.audience.as_deref()
            && draft.status != ExperimentStatus::Stopped
        {
            // Locked before experiments, as by the deletion of an audience.
            let known = audiences::lock_in_force(&mut tx).await?;
            if !known.iter().any(|audience| audience.name == name) {
                let faults = ValidationFaults(vec![unknown_audience(name)]).within("definition");
                return Err(ServiceError::Invalid(faults));
            }
        }
        let in_force = experiments::lock_in_force(&mut tx).await?;
        let before = in_force.iter().find(|known| known.key == key);
        check_counts(&draft, before, &in_force)?;
        check_override(&draft, before)?;
        if let Some(before) = before {
            check_transition(before, &draft)?;
        }
        let now = self.clock.now();
        let (started_at, stopped_at) =
            before.map(|known| (known.started_at, known.stopped_at)).unwrap_or_default();
        let is_running = draft.status == ExperimentStatus::Running;
        let is_stopped = draft.status == ExperimentStatus::Stopped;
        let new = NewExperimentVersion {
            key,
            status: draft.status,
            description: texts.description.as_deref(),
            owner: texts.owner.as_deref(),
            spec: &draft.spec,
            mismatch_override: texts.mismatch_override.as_deref(),
            started_at: started_at.or_else(|| is_running.then_some(now)),
            stopped_at: stopped_at.or_else(|| is_stopped.then_some(now)),
            changed_at: now,
            changed_by: &by.name,
            reason: &reason,
        };
        experiments::insert(&mut tx, new).await?;
        tx.notify_replicas(ChangeTopic::Deployment).await?;
        tx.commit().await?;
        self.serving.refresh_deployment().await?;
        Ok(before.is_none())
    }

    /// Checks a definition, and that the audience, segments and events that it names exist. Returns
    /// every fault.
    fn check(
        &self,
        key: &str,
        draft: &ExperimentDraft,
    ) -> Result<ExperimentTexts, ValidationFaults> {
        let deployment = self.serving.snapshot();
        let mut faults = draft.spec.find_faults(key);
        // An experiment that has ended may measure events that are no longer stored.
        if draft.status != ExperimentStatus::Stopped {
            self.find_storage_faults(&draft.spec, &deployment, &mut faults);
            find_target_faults(&draft.spec, &deployment, &mut faults);
        }
        let mut faults = faults.within("definition");
        faults.0.extend(spec::check_key(key).err());
        let description = draft
            .description
            .as_deref()
            .map(|text| check_free_text("description", text, MAX_FREE_TEXT_CHARS));
        let owner = draft.owner.as_deref().map(|text| check_name("owner", text));
        let mismatch_override = draft
            .mismatch_override
            .as_deref()
            .map(|text| check_required_text("mismatch_override", text, MAX_FREE_TEXT_CHARS));
        let texts = ExperimentTexts {
            description: faults.take(description).filter(|text| !text.is_empty()),
            owner: faults.take(owner),
            mismatch_override: faults.take(mismatch_override),
        };
        faults.into_result(texts)
    }

    /// Whether events are stored with this name even if no feature reads it.
    fn stores_name(&self, name: &str) -> bool {
        match &self.event_names {
            StoredEventNames::All => true,
            StoredEventNames::Declared { also } => also.iter().any(|known| **known == *name),
        }
    }

    fn find_storage_faults(
        &self,
        spec: &ExperimentSpec,
        deployment: &Deployment,
        faults: &mut ValidationFaults,
    ) {
        for (index, metric) in spec.metrics.iter().enumerate() {
            let path = format!("metrics[{index}]");
            let features = &deployment.features;
            metric.find_storage_faults(&path, features, &|name| self.stores_name(name), faults);
        }
    }
}

/// Checks the audience and the segments that a definition names.
fn find_target_faults(
    spec: &ExperimentSpec,
    deployment: &Deployment,
    faults: &mut ValidationFaults,
) {
    if let Some(name) = spec.target.audience.as_deref()
        && !deployment.audiences.audiences().any(|(_, known)| known == name)
    {
        faults.push(unknown_audience(name));
    }
    for (index, id) in spec.target.segments.iter().enumerate() {
        if !is_known_segment(id, deployment) {
            let problem = format!(
                "there is no segment `{id}`: use an id of GET /v1/segments, or leave it out"
            );
            faults.push(ValidationFault::new(format!("target.segments[{index}]"), problem));
        }
    }
}

fn unknown_audience(name: &str) -> ValidationFault {
    let problem = format!(
        "there is no audience `{name}`: define it first (PUT /v1/audiences/{{name}}), or leave it \
         out for all customers"
    );
    ValidationFault::new("target.audience", problem)
}

/// Fails for a reason to show mismatched results that is given before there are any.
fn check_override(
    draft: &ExperimentDraft,
    before: Option<&ExperimentVersion>,
) -> Result<(), ServiceError> {
    let has_started = before.is_some_and(|known| known.started_at.is_some());
    if has_started || draft.mismatch_override.is_none() {
        return Ok(());
    }
    let problem = "must be left out before the start: it explains a mismatch of results";
    Err(ServiceError::Invalid(ValidationFaults::single("mismatch_override", problem)))
}

/// Fails if there are too many experiments.
fn check_counts(
    draft: &ExperimentDraft,
    before: Option<&ExperimentVersion>,
    in_force: &[ExperimentVersion],
) -> Result<(), ServiceError> {
    if before.is_none() && in_force.len() >= MAX_EXPERIMENTS {
        return Err(ServiceError::Conflict(format!(
            "there are {MAX_EXPERIMENTS} experiments: change a draft instead of adding one"
        )));
    }
    let running = in_force.iter().filter(|one| one.status == ExperimentStatus::Running);
    let is_running = before.is_some_and(|one| one.status == ExperimentStatus::Running);
    let starts = draft.status == ExperimentStatus::Running && !is_running;
    if starts && running.count() >= MAX_RUNNING {
        return Err(ServiceError::Conflict(format!(
            "{MAX_RUNNING} experiments are running: stop one first"
        )));
    }
    Ok(())
}

/// Fails for a change that would make exposures before and after it incomparable.
fn check_transition(
    before: &ExperimentVersion,
    draft: &ExperimentDraft,
) -> Result<(), ServiceError> {
    if before.status == ExperimentStatus::Draft {
        return Ok(());
    }
    if draft.status < before.status {
        return Err(ServiceError::Conflict(format!(
            "the experiment is {}: it cannot become {} again; define an experiment with another key",
            before.status.as_str(),
            draft.status.as_str()
        )));
    }
    if let Some(field) = draft.spec.changed_assignment(&before.spec) {
        let advice = if field == "coverage" {
            "it can only grow"
        } else {
            "stop it, and define an experiment with another key"
        };
        return Err(ServiceError::Conflict(format!(
            "`{field}` cannot change after the start, because customers would change their variation: {advice}"
        )));
    }
    Ok(())
}
