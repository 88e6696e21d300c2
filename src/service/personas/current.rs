//! The personas in force, as one deployment serves them.

use std::collections::BTreeMap;

use crate::domain::model::Model;
use crate::domain::persona::{TraitChange, changed_traits, segment_traits};
use crate::store::models::personas;
use crate::store::models::personas::PersonaVersion;
use crate::store::{ReadOnlyDatabase, StoreError};

/// The persona in force of each segment that has one.
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

    /// The persona of a segment; `None` if nobody wrote one.
    pub(crate) fn of_segment(&self, segment_id: &str) -> Option<&PersonaVersion> {
        self.by_segment.get(segment_id)
    }

    /// The model with the names that people chose for its segments.
    pub(crate) fn name_segments(&self, model: Model) -> Model {
        model.with_segment_names(|id| self.of_segment(id)?.persona.name.as_deref())
    }

    /// What has changed about a segment since its words were written, largest change first; empty
    /// without words and for a segment that `model` does not have.
    pub(crate) fn changes_since_written(
        &self,
        model: &Model,
        segment_id: &str,
    ) -> Vec<TraitChange> {
        let written = self.of_segment(segment_id);
        let segment = model.segment_index(segment_id).map(|index| &model.segments()[index]);
        let Some((written, segment)) = written.zip(segment) else { return Vec::new() };
        changed_traits(&written.traits, &segment_traits(segment, model.features()))
    }

    /// Number of segments of `model` with words that may have become wrong.
    pub(crate) fn count_doubtful(&self, model: &Model) -> usize {
        let doubtful = model
            .segments()
            .iter()
            .filter(|segment| !self.changes_since_written(model, &segment.id).is_empty());
        doubtful.count()
    }
}
