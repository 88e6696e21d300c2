//! Lineage: stable segment ids across trainings.
//!
//! A new segment that `overlap` matches with an old one inherits its id and key. Every other new
//! segment is born: its id is derived from its training data and predecessor, its key is the next
//! unused `sN`.
//!
//! Births, deaths, splits, merges and other flows are recorded as lines, see [`LineageEvent`].

pub mod hungarian;
pub mod overlap;

use serde::{Deserialize, Serialize};

use crate::domain::feature::FeatureRow;
use crate::domain::id::ModelId;
use crate::domain::model::{Model, SegmentName};
use crate::domain::train::lineage::overlap::{MemberOverlap, match_segments};
use crate::domain::train::{TrainedModel, TrainingError};

/// Limits of a split and of a merge. A part of a split has at least `PART_SHARE` of the old
/// segment, and those rows are at least `MAJORITY_SHARE` of the new one. For a part of a merge, the
/// other way round.
const PART_SHARE: f64 = 0.25;
const MAJORITY_SHARE: f64 = 0.5;
/// Minimum share for a flow of members to be recorded.
const FLOW_SHARE: f64 = 0.1;

/// Source of inherited segment names: the model before.
#[derive(Debug, Clone, Copy)]
pub struct Predecessor<'a> {
    pub model: &'a Model,
    /// Highest key number in use: `s1` to this one are taken, also by candidates that never
    /// served and are unknown to `model`.
    pub highest_key: u64,
}

/// Kind of a lineage line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageEvent {
    /// The new segment inherits the id of the old one.
    Kept,
    /// The new segment matches no old segment.
    Born,
    /// No new segment matches the old one.
    Died,
    /// Part of an old segment that was divided: at least a quarter of the old segment, and most
    /// of the new one. One line per part.
    Split,
    /// Part of a new segment that several old ones joined: at least a quarter of the new
    /// segment, and most of the old one. One line per part.
    Merged,
    /// Any other flow of members: at least a tenth of the old or the new segment.
    Moved,
}

impl LineageEvent {
    pub const ALL: [Self; 6] =
        [Self::Kept, Self::Born, Self::Died, Self::Split, Self::Merged, Self::Moved];

    /// Name in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Born => "born",
            Self::Died => "died",
            Self::Split => "split",
            Self::Merged => "merged",
            Self::Moved => "moved",
        }
    }
}

/// Identity of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentIdentity {
    pub id: Box<str>,
    pub key: Box<str>,
}

/// One change of a segment between two models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineageLine {
    pub event: LineageEvent,
    /// `None` for a birth.
    pub old: Option<SegmentIdentity>,
    /// `None` for a death.
    pub new: Option<SegmentIdentity>,
    /// Rows in both segments; for a birth or a death, the rows of that segment.
    pub members: u64,
    /// `members` divided by the rows of the old segment; `None` for a birth.
    pub share_of_old: Option<f64>,
    /// `members` divided by the rows of the new segment; `None` for a death.
    pub share_of_new: Option<f64>,
}

/// Changes of all segments from a model to its successor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentLineage {
    /// `None` for a first model: all its segments are born.
    pub predecessor: Option<ModelId>,
    /// Whether the predecessor can score the rows. It cannot when one of its features no longer
    /// exists; then no segment is inherited.
    pub comparable: bool,
    /// Rows scored by both models.
    pub rows: u64,
    /// Rows with a changed segment id, including changes to and from no segment.
    pub relabelled: u64,
    /// `relabelled` / `rows`.
    pub relabelled_share: f64,
    /// Share of the assigned rows that are in a segment with an inherited id.
    pub matched_share: f64,
    /// New segments in their order, then the deaths, then splits, merges and flows.
    pub lines: Vec<LineageLine>,
}

/// Gives matched segments of `trained` the names of the predecessor's segments, and adds the
/// lineage to the report. `rows` are the training rows, or all rows they were selected from.
pub fn inherit_names(
    mut trained: TrainedModel,
    rows: &[FeatureRow],
    predecessor: Option<Predecessor<'_>>,
) -> Result<TrainedModel, TrainingError> {
    let Some(Predecessor { model: old, highest_key: keys_used }) = predecessor else {
        trained.report.lineage = Some(SegmentLineage::of_first_model(&trained.model));
        return Ok(trained);
    };
    let new = &trained.model;
    let overlap = MemberOverlap::measure(old, new, rows);
    let kept = overlap.as_ref().map_or_else(|| vec![None; new.segments().len()], match_segments);
    // Never below a number in use: a key always refers to one segment.
    let mut last_key = old.keys_used().max(keys_used);
    let names: Vec<SegmentName> = kept
        .iter()
        .map(|kept| {
            if let Some(place) = kept {
                return SegmentName::of(&old.segments()[*place]);
            }
            last_key += 1;
            let origin = format!("{}/{}", old.id(), new.id());
            SegmentName::new(&origin, &format!("s{last_key}"))
        })
        .collect();
    // Names are part of the document, so it is sealed and opened again: the model id changes.
    trained.bytes = new.renamed(names, old.id(), last_key)?;
    trained.model = Model::open(&trained.bytes)?;
    trained.report.lineage = Some(SegmentLineage::of(old, &trained.model, overlap.as_ref()));
    Ok(trained)
}

impl SegmentLineage {
    /// Lineage of a first model.
    pub(crate) fn of_first_model(model: &Model) -> Self {
        Self {
            predecessor: None,
            comparable: false,
            rows: model.drift_baseline().rows,
            relabelled: 0,
            relabelled_share: 0.0,
            matched_share: 0.0,
            lines: model
                .segments()
                .iter()
                .map(|new| birth_line(SegmentName::of(new), new.size))
                .collect(),
        }
    }

