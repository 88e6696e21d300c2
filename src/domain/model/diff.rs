//! Comparison of two models, from their documents alone.

use std::collections::BTreeSet;

use crate::domain::feature::FeatureDefinition;
use crate::domain::id::ModelId;
use crate::domain::model::{Model, ModelSegment, NamedSegment, TypicalValue};
use crate::domain::time::Timestamp;

/// Differences from one model to another.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDiff {
    pub from: ModelId,
    pub to: ModelId,
    pub segments: SegmentsDiff,
    pub features: FeaturesDiff,
    pub encoder: EncoderDiff,
    pub figures: ValueChange<ModelFigures>,
}

/// A value before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueChange<T> {
    pub from: T,
    pub to: T,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SegmentsDiff {
    /// Segments with the same id in both models, in the order of the model before.
    pub same: Vec<SegmentChange>,
    /// Segments of the model after only.
    pub added: Vec<SegmentBrief>,
    /// Segments of the model before only.
    pub gone: Vec<SegmentBrief>,
}

/// Summary of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentBrief {
    pub segment: NamedSegment,
    pub share: f64,
}

/// A segment in both models.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentChange {
    pub id: Box<str>,
    pub name: ValueChange<Box<str>>,
    pub size: ValueChange<u64>,
    pub share: ValueChange<f64>,
    /// Features with other typical values than before.
    pub profile: Vec<ProfileChange>,
}

/// Typical value of one feature before and after; null if a model has none.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileChange {
    pub feature: Box<str>,
    pub from: Option<TypicalValue>,
    pub to: Option<TypicalValue>,
}

/// Differences of the feature declarations, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct FeaturesDiff {
    /// Whether both models read the same feature set.
    pub same_set: bool,
    pub added: Vec<Box<str>>,
    pub gone: Vec<Box<str>>,
    /// Features with a changed declaration: unit, encoding, owner …
    pub changed: Vec<Box<str>>,
}

/// Differences of the encoded columns, by name. The fitted parameters of a common column are
/// not compared, because every training fits them anew.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDiff {
    pub added: Vec<Box<str>>,
    pub gone: Vec<Box<str>>,
    pub width: ValueChange<usize>,
    pub projected: ValueChange<bool>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelFigures {
    pub segments: usize,
    pub prototypes: usize,
    pub rows: u64,
    pub unassigned: u64,
    pub as_of: Timestamp,
    pub inertia: f64,
    pub silhouette: Option<f64>,
    pub seed: u64,
    pub code_version: Box<str>,
    pub predecessor: Option<ModelId>,
}

/// Compares two models.
pub fn compare_models(from: &Model, to: &Model) -> ModelDiff {
    ModelDiff {
        from: from.id().clone(),
        to: to.id().clone(),
        segments: segments(from, to),
        features: features(from, to),
        encoder: encoder(from, to),
        figures: ValueChange { from: figures(from), to: figures(to) },
    }
}

fn segments(from: &Model, to: &Model) -> SegmentsDiff {
    let mut same = Vec::new();
    for before in from.segments() {
        if let Some(index) = to.segment_index(&before.id) {
            let before = ProfiledSegment { model: from, segment: before };
            let after = ProfiledSegment { model: to, segment: &to.segments()[index] };
            same.push(before.changed_to(after));
        }
    }
    SegmentsDiff { same, added: segments_missing_in(from, to), gone: segments_missing_in(to, from) }
}

/// The segments of `model` that `other` does not have.
fn segments_missing_in(other: &Model, model: &Model) -> Vec<SegmentBrief> {
    let segments = model.segments().iter();
    segments.filter(|segment| other.segment_index(&segment.id).is_none()).map(brief).collect()
}

fn brief(segment: &ModelSegment) -> SegmentBrief {
    SegmentBrief { segment: segment.into(), share: segment.share }
}

