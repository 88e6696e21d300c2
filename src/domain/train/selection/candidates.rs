//! Candidates: each algorithm with each number of segments, fitted to the same rows, evaluated and
//! ranked.
//!
//! A wide range of segment numbers is searched coarse to fine: steps that grow by a seventh, then
//! every number between the neighbours of the best one. The stability of the best candidates,
//! which takes most of the time, is measured last, and the candidates are ranked again.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::domain::model::MAX_SEGMENTS;
use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::algorithm::ClusteringAlgorithm;
use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::internal_indices::{SegmentDispersion, silhouette};
use crate::domain::train::evaluation::stability::{RowSlices, StabilitySubject};
use crate::domain::train::selection::leaderboard::{
    BaselineEntry, FailedCandidate, Leaderboard, LeaderboardEntry, PartitionFigures,
    rank_candidates,
};
use crate::domain::train::spec::{SegmentCount, TrainingSpec};
use crate::domain::train::{
    EncodedDataset, PrototypeClusters, QuietProgress, TrainingError, TrainingProgress,
};

/// Sample size of the silhouette: its standard error is then about 0.003.
const SILHOUETTE_ROWS: usize = 10_000;
const SILHOUETTE_STREAM: u64 = 3;
/// Number of candidates with stability trials.
pub(crate) const SHORTLIST: usize = 5;
/// The trials of each number of segments use their own range of random streams.
const FIRST_TRIAL_STREAM: u64 = 1 << 32;
const TRIAL_STREAMS: u64 = 1 << 12;
/// Starts of each stability trial.
const TRIAL_STARTS: usize = 2;
/// Growth factor of the steps.
const STEP_FACTOR: f64 = 8.0 / 7.0;

/// Data of the comparison: the rows that candidates are fitted to and evaluated on.
#[derive(Debug)]
pub struct ComparisonData<'a> {
    pub train: &'a EncodedDataset,
    /// May be empty.
    pub validation: &'a EncodedDataset,
    /// Slices of the rows of `train`.
    pub slices: &'a [RowSlices],
    pub baseline: Option<BaselineEntry>,
}

impl ComparisonData<'_> {
    /// Figures of a partition, from labels for the rows of `train` and of `validation`.
    pub(crate) fn figures(
        &self,
        seed: u64,
        train: &[SegmentLabel],
        validation: &[SegmentLabel],
    ) -> PartitionFigures {
        let on = SegmentDispersion::measure(self.train, train, count_segments(train));
        let beside = (self.validation.rows() > 0).then(|| {
            SegmentDispersion::measure(self.validation, validation, count_segments(validation))
        });
        let mut rng = RandomStream::new(seed, SILHOUETTE_STREAM);
        let silhouette = silhouette(self.train, train, SILHOUETTE_ROWS, &mut rng);
        PartitionFigures::new(&on, silhouette, beside.as_ref())
    }
}

fn count_segments(labels: &[SegmentLabel]) -> usize {
    labels.iter().flatten().max().map_or(0, |last| *last as usize + 1)
}

/// Identity of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct CandidateKey {
    /// Position of its algorithm in the list.
    listed: usize,
    segments: usize,
}

struct FittedCandidate {
    entry: LeaderboardEntry,
    clusters: PrototypeClusters,
}

/// The ranked candidates, to be fitted again to more rows. At least one has passed every gate.
#[derive(Debug)]
pub struct CandidateRanking {
    pub leaderboard: Leaderboard,
    /// By `LeaderboardEntry::listed`.
    pub algorithms: Vec<ClusteringAlgorithm>,
}

