//! Lineage: stable segment ids across trainings.
//!
//! A new segment that `overlap` matches with an old one inherits its id. Every other new segment
//! is born: its id is derived from its training data and predecessor.
//!
//! Births, deaths, splits, merges and other flows are recorded as lines, see [`LineageEvent`].

pub mod hungarian;
pub mod overlap;

use serde::{Deserialize, Serialize};

use crate::domain::feature::FeatureRow;
use crate::domain::id::ModelId;
use crate::domain::model::{Model, NamedSegment, new_segment_id};
use crate::domain::train::lineage::overlap::{MemberOverlap, match_segments};
use crate::domain::train::{TrainedModel, TrainingError};

/// Limits of a split and of a merge. A part of a split has at least `PART_SHARE` of the old
/// segment, and those rows are at least `MAJORITY_SHARE` of the new one. For a part of a merge, the
/// other way round.
const PART_SHARE: f64 = 0.25;
const MAJORITY_SHARE: f64 = 0.5;
/// Minimum share for a flow of members to be recorded.
const FLOW_SHARE: f64 = 0.1;

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

/// One change of a segment between two models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineageLine {
    pub event: LineageEvent,
    /// `None` for a birth.
    pub old: Option<NamedSegment>,
    /// `None` for a death.
    pub new: Option<NamedSegment>,
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

/// Gives matched segments of `trained` the ids of the predecessor's segments, and adds the
/// lineage to the report. `rows` are the training rows, or all rows they were selected from.
pub fn inherit_segment_ids(
    mut trained: TrainedModel,
    rows: &[FeatureRow],
    predecessor: Option<&Model>,
) -> Result<TrainedModel, TrainingError> {
    let Some(old) = predecessor else {
        trained.report.lineage = Some(SegmentLineage::of_first_model(&trained.model));
        return Ok(trained);
    };
    let new = &trained.model;
    let overlap = MemberOverlap::measure(old, new, rows);
    let kept = overlap.as_ref().map_or_else(|| vec![None; new.segments().len()], match_segments);
    let origin = format!("{}/{}", old.id(), new.id());
    let ids = kept.iter().zip(1..).map(|(kept, position)| match kept {
        Some(place) => old.segments()[*place].id.clone(),
        None => new_segment_id(&origin, position),
    });
    // Ids are part of the document, so it is sealed and opened again: the model id changes.
    trained.bytes = new.with_segment_ids(ids.collect(), old.id())?;
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
            lines: model.segments().iter().map(|new| birth_line(new.into(), new.size)).collect(),
        }
    }

    /// Lineage of `new`, which has its final ids; `overlap` is `None` when `old` cannot score
    /// the rows.
    fn of(old: &Model, new: &Model, overlap: Option<&MemberOverlap>) -> Self {
        let Some(overlap) = overlap else {
            let died = old.segments().iter().map(|old| death_line(old.into(), old.size));
            let mut first = Self::of_first_model(new);
            first.lines.extend(died);
            return Self { predecessor: Some(old.id().clone()), ..first };
        };
        let (old_segments, new_segments) = (old.named_segments(), new.named_segments());
        Self::from_overlap(Some(old.id().clone()), &old_segments, &new_segments, overlap)
    }

    /// Lineage from the members in common: equal ids are the same segment.
    pub fn from_overlap(
        predecessor: Option<ModelId>,
        old: &[NamedSegment],
        new: &[NamedSegment],
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
        for (n, born) in new.iter().enumerate() {
            match flows.inherited_from(n) {
                Some(o) => lines.push(flows.flow_line(LineageEvent::Kept, o, n)),
                None => lines.push(birth_line(born.clone(), flows.of_new[n])),
            }
        }
        for (o, died) in old.iter().enumerate() {
            if new.iter().all(|new| new.id != died.id) {
                lines.push(death_line(died.clone(), flows.of_old[o]));
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
    old: &'a [NamedSegment],
    new: &'a [NamedSegment],
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
            old: Some(self.old[o].clone()),
            new: Some(self.new[n].clone()),
            members: self.overlap.members[o][n],
            share_of_old: Some(self.share_of_old(o, n)),
            share_of_new: Some(self.share_of_new(o, n)),
        }
    }
}

fn birth_line(born: NamedSegment, members: u64) -> LineageLine {
    LineageLine {
        event: LineageEvent::Born,
        old: None,
        new: Some(born),
        members,
        share_of_old: None,
        share_of_new: Some(1.0),
    }
}

fn death_line(died: NamedSegment, members: u64) -> LineageLine {
    LineageLine {
        event: LineageEvent::Died,
        old: Some(died),
        new: None,
        members,
        share_of_old: Some(1.0),
        share_of_new: None,
    }
}

fn share_of(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
