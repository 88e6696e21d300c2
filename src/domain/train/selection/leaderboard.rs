//! Leaderboard: ranking of the candidates, with reasons.
//!
//! *Gates first*: a candidate that fails a gate cannot win. *Then the score*, the weighted mean of
//! the criteria. Candidates within one standard error of the best score count as equally good
//! (the one-standard-error rule of Breiman et al. 1984), and the report says so; the best score
//! wins, of equal scores fewer segments, then the algorithm listed first.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::train::clustering::algorithm::MixtureLikelihood;
use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::internal_indices::{SampleEstimate, SegmentDispersion};
use crate::domain::train::evaluation::stability::StabilityReport;
use crate::domain::train::selection::baseline::BaselineSegment;
use crate::domain::train::selection::criteria::{
    CandidateGates, CriterionWeights, SelectionCriteria,
};
use crate::domain::train::selection::structure::StructureTest;

/// Evaluation figures of one partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionFigures {
    /// Rows that the figures are measured on.
    pub rows: u64,
    /// Number of segments with rows.
    pub segments: usize,
    /// From a sample of the rows for training.
    pub silhouette: Option<SampleEstimate>,
    /// By centroids.
    pub simplified_silhouette: Option<f64>,
    /// By centroids, over the validation rows.
    pub validation_silhouette: Option<f64>,
    /// Small is good.
    pub davies_bouldin: Option<f64>,
    pub calinski_harabasz: Option<f64>,
    pub inertia: f64,
    pub smallest_share: f64,
    /// Balance of the sizes, 0..=1.
    pub balance: f64,
    pub noise_share: f64,
    /// `None`: not measured, because other candidates were ahead.
    pub stability: Option<StabilityReport>,
}

impl PartitionFigures {
    pub fn new(
        on: &SegmentDispersion,
        silhouette: Option<SampleEstimate>,
        validation: Option<&SegmentDispersion>,
    ) -> Self {
        Self {
            rows: on.rows() + on.noise,
            segments: on.segments(),
            silhouette,
            simplified_silhouette: on.simplified_silhouette(),
            validation_silhouette: validation.and_then(SegmentDispersion::simplified_silhouette),
            davies_bouldin: on.davies_bouldin(),
            calinski_harabasz: on.calinski_harabasz(),
            inertia: on.inertia(),
            smallest_share: on.smallest_share(),
            balance: on.balance(),
            noise_share: on.noise as f64 / (on.rows() + on.noise).max(1) as f64,
            stability: None,
        }
    }

    fn jaccard(&self) -> Option<f64> {
        self.stability.as_ref()?.mean_jaccard
    }
}

/// Resources used by a candidate. Reported beside the results and never sealed into a model, as
/// it differs between machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ResourceCost {
    pub seconds: f64,
    /// Peak memory of the process meanwhile; `None` if the system does not report it.
    pub peak_bytes: Option<u64>,
}

impl ResourceCost {
    /// Cost of both, one after the other.
    #[must_use]
    pub(crate) fn plus(self, then: Self) -> Self {
        Self {
            seconds: self.seconds + then.seconds,
            peak_bytes: self.peak_bytes.max(then.peak_bytes),
        }
    }
}

/// Result of one gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateOutcome {
    pub gate: &'static str,
    pub asked: f64,
    pub found: f64,
    pub passed: bool,
}

impl GateOutcome {
    /// The implicit gate of a fit that must not fail.
    pub(crate) fn failed_fit() -> Self {
        Self { gate: "final_fit", asked: 1.0, found: 0.0, passed: false }
    }

    pub(crate) fn describe(&self) -> String {
        let Self { gate, asked, found, .. } = self;
        format!("{gate} is {found:.4}, required is {asked} (`gates.{gate}`)")
    }
}

/// One candidate on the leaderboard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeaderboardEntry {
    pub algorithm: Box<str>,
    /// Settings in which the algorithm differs from others of the same name in the spec; `None`:
    /// the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<Box<str>>,
    /// Position in the spec's `algorithms`, from 0.
    pub listed: usize,
    /// Number of segments requested, or found if the algorithm determines it.
    pub segments: usize,
    pub figures: PartitionFigures,
    /// Criteria that the score is made of; `None`: without competitors they are not measured.
    pub criteria: Option<SelectionCriteria>,
    /// Weighted mean of the criteria, with its standard error.
    pub score: Option<SampleEstimate>,
    /// Whether the score is within one standard error of the best.
    pub is_equally_good: bool,
    /// For a mixture: goodness of fit and information criteria.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<MixtureLikelihood>,
    /// Share of rows that serving places as the algorithm did.
    pub fidelity: f64,
    /// Segments that were dissolved because they were smaller than `gates.smallest_share`; their
    /// rows are in no segment, or in one that reaches them.
    pub dissolved: usize,
    pub gates: Vec<GateOutcome>,
    /// Difference from the baseline; `None` without one.
    pub over_baseline: Option<BaselineMargin>,
    /// Reason for the rank, in words.
    pub reason: String,
    pub cost: ResourceCost,
}

