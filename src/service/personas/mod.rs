//! Changes of personas.

pub mod current;

use std::sync::Arc;

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::persona::{FieldChange, PersonaChange, named_standouts};
use crate::domain::text::{MAX_FREE_TEXT_CHARS, check_required_text};
use crate::service::ServiceError;
use crate::service::alerts::ChangeAuthor;
use crate::service::clock::TimeSource;
use crate::service::scoring::serving::ServingState;
use crate::store::database::connect::ChangeTopic;
use crate::store::models::personas;
use crate::store::models::personas::NewPersonaVersion;
use crate::store::{DatabaseHandle, experiments};

/// Changes personas.
#[derive(Debug)]
pub struct PersonaService {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
}

impl PersonaService {
    pub fn new(db: DatabaseHandle, serving: Arc<ServingState>, clock: TimeSource) -> Self {
        Self { db, serving, clock }
    }

    /// Changes the persona of a segment of the active model or of the canary. On return, this replica
    /// serves the change.
    pub(crate) async fn change_persona(
        &self,
        segment_id: &str,
        change: PersonaChange,
        by: &ChangeAuthor,
    ) -> Result<(), ServiceError> {
        let reason = check_required_text("reason", &by.reason, MAX_FREE_TEXT_CHARS)?;
        let deployment = self.serving.snapshot();
        let (model, segment) = deployment.find_segment(segment_id).ok_or_else(|| {
            ServiceError::NotFound(format!("segment with the id `{segment_id}` that is served"))
        })?;
        let unknown = self.find_unknown_experiments(&change).await?;
        // Commits together: the new version, derived from the locked latest one, and its
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let in_force = personas::lock_in_force(&mut tx).await?;
        let before = in_force.iter().find(|known| known.segment_id == segment_id);
        let before = before.map(|known| known.persona.clone()).unwrap_or_default();
        let persona = match before.changed(change) {
            Ok(persona) => unknown.into_result(persona),
            Err(mut faults) => {
                faults.0.extend(unknown.0);
                Err(faults)
            }
        };
        let persona = persona.map_err(ServiceError::Invalid)?;
        if let Some(name) = &persona.name {
            let chosen = in_force
                .iter()
                .filter_map(|one| Some((&*one.segment_id, one.persona.name.as_deref()?)));
            let served = deployment.segments().map(|(_, other)| (&*other.id, &*other.name));
            // Another replica may have renamed a served segment: its stored name counts.
            let served = served.filter(|(id, _)| chosen.clone().all(|(known, _)| known != *id));
            check_unique(segment_id, name, chosen.clone().chain(served))?;
        }
        let standouts = named_standouts(segment, model.features());
        let new = NewPersonaVersion {
            segment_id,
            persona: &persona,
            standouts: &standouts,
            changed_at: self.clock.now(),
            changed_by: &by.name,
            reason: &reason,
        };
        personas::insert(&mut tx, new).await?;
        tx.notify_replicas(ChangeTopic::Deployment).await?;
        tx.commit().await?;
        self.serving.refresh_deployment().await
    }

    /// A fault for each experiment that is not defined. Experiments are never deleted.
    async fn find_unknown_experiments(
        &self,
        change: &PersonaChange,
    ) -> Result<ValidationFaults, ServiceError> {
        let mut faults = ValidationFaults::default();
        let FieldChange::Set(keys) = &change.experiments else { return Ok(faults) };
        let defined = experiments::list_in_force(self.db.read()).await?;
        for (index, key) in keys.iter().enumerate() {
            if !defined.iter().any(|known| known.key == *key) {
                let problem = format!(
                    "there is no experiment `{key}`: define it first (PUT /v1/experiments/{{key}})"
                );
                faults
                    .push(ValidationFault::new(format!("strategy.experiments[{index}]"), problem));
            }
        }
        Ok(faults)
    }
}

/// Fails if another segment among `known` (id and name) has the name.
fn check_unique<'n>(
    segment_id: &str,
    name: &str,
    mut known: impl Iterator<Item = (&'n str, &'n str)>,
) -> Result<(), ServiceError> {
    let folded = name.to_lowercase();
    match known.find(|(id, other)| *id != segment_id && other.to_lowercase() == folded) {
        None => Ok(()),
        Some((id, other)) => Err(ServiceError::Conflict(format!(
            "the segment {id} is named `{other}`: choose another name, because names of segments must be unique"
        ))),
    }
}