/// Fits, evaluates and ranks the candidates; the first one has passed every gate.
pub fn compare_candidates(
    field: ComparisonData<'_>,
    spec: &TrainingSpec,
    progress: &dyn TrainingProgress,
) -> Result<CandidateRanking, TrainingError> {
    let algorithms = spec.competing_algorithms();
    let mut tried: BTreeMap<CandidateKey, FittedCandidate> = BTreeMap::new();
    let mut failed = Vec::new();
    let mut first_failure = None;
    let mut waiting = first_candidates(&algorithms, spec.segments);
    let mut refined = false;
    let (mut done, mut total) = (0, waiting.len() as u64);
    while !waiting.is_empty() {
        for wanted in std::mem::take(&mut waiting) {
            progress.report("candidates", done, total);
            let algorithm = &algorithms[wanted.listed];
            match fit_candidate(&field, spec, algorithm, wanted, progress) {
                Ok(candidate) => drop(tried.insert(key_of(&candidate.entry), candidate)),
                // One failed candidate does not end the run. If all fail, the run reports the
                // first error.
                Err(error) if error.concerns_one_candidate() => {
                    failed.push(FailedCandidate {
                        algorithm: algorithm.name().into(),
                        listed: wanted.listed,
                        segments: (!algorithm.finds_segment_count()).then_some(wanted.segments),
                        reason: error.to_string(),
                    });
                    first_failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            done += 1;
        }
        // The second round runs once: it fills the gaps around the best candidate.
        if !refined {
            refined = true;
            waiting = gaps_around_best(&algorithms, &tried, spec);
            total += waiting.len() as u64;
        }
    }
    progress.report("candidates", done, total);
    if tried.is_empty()
        && let Some(error) = first_failure
    {
        return Err(error);
    }
    measure_stability(&field, spec, &algorithms, &mut tried, progress)?;
    let leaderboard = Leaderboard { failed, ..ranked(&tried, field.baseline, spec) };
    if leaderboard.winner().is_none() {
        return Err(TrainingError::NoQualifiedCandidate { refusals: leaderboard.refusals() });
    }
    Ok(CandidateRanking { leaderboard, algorithms })
}

fn key_of(entry: &LeaderboardEntry) -> CandidateKey {
    CandidateKey { listed: entry.listed, segments: entry.segments }
}

fn ranked(
    tried: &BTreeMap<CandidateKey, FittedCandidate>,
    baseline: Option<BaselineEntry>,
    spec: &TrainingSpec,
) -> Leaderboard {
    let entries = tried.values().map(|candidate| candidate.entry.clone()).collect();
    rank_candidates(entries, baseline, &spec.gates, &spec.weights)
}

fn fit_candidate(
    field: &ComparisonData<'_>,
    spec: &TrainingSpec,
    algorithm: &ClusteringAlgorithm,
    wanted: CandidateKey,
    progress: &dyn TrainingProgress,
) -> Result<FittedCandidate, TrainingError> {
    let quiet = QuietProgress(progress);
    // Cost is counted since the previous call: this one starts the count.
    quiet.take_cost();
    let found = algorithm.fit_with_diagnostics(field.train, wanted.segments, spec.seed, &quiet)?;
    let mut clusters = found.clusters;
    if clusters.segments() > MAX_SEGMENTS {
        return Err(TrainingError::TooManySegments { found: clusters.segments() });
    }
    if found.fidelity < 1.0 {
        // The partition as served is evaluated, not the algorithm's own.
        clusters.labels = clusters.assign_rows(field.train);
    }
    let beside = clusters.assign_rows(field.validation);
    let figures = field.figures(spec.seed, &clusters.labels, &beside);
    let segments =
        if algorithm.finds_segment_count() { clusters.segments() } else { wanted.segments };
    let entry = LeaderboardEntry {
        listed: wanted.listed,
        likelihood: found.likelihood,
        fidelity: found.fidelity,
        ..LeaderboardEntry::new(algorithm.name(), segments, figures, quiet.take_cost())
    };
    Ok(FittedCandidate { entry, clusters })
}

/// Measures the stability of the best candidates.
fn measure_stability(
    field: &ComparisonData<'_>,
    spec: &TrainingSpec,
    algorithms: &[ClusteringAlgorithm],
    tried: &mut BTreeMap<CandidateKey, FittedCandidate>,
    progress: &dyn TrainingProgress,
) -> Result<(), TrainingError> {
    let so_far = ranked(tried, None, spec);
    let passed = so_far.entries.iter().filter(|entry| entry.passed());
    let shortlist: Vec<CandidateKey> = passed.take(SHORTLIST).map(key_of).collect();
    for (done, place) in shortlist.iter().enumerate() {
        progress.report("stability", done as u64, shortlist.len() as u64);
        let Some(candidate) = tried.get_mut(place) else { continue };
        let CandidateKey { listed, segments } = *place;
        let quiet = QuietProgress(progress);
        quiet.take_cost();
        let algorithm = algorithms[listed].clone().with_at_most(TRIAL_STARTS);
        let subject = StabilitySubject {
            data: field.train,
            clusters: &candidate.clusters,
            slices: field.slices,
            refit: &|data, seed| algorithm.fit(data, segments, seed, &quiet),
            seed: spec.seed,
        };
        let first_stream = FIRST_TRIAL_STREAM + TRIAL_STREAMS * segments as u64;
        let stability = subject.measure(&spec.stability, spec.seed, first_stream)?;
        candidate.entry.figures.stability = Some(stability);
        candidate.entry.cost = candidate.entry.cost.plus(quiet.take_cost());
    }
    progress.report("stability", shortlist.len() as u64, shortlist.len() as u64);
    Ok(())
}

fn first_candidates(
    algorithms: &[ClusteringAlgorithm],
    segments: SegmentCount,
) -> Vec<CandidateKey> {
    let mut candidates = Vec::new();
    for (listed, algorithm) in algorithms.iter().enumerate() {
        let steps = if algorithm.finds_segment_count() { vec![0] } else { coarse_steps(segments) };
        candidates.extend(steps.into_iter().map(|segments| CandidateKey { listed, segments }));
    }
    candidates
}

/// Numbers of segments for the first round: all of a narrow range, and always both ends.
fn coarse_steps(segments: SegmentCount) -> Vec<usize> {
    let mut steps = vec![segments.minimum()];
    while let Some(last) = steps.last().copied().filter(|last| *last < segments.maximum()) {
        let next = (last as f64 * STEP_FACTOR).round() as usize;
        steps.push(next.max(last + 1).min(segments.maximum()));
    }
    steps
}

/// Candidates between the best one and its neighbours with the same algorithm.
fn gaps_around_best(
    algorithms: &[ClusteringAlgorithm],
    tried: &BTreeMap<CandidateKey, FittedCandidate>,
    spec: &TrainingSpec,
) -> Vec<CandidateKey> {
    let so_far = ranked(tried, None, spec);
    let Some(best) = so_far.winner().filter(|best| !algorithms[best.listed].finds_segment_count())
    else {
        return vec![];
    };
    let best = key_of(best);
    let same_algorithm = tried.keys().filter(|key| key.listed == best.listed);
    let (mut below, mut above) = (None, None);
    for key in same_algorithm {
        // The keys ascend: the last one below the best, and the first one above.
        match key.segments.cmp(&best.segments) {
            Ordering::Less => below = Some(key.segments),
            Ordering::Greater => above = above.or(Some(key.segments)),
            Ordering::Equal => {}
        }
    }
    let range = below.unwrap_or(best.segments)..=above.unwrap_or(best.segments);
    let between = range.map(|segments| CandidateKey { listed: best.listed, segments });
    between.filter(|candidate| !tried.contains_key(candidate)).collect()
}