impl LeaderboardEntry {
    /// Entry of the algorithm listed first, with an exact served form.
    pub fn new(
        algorithm: &str,
        segments: usize,
        figures: PartitionFigures,
        cost: ResourceCost,
    ) -> Self {
        Self {
            algorithm: algorithm.into(),
            variant: None,
            listed: 0,
            segments,
            figures,
            criteria: None,
            score: None,
            is_equally_good: false,
            likelihood: None,
            fidelity: 1.0,
            dissolved: 0,
            gates: vec![],
            over_baseline: None,
            reason: String::new(),
            cost,
        }
    }

    /// Name of the algorithm, with its variant.
    pub(crate) fn algorithm_and_variant(&self) -> String {
        algorithm_and_variant(&self.algorithm, self.variant.as_deref())
    }

    /// Whether the candidate passes every gate.
    pub(crate) fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }

    fn refusals(&self) -> Vec<String> {
        let failed = self.gates.iter().filter(|gate| !gate.passed);
        failed.map(GateOutcome::describe).collect()
    }
}

fn algorithm_and_variant(algorithm: &str, variant: Option<&str>) -> String {
    match variant {
        Some(variant) => format!("{algorithm} ({variant})"),
        None => algorithm.to_owned(),
    }
}

impl FailedCandidate {
    /// Name of the algorithm, with its variant.
    pub(crate) fn algorithm_and_variant(&self) -> String {
        algorithm_and_variant(&self.algorithm, self.variant.as_deref())
    }
}

/// Figures of a candidate minus those of the baseline, with signs such that more is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaselineMargin {
    pub silhouette: Option<f64>,
    pub davies_bouldin: Option<f64>,
    pub calinski_harabasz: Option<f64>,
}

/// The RFM segmentation used as baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaselineEntry {
    /// Segments with rows, best first.
    pub segments: Vec<BaselineSegment>,
    pub figures: PartitionFigures,
}

/// All candidates, best first, those refused by a gate last. Empty for an algorithm without
/// competitors.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Leaderboard {
    pub baseline: Option<BaselineEntry>,
    pub entries: Vec<LeaderboardEntry>,
    /// Whether the rows form groups at all; `None`: not tested.
    pub structure: Option<StructureTest>,
    /// What a reader should know about the choice, in sentences.
    pub notes: Vec<String>,
    /// Candidates that could not be fitted to these rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedCandidate>,
}

/// A candidate without clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedCandidate {
    pub algorithm: Box<str>,
    /// As in [`LeaderboardEntry`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<Box<str>>,
    pub listed: usize,
    /// Number of segments requested; `None` if the algorithm determines it.
    pub segments: Option<usize>,
    pub reason: String,
}

impl Leaderboard {
    /// The winner; `None` when no candidate passes the gates.
    pub fn winner(&self) -> Option<&LeaderboardEntry> {
        self.entries.first().filter(|entry| entry.passed())
    }

    /// Refuses the winner for a reason that its final fit gave; the next entry wins.
    pub(crate) fn refuse_winner(&mut self, failed: Vec<GateOutcome>, reason: &str) {
        if self.entries.is_empty() {
            return;
        }
        let mut refused = self.entries.remove(0);
        refused.gates.retain(|gate| failed.iter().all(|other| other.gate != gate.gate));
        refused.gates.extend(failed);
        refused.reason = format!("refused: fitted to all rows, {reason}");
        self.entries.push(refused);
        if let Some(next) = self.entries.first_mut().filter(|entry| entry.passed()) {
            next.reason =
                format!("first, because the candidate ahead was refused; {}", next.reason);
        }
    }

    /// The refused candidates with their reasons, in words.
    pub fn refusals(&self) -> String {
        let refused = self.entries.iter().filter(|entry| !entry.passed());
        let said =
            refused.map(|e| format!("{} {}: {}", e.algorithm_and_variant(), e.segments, e.reason));
        said.collect::<Vec<_>>().join("; ")
    }
}

