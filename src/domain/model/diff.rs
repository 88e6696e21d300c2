//! Comparison of two models, from their documents alone.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::feature::FeatureDef;
use crate::domain::id::ModelId;
use crate::domain::model::{Model, Segment, Typical};
use crate::domain::time::Timestamp;

/// Differences from one model to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    pub from: ModelId,
    pub to: ModelId,
    pub segments: SegmentsDiff,
    pub features: FeaturesDiff,
    pub encoder: EncoderDiff,
    pub figures: Change<Figures>,
}

/// A value before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change<T> {
    pub from: T,
    pub to: T,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentsDiff {
    /// Segments with the same id in both models, in the order of the model before.
    pub same: Vec<Same>,
    /// Segments of the model after only.
    pub added: Vec<SegmentBrief>,
    /// Segments of the model before only.
    pub gone: Vec<SegmentBrief>,
}

/// Summary of a segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentBrief {
    pub id: Box<str>,
    pub key: Box<str>,
    pub label: Box<str>,
    pub share: f64,
}

/// A segment in both models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Same {
    pub id: Box<str>,
    pub key: Change<Box<str>>,
    pub label: Change<Box<str>>,
    pub size: Change<u64>,
    pub share: Change<f64>,
    /// Features with other typical values than before.
    pub profile: Vec<ProfileChange>,
}

/// Typical value of one feature before and after; null if a model has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileChange {
    pub feature: Box<str>,
    pub from: Option<Typical>,
    pub to: Option<Typical>,
}

/// Differences of the feature declarations, by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderDiff {
    pub added: Vec<Box<str>>,
    pub gone: Vec<Box<str>>,
    pub width: Change<usize>,
    pub projected: Change<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
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
pub fn diff(from: &Model, to: &Model) -> Diff {
    Diff {
        from: from.id().clone(),
        to: to.id().clone(),
        segments: segments(from, to),
        features: features(from, to),
        encoder: encoder(from, to),
        figures: Change { from: figures(from), to: figures(to) },
    }
}

fn segments(from: &Model, to: &Model) -> SegmentsDiff {
    let find = |model: &'_ Model, id: &str| model.segments().iter().position(|s| &*s.id == id);
    let only = |one: &Model, other: &Model| {
        let mine = one.segments().iter().filter(|segment| find(other, &segment.id).is_none());
        mine.map(brief).collect()
    };
    let same = from.segments().iter().filter_map(|before| {
        let after = &to.segments()[find(to, &before.id)?];
        Some(Same {
            id: before.id.clone(),
            key: Change { from: before.key.clone(), to: after.key.clone() },
            label: Change { from: before.label.clone(), to: after.label.clone() },
            size: Change { from: before.size, to: after.size },
            share: Change { from: before.share, to: after.share },
            profile: profile((from, before), (to, after)),
        })
    });
    SegmentsDiff { same: same.collect(), added: only(to, from), gone: only(from, to) }
}

fn brief(segment: &Segment) -> SegmentBrief {
    SegmentBrief {
        id: segment.id.clone(),
        key: segment.key.clone(),
        label: segment.label.clone(),
        share: segment.share,
    }
}

fn profile(
    (from, before): (&Model, &Segment),
    (to, after): (&Model, &Segment),
) -> Vec<ProfileChange> {
    let typical = |model: &Model, segment: &Segment, feature: &str| {
        let is_it = |index: usize| &*model.features()[index].name == feature;
        segment.profile.iter().find(|p| is_it(p.feature)).map(|profile| profile.here.clone())
    };
    let names = |model: &'_ Model, segment: &Segment| -> Vec<Box<str>> {
        segment.profile.iter().map(|p| model.features()[p.feature].name.clone()).collect()
    };
    let mut all = names(from, before);
    let more = names(to, after);
    all.extend(more.into_iter().filter(|name| typical(from, before, name).is_none()));
    let changes = all.into_iter().map(|feature| ProfileChange {
        from: typical(from, before, &feature),
        to: typical(to, after, &feature),
        feature,
    });
    changes.filter(|change| change.from != change.to).collect()
}

fn features(from: &Model, to: &Model) -> FeaturesDiff {
    let find = |model: &'_ Model, def: &FeatureDef| {
        model.features().iter().position(|other| other.name == def.name)
    };
    let only = |one: &Model, other: &Model| {
        let mine = one.features().iter().filter(|def| find(other, def).is_none());
        mine.map(|def| def.name.clone()).collect()
    };
    let changed = from
        .features()
        .iter()
        .filter(|def| find(to, def).is_some_and(|index| to.features()[index] != **def));
    FeaturesDiff {
        same_set: from.feature_set() == to.feature_set(),
        added: only(to, from),
        gone: only(from, to),
        changed: changed.map(|def| def.name.clone()).collect(),
    }
}

fn encoder(from: &Model, to: &Model) -> EncoderDiff {
    let only = |one: &Model, other: &Model| {
        let known: BTreeSet<&str> =
            other.encoder().columns().iter().map(|column| &*column.name).collect();
        let mine = one.encoder().columns().iter().map(|column| &column.name);
        mine.filter(|name| !known.contains(&***name)).cloned().collect()
    };
    EncoderDiff {
        added: only(to, from),
        gone: only(from, to),
        width: Change { from: from.encoder().width(), to: to.encoder().width() },
        projected: Change { from: from.projection().is_some(), to: to.projection().is_some() },
    }
}

fn figures(model: &Model) -> Figures {
    let provenance = model.provenance();
    Figures {
        segments: model.segments().len(),
        prototypes: model.form().prototypes().count(),
        rows: provenance.rows,
        unassigned: model.reference().unassigned,
        as_of: provenance.as_of,
        inertia: provenance.inertia,
        silhouette: provenance.silhouette,
        seed: provenance.seed,
        code_version: provenance.code_version.clone(),
        predecessor: provenance.predecessor.clone(),
    }
}