    /// Lineage of `new`, which has its final names; `overlap` is `None` when `old` cannot score
    /// the rows.
    fn of(old: &Model, new: &Model, overlap: Option<&MemberOverlap>) -> Self {
        let Some(overlap) = overlap else {
            let died = old.segments().iter().map(|old| death_line(SegmentName::of(old), old.size));
            let mut first = Self::of_first_model(new);
            first.lines.extend(died);
            return Self { predecessor: Some(old.id().clone()), ..first };
        };
        let old_names: Vec<SegmentName> = old.segments().iter().map(SegmentName::of).collect();
        let new_names: Vec<SegmentName> = new.segments().iter().map(SegmentName::of).collect();
        Self::from_names(Some(old.id().clone()), &old_names, &new_names, overlap)
    }

    /// Lineage from the names: equal ids are the same segment.
    pub fn from_names(
        predecessor: Option<ModelId>,
        old: &[SegmentName],
        new: &[SegmentName],
        overlap: &MemberOverlap,
    ) -> Self {
        let flows = MemberFlows {
            old,
            new,
            overlap,
            of_old: overlap.old_sizes(),
            of_new: overlap.new_sizes(),
        };
        let mut lines = Vec::new();
        for (n, name) in new.iter().enumerate() {
            match flows.inherited_from(n) {
                Some(o) => lines.push(flows.flow_line(LineageEvent::Kept, o, n)),
                None => lines.push(birth_line(name.clone(), flows.of_new[n])),
            }
        }
        for (o, name) in old.iter().enumerate() {
            if new.iter().all(|new| new.id != name.id) {
                lines.push(death_line(name.clone(), flows.of_old[o]));
            }
        }
        for o in 0..old.len() {
            for n in 0..new.len() {
                lines.extend(flows.flow_event(o, n).map(|event| flows.flow_line(event, o, n)));
            }
        }
        let rows: u64 = flows.of_old.iter().sum();
        // Unassigned before and after is no change.
        let mut unchanged = overlap.members[old.len()][new.len()];
        let mut matched = 0;
        for n in 0..new.len() {
            if let Some(o) = flows.inherited_from(n) {
                unchanged += overlap.members[o][n];
                matched += flows.of_new[n];
            }
        }
        let relabelled = rows - unchanged;
        let assigned: u64 = flows.of_new[..new.len()].iter().sum();
        Self {
            predecessor,
            comparable: true,
            rows,
            relabelled,
            relabelled_share: share_of(relabelled, rows),
            matched_share: share_of(matched, assigned),
            lines,
        }
    }
}

struct MemberFlows<'a> {
    old: &'a [SegmentName],
    new: &'a [SegmentName],
    overlap: &'a MemberOverlap,
    of_old: Vec<u64>,
    of_new: Vec<u64>,
}

impl MemberFlows<'_> {
    /// The old segment with the same id as the new one.
    fn inherited_from(&self, n: usize) -> Option<usize> {
        self.old.iter().position(|old| old.id == self.new[n].id)
    }

    fn is_part(&self, o: usize, n: usize) -> bool {
        self.share_of_old(o, n) >= PART_SHARE && self.share_of_new(o, n) >= MAJORITY_SHARE
    }

    fn is_source(&self, o: usize, n: usize) -> bool {
        self.share_of_new(o, n) >= PART_SHARE && self.share_of_old(o, n) >= MAJORITY_SHARE
    }

    /// Event of a flow, other than an inherited id.
    fn flow_event(&self, o: usize, n: usize) -> Option<LineageEvent> {
        if self.is_part(o, n) && (0..self.new.len()).filter(|n| self.is_part(o, *n)).count() > 1 {
            return Some(LineageEvent::Split);
        }
        if self.is_source(o, n) && (0..self.old.len()).filter(|o| self.is_source(*o, n)).count() > 1
        {
            return Some(LineageEvent::Merged);
        }
        let share = self.share_of_old(o, n).max(self.share_of_new(o, n));
        (share >= FLOW_SHARE && self.inherited_from(n) != Some(o)).then_some(LineageEvent::Moved)
    }

    fn share_of_old(&self, o: usize, n: usize) -> f64 {
        share_of(self.overlap.members[o][n], self.of_old[o])
    }

    fn share_of_new(&self, o: usize, n: usize) -> f64 {
        share_of(self.overlap.members[o][n], self.of_new[n])
    }

    fn flow_line(&self, event: LineageEvent, o: usize, n: usize) -> LineageLine {
        LineageLine {
            event,
            old: Some(self.old[o].clone().into()),
            new: Some(self.new[n].clone().into()),
            members: self.overlap.members[o][n],
            share_of_old: Some(self.share_of_old(o, n)),
            share_of_new: Some(self.share_of_new(o, n)),
        }
    }
}

impl From<SegmentName> for SegmentIdentity {
    fn from(name: SegmentName) -> Self {
        Self { id: name.id, key: name.key }
    }
}

fn birth_line(name: SegmentName, members: u64) -> LineageLine {
    let new = Some(name.into());
    LineageLine {
        event: LineageEvent::Born,
        old: None,
        new,
        members,
        share_of_old: None,
        share_of_new: Some(1.0),
    }
}

fn death_line(name: SegmentName, members: u64) -> LineageLine {
    let old = Some(name.into());
    LineageLine {
        event: LineageEvent::Died,
        old,
        new: None,
        members,
        share_of_old: Some(1.0),
        share_of_new: None,
    }
}

fn share_of(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