/// Ranks `entries`, and fills in their scores, gates, margins and reasons.
pub fn rank_candidates(
    mut entries: Vec<LeaderboardEntry>,
    baseline: Option<BaselineEntry>,
    gates: &CandidateGates,
    weights: &CriterionWeights,
) -> Leaderboard {
    for entry in &mut entries {
        entry.score = entry.criteria.map(|criteria| criteria.score(weights));
        entry.gates = gate_outcomes(&entry.figures, gates);
        entry.over_baseline =
            baseline.as_ref().map(|b| baseline_margin(&entry.figures, &b.figures));
    }
    let (mut passed, mut refused): (Vec<LeaderboardEntry>, Vec<LeaderboardEntry>) =
        entries.into_iter().partition(LeaderboardEntry::passed);
    passed.sort_by(by_score);
    refused.sort_by(by_score);
    let best = passed.first().and_then(|entry| entry.score);
    for entry in &mut passed {
        let distance =
            best.zip(entry.score).map(|(best, own)| (best.value - own.value, best.error));
        entry.is_equally_good = distance.is_some_and(|(behind, error)| behind <= error);
        entry.reason = match distance {
            Some((behind, _)) if entry.is_equally_good => {
                format!("{behind:.3} behind the first, within one standard error: equally good")
            }
            Some((behind, _)) => format!("{behind:.3} behind the first"),
            None => String::new(),
        };
    }
    for entry in &mut refused {
        entry.reason = format!("refused: {}", entry.refusals().join(", "));
    }
    if let Some(first) = passed.first_mut() {
        first.reason = match (first.score, first.criteria) {
            (Some(score), Some(criteria)) => first_place_reason(score, criteria),
            _ => "first: the only candidate".into(),
        };
    }
    passed.append(&mut refused);
    Leaderboard { baseline, entries: passed, ..Leaderboard::default() }
}

/// Descending order of the score, then ascending number of segments, then the order of the spec.
fn by_score(a: &LeaderboardEntry, b: &LeaderboardEntry) -> Ordering {
    let value =
        |entry: &LeaderboardEntry| entry.score.map_or(f64::NEG_INFINITY, |score| score.value);
    value(b).total_cmp(&value(a)).then(a.segments.cmp(&b.segments)).then(a.listed.cmp(&b.listed))
}

fn first_place_reason(score: SampleEstimate, criteria: SelectionCriteria) -> String {
    let SelectionCriteria { reproducibility, modularity, density_validation, outcomes } = criteria;
    let density =
        density_validation.map_or_else(|| "unknown".into(), |index| format!("{index:.2}"));
    let outcomes = outcomes.map_or_else(String::new, |share| {
        let percent = share.value * 100.0;
        format!("; the segments explain {percent:.1} % of the variance of the outcomes")
    });
    format!(
        "first: score {:.3} ± {:.3} of reproducibility {:.2}, modularity {modularity:.2} and \
         density validation {density}{outcomes}",
        score.value, score.error, reproducibility.value,
    )
}

/// Shares of the rows in the segments of a final fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PartitionShares {
    /// Of the smallest segment with rows.
    smallest: f64,
    /// Of the rows without a segment.
    noise: f64,
}

impl PartitionShares {
    pub(crate) fn of(labels: &[SegmentLabel]) -> Self {
        let mut sizes: BTreeMap<SegmentLabel, u64> = BTreeMap::new();
        for label in labels {
            *sizes.entry(*label).or_default() += 1;
        }
        let rows = labels.len().max(1) as f64;
        let noise = sizes.remove(&None).unwrap_or(0);
        let smallest = sizes.into_values().min().unwrap_or(0);
        Self { smallest: smallest as f64 / rows, noise: noise as f64 / rows }
    }

    /// The gates of sizes that these shares fail.
    pub(crate) fn failed_gates(self, gates: &CandidateGates) -> Vec<GateOutcome> {
        let smallest = gates.smallest_share.filter(|asked| self.smallest < *asked);
        let noise = gates.noise_share.filter(|asked| self.noise > *asked);
        let outcome = |gate, asked, found| GateOutcome { gate, asked, found, passed: false };
        let smallest = smallest.map(|asked| outcome("smallest_share", asked, self.smallest));
        let noise = noise.map(|asked| outcome("noise_share", asked, self.noise));
        smallest.into_iter().chain(noise).collect()
    }
}

/// Results of the gates in use. A gate without a measured value is left out.
fn gate_outcomes(figures: &PartitionFigures, gates: &CandidateGates) -> Vec<GateOutcome> {
    let minimums = [
        ("smallest_share", gates.smallest_share, Some(figures.smallest_share)),
        ("mean_jaccard", gates.mean_jaccard, figures.jaccard()),
        ("silhouette", gates.silhouette, figures.silhouette.map(|estimate| estimate.value)),
    ];
    let mut outcomes = Vec::new();
    for (gate, asked, found) in minimums {
        if let (Some(asked), Some(found)) = (asked, found) {
            outcomes.push(GateOutcome { gate, asked, found, passed: found >= asked });
        }
    }
    if let Some(asked) = gates.noise_share {
        let found = figures.noise_share;
        outcomes.push(GateOutcome { gate: "noise_share", asked, found, passed: found <= asked });
    }
    outcomes
}

fn baseline_margin(figures: &PartitionFigures, baseline: &PartitionFigures) -> BaselineMargin {
    let silhouette = figures.silhouette.map(|estimate| estimate.value);
    let of_baseline = baseline.silhouette.map(|estimate| estimate.value);
    BaselineMargin {
        silhouette: difference(silhouette, of_baseline),
        davies_bouldin: difference(baseline.davies_bouldin, figures.davies_bouldin),
        calinski_harabasz: difference(figures.calinski_harabasz, baseline.calinski_harabasz),
    }
}

fn difference(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? - b?)
}