/// A segment, with the model that names its features.
#[derive(Clone, Copy)]
struct ProfiledSegment<'m> {
    model: &'m Model,
    segment: &'m ModelSegment,
}

impl<'m> ProfiledSegment<'m> {
    fn changed_to(self, later: Self) -> SegmentChange {
        let (before, after) = (self.segment, later.segment);
        SegmentChange {
            id: before.id.clone(),
            name: ValueChange { from: before.name.clone(), to: after.name.clone() },
            size: ValueChange { from: before.size, to: after.size },
            share: ValueChange { from: before.share, to: after.share },
            profile: self.profile_changes(later),
        }
    }

    /// Changed typical values, by feature name: the feature sets may differ. Features of
    /// this segment come first, then those of `later` alone.
    fn profile_changes(self, later: Self) -> Vec<ProfileChange> {
        let mut names = self.feature_names();
        names.extend(later.feature_names().into_iter().filter(|name| self.typical(name).is_none()));
        let mut changes = Vec::new();
        for name in names {
            let (from, to) = (self.typical(name), later.typical(name));
            if from != to {
                let (from, to) = (from.cloned(), to.cloned());
                changes.push(ProfileChange { feature: name.into(), from, to });
            }
        }
        changes
    }

    fn feature_names(self) -> Vec<&'m str> {
        let features = self.model.features();
        self.segment.profile.iter().map(|profile| &*features[profile.feature].name).collect()
    }

    fn typical(self, feature: &str) -> Option<&'m TypicalValue> {
        let features = self.model.features();
        let mut profiles = self.segment.profile.iter();
        let profile = profiles.find(|profile| *features[profile.feature].name == *feature);
        profile.map(|profile| &profile.here)
    }
}

fn features(from: &Model, to: &Model) -> FeaturesDiff {
    let mut changed = Vec::new();
    for def in from.features() {
        if feature_of_name(to, &def.name).is_some_and(|other| other != def) {
            changed.push(def.name.clone());
        }
    }
    FeaturesDiff {
        same_set: from.feature_set() == to.feature_set(),
        added: features_missing_in(from, to),
        gone: features_missing_in(to, from),
        changed,
    }
}

fn feature_of_name<'m>(model: &'m Model, name: &str) -> Option<&'m FeatureDefinition> {
    model.features().iter().find(|def| *def.name == *name)
}

/// Names of the features of `model` that `other` does not have.
fn features_missing_in(other: &Model, model: &Model) -> Vec<Box<str>> {
    let features = model.features().iter();
    let missing = features.filter(|def| feature_of_name(other, &def.name).is_none());
    missing.map(|def| def.name.clone()).collect()
}

fn encoder(from: &Model, to: &Model) -> EncoderDiff {
    EncoderDiff {
        added: columns_missing_in(from, to),
        gone: columns_missing_in(to, from),
        width: ValueChange { from: from.encoder().width(), to: to.encoder().width() },
        projected: ValueChange { from: from.projection().is_some(), to: to.projection().is_some() },
    }
}

/// Names of the encoded columns of `model` that `other` does not have.
fn columns_missing_in(other: &Model, model: &Model) -> Vec<Box<str>> {
    let known: BTreeSet<&str> =
        other.encoder().columns().iter().map(|column| &*column.name).collect();
    let columns = model.encoder().columns().iter().map(|column| &column.name);
    columns.filter(|name| !known.contains(&***name)).cloned().collect()
}

fn figures(model: &Model) -> ModelFigures {
    let provenance = model.provenance();
    ModelFigures {
        segments: model.segments().len(),
        prototypes: model.decision_function().prototypes().count(),
        rows: provenance.rows,
        unassigned: model.drift_baseline().unassigned,
        as_of: provenance.as_of,
        inertia: provenance.inertia,
        silhouette: provenance.silhouette,
        seed: provenance.seed,
        code_version: provenance.code_version.clone(),
        predecessor: provenance.predecessor.clone(),
    }
}
