//! The current personas, loaded with a deployment.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::model::Model;
use crate::domain::persona::{DRAFT_SUFFIX, StandoutChange, changed_standouts, named_standouts};
use crate::store::models::personas;
use crate::store::models::personas::PersonaVersion;
use crate::store::{ReadOnlyDatabase, StoreError};

/// The newest persona of each segment with a persona.
#[derive(Debug, Default)]
pub struct CurrentPersonas {
    /// Number of the latest change; 0 before the first.
    pub(crate) version: i64,
    by_segment: BTreeMap<String, PersonaVersion>,
}

impl CurrentPersonas {
    pub(crate) async fn load(db: &ReadOnlyDatabase) -> Result<Self, StoreError> {
        let in_force = personas::list_in_force(db).await?;
        Ok(Self {
            version: in_force.iter().map(|version| version.version).max().unwrap_or(0),
            by_segment: in_force.into_iter().map(|one| (one.segment_id.clone(), one)).collect(),
        })
    }

    /// The persona of a segment, if any.
    pub(crate) fn of_segment(&self, segment_id: &str) -> Option<&PersonaVersion> {
        self.by_segment.get(segment_id)
    }

    /// Replaces the names of the model's segments by the names in their personas. A name from training
    /// that is also another persona's gets the suffix [`DRAFT_SUFFIX`]. The view `deployed_segment`
    /// has the same rule.
    pub(crate) fn name_segments(&self, model: Model) -> Model {
        let names = self.by_segment.values().filter_map(|one| one.persona.name.as_deref());
        let taken: BTreeSet<&str> = names.collect();
        model.with_segment_names(|segment| {
            let persona = self.of_segment(&segment.id);
            match persona.and_then(|persona| persona.persona.name.as_deref()) {
                Some(chosen) => Some(chosen.into()),
                None if taken.contains(&*segment.name) => {
                    Some(format!("{}{DRAFT_SUFFIX}", segment.name).into())
                }
                None => None,
            }
        })
    }

    /// Changes in the standout features of a segment since the last change of its persona, largest
    /// first. Empty for a segment without a persona, and for a segment that is not in `model`.
    pub(crate) fn standout_changes(&self, model: &Model, segment_id: &str) -> Vec<StandoutChange> {
        let persona = self.of_segment(segment_id);
        let segment = model.segment_index(segment_id).map(|index| &model.segments()[index]);
        let Some((persona, segment)) = persona.zip(segment) else { return Vec::new() };
        changed_standouts(&persona.standouts, &named_standouts(segment, model.features()))
    }

    /// Number of segments of `model` with a persona that may be outdated.
    pub(crate) fn count_outdated(&self, model: &Model) -> usize {
        let outdated = model
            .segments()
            .iter()
            .filter(|segment| !self.standout_changes(model, &segment.id).is_empty());
        outdated.count()
    }
}
