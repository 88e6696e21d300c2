//! Candidates: each algorithm with each number of segments, screened on a sample, ranked, and
//! the best of them compared on more rows.
//!
//! A wide range of segment numbers is searched coarse to fine: steps that grow by a quarter, then
//! every number between the neighbours of the best one. The best candidates are then fitted again
//! to all rows of the comparison, where the gates are checked and the stability of each segment is
//! measured; a candidate that fails a gate there makes room for the next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::algorithm::ClusteringAlgorithm;
use crate::domain::train::data::outcomes::OutcomeColumns;
use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::internal_indices::{SegmentDispersion, silhouette};
use crate::domain::train::evaluation::stability::{RowSlices, StabilitySubject};
use crate::domain::train::selection::criteria::SelectionCriteria;
use crate::domain::train::selection::leaderboard::{
    BaselineEntry, FailedCandidate, Leaderboard, LeaderboardEntry, PartitionFigures,
    PartitionShares, rank_candidates,
};
use crate::domain::train::selection::screening::ScreeningSample;
use crate::domain::train::selection::served_fit::fit_as_served;
use crate::domain::train::selection::structure::StructureSubject;
use crate::domain::train::selection::variants::distinguishing_settings;
use crate::domain::train::spec::{SegmentCountRange, TrainingSpec};
use crate::domain::train::{
    EncodedDataset, PrototypeClusters, QuietProgress, TrainingError, TrainingProgress,
};

/// Sample size of the silhouette: its standard error is then about 0.003.
const SILHOUETTE_ROWS: usize = 10_000;
const SILHOUETTE_STREAM: u64 = 3;
/// Number of candidates that are compared on more rows, with stability trials.
pub(crate) const SHORTLIST: usize = 3;
/// The trials of each number of segments use their own range of random streams.
const FIRST_TRIAL_STREAM: u64 = 1 << 32;
const TRIAL_STREAMS: u64 = 1 << 12;
/// Starts of each trial, on halves and on resampled rows.
pub(crate) const TRIAL_STARTS: usize = 2;
/// Numbers of segments up to this one are all tried in the first round; the following ones grow by
/// a quarter each.
const ALL_UP_TO: usize = 12;
const STEP_FACTOR: f64 = 1.25;

/// Data of the comparison: the rows that candidates are fitted to and evaluated on.
#[derive(Debug)]
pub struct ComparisonData<'a> {
    pub train: &'a EncodedDataset,
    /// May be empty.
    pub validation: &'a EncodedDataset,
    /// Slices of the rows of `train`.
    pub slices: &'a [RowSlices],
    /// Outcomes of the rows of `train`.
    pub outcomes: OutcomeColumns,
    pub baseline: Option<BaselineEntry>,
}

/// Rows with the labels of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelledRows<'a> {
    pub data: &'a EncodedDataset,
    pub labels: &'a [SegmentLabel],
}

impl LabelledRows<'_> {
    fn dispersion(self) -> SegmentDispersion {
        SegmentDispersion::measure(self.data, self.labels, count_segments(self.labels))
    }
}

/// Figures of a partition of the rows for training, beside the validation rows, of which there may
/// be none.
pub(crate) fn partition_figures(
    seed: u64,
    train: LabelledRows<'_>,
    validation: LabelledRows<'_>,
) -> PartitionFigures {
    let beside = (validation.data.rows() > 0).then(|| validation.dispersion());
    let mut rng = RandomStream::new(seed, SILHOUETTE_STREAM);
    let silhouette = silhouette(train.data, train.labels, SILHOUETTE_ROWS, &mut rng);
    PartitionFigures::new(&train.dispersion(), silhouette, beside.as_ref())
}

fn count_segments(labels: &[SegmentLabel]) -> usize {
    labels.iter().flatten().max().map_or(0, |last| *last as usize + 1)
}

/// Identity of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct CandidateKey {
    /// Position of its algorithm in the list.
    listed: usize,
    /// Requested number of segments; 0 if the algorithm finds it.
    segments: usize,
}

/// The ranked candidates, to be fitted again to more rows. At least one has passed every gate.
#[derive(Debug)]
pub struct CandidateRanking {
    pub leaderboard: Leaderboard,
    /// By `LeaderboardEntry::listed`.
    pub algorithms: Vec<ClusteringAlgorithm>,
    /// Outcomes that could not judge.
    pub unusable_outcomes: Vec<Box<str>>,
}

/// Fits, evaluates and ranks the candidates; the first one has passed every gate.
pub fn compare_candidates(
    field: &ComparisonData<'_>,
    spec: &TrainingSpec,
    progress: &dyn TrainingProgress,
) -> Result<CandidateRanking, TrainingError> {
    let algorithms = spec.competing_algorithms();
    let mut search = CandidateSearch {
        sample: ScreeningSample::draw(field.train, &field.outcomes, spec.seed),
        field,
        spec,
        algorithms: &algorithms,
        variants: distinguishing_settings(&algorithms),
        progress,
        tried: BTreeMap::new(),
        failed: Vec::new(),
        first_failure: None,
    };
    search.screen()?;
    search.compare_best()?;
    let failed = std::mem::take(&mut search.failed);
    let mut leaderboard = Leaderboard { failed, ..search.ranked(field.baseline.clone()) };
    let Some(winner) = leaderboard.winner() else {
        return Err(TrainingError::NoQualifiedCandidate { refusals: leaderboard.refusals() });
    };
    if let Some(criteria) = winner.criteria {
        let subject = StructureSubject {
            algorithm: algorithms[winner.listed].clone().with_at_most(TRIAL_STARTS),
            segments: winner.segments,
            reproducibility: criteria.reproducibility.value,
            spec,
            progress,
        };
        leaderboard.structure = subject.test(field.train)?;
    }
    let unusable_outcomes = search.sample.unusable_outcomes().to_vec();
    Ok(CandidateRanking { leaderboard, algorithms, unusable_outcomes })
}

/// State of the search.
struct CandidateSearch<'a> {
    sample: ScreeningSample,
    field: &'a ComparisonData<'a>,
    spec: &'a TrainingSpec,
    algorithms: &'a [ClusteringAlgorithm],
    /// By algorithm: how it differs from others of the same name.
    variants: Vec<Option<Box<str>>>,
    progress: &'a dyn TrainingProgress,
    tried: BTreeMap<CandidateKey, LeaderboardEntry>,
    failed: Vec<FailedCandidate>,
    /// Reported if every candidate fails.
    first_failure: Option<TrainingError>,
}

impl CandidateSearch<'_> {
    /// Fits every candidate to the sample, and judges it there.
    fn screen(&mut self) -> Result<(), TrainingError> {
        let mut waiting = self.first_candidates();
        let mut refined = false;
        let (mut done, mut total) = (0, waiting.len() as u64);
        while !waiting.is_empty() {
            for key in std::mem::take(&mut waiting) {
                self.progress.report("candidates", done, total);
                let entry = self.screen_candidate(key);
                self.record(key, entry)?;
                done += 1;
            }
            // The second round runs once: it fills the gaps around the best candidate.
            if !refined {
                refined = true;
                waiting = self.gaps_around_best();
                total += waiting.len() as u64;
            }
        }
        self.progress.report("candidates", done, total);
        match self.first_failure.take() {
            Some(error) if self.tried.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a candidate, or the reason why it failed. One failed candidate does not end the run.
    fn record(
        &mut self,
        key: CandidateKey,
        entry: Result<LeaderboardEntry, TrainingError>,
    ) -> Result<(), TrainingError> {
        match entry {
            Ok(entry) => drop(self.tried.insert(key, entry)),
            Err(error) if error.concerns_one_candidate() => {
                self.tried.remove(&key);
                self.failed.push(FailedCandidate {
                    algorithm: self.algorithms[key.listed].name().into(),
                    variant: self.variants[key.listed].clone(),
                    listed: key.listed,
                    segments: (key.segments > 0).then_some(key.segments),
                    reason: error.to_string(),
                });
                self.first_failure.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn screen_candidate(&self, key: CandidateKey) -> Result<LeaderboardEntry, TrainingError> {
        let quiet = QuietProgress(self.progress);
        let data = &self.sample.data;
        let nothing = data.with_matrix(Array2::zeros((0, data.columns())));
        let (clusters, entry) = self.fit_candidate(key, data, &nothing, &quiet)?;
        let algorithm = self.trial_algorithm(key);
        let seed = self.spec.seed;
        let criteria = self
            .sample
            .judge(&clusters.labels, |half| algorithm.fit(half, key.segments, seed, &quiet))?;
        let cost = entry.cost.plus(quiet.take_cost());
        Ok(LeaderboardEntry { criteria: Some(criteria), cost, ..entry })
    }

    /// Fits a candidate to `data`, with figures of the partition as it would be served.
    fn fit_candidate(
        &self,
        key: CandidateKey,
        data: &EncodedDataset,
        validation: &EncodedDataset,
        quiet: &QuietProgress<'_>,
    ) -> Result<(PrototypeClusters, LeaderboardEntry), TrainingError> {
        // Cost is counted since the previous call: this one starts the count.
        quiet.take_cost();
        let algorithm = &self.algorithms[key.listed];
        let fit = fit_as_served(algorithm, key.segments, data, data, self.spec, quiet)?;
        let clusters = PrototypeClusters { labels: fit.labels, ..fit.outcome.clusters };
        let beside = clusters.assign_rows(validation);
        let figures = partition_figures(
            self.spec.seed,
            LabelledRows { data, labels: &clusters.labels },
            LabelledRows { data: validation, labels: &beside },
        );
        let segments =
            if algorithm.finds_segment_count() { clusters.segments() } else { key.segments };
        let entry = LeaderboardEntry {
            listed: key.listed,
            variant: self.variants[key.listed].clone(),
            likelihood: fit.outcome.likelihood,
            fidelity: fit.outcome.fidelity,
            dissolved: fit.dissolved,
            ..LeaderboardEntry::new(algorithm.name(), segments, figures, quiet.take_cost())
        };
        Ok((clusters, entry))
    }

    /// The algorithm of a candidate for repeated fits.
    fn trial_algorithm(&self, key: CandidateKey) -> ClusteringAlgorithm {
        self.algorithms[key.listed].clone().with_at_most(TRIAL_STARTS)
    }

    /// Fits the best candidates to all rows of the comparison, checks their gates there, and
    /// measures their stability, until enough have passed.
    fn compare_best(&mut self) -> Result<(), TrainingError> {
        let mut compared = BTreeSet::new();
        loop {
            let board = self.ranked(None);
            let passed = board.entries.iter().filter(|entry| entry.passed());
            let keys: Vec<CandidateKey> = passed.map(|entry| self.key_of(entry)).collect();
            let ready = keys.iter().filter(|key| compared.contains(*key)).count();
            let next = keys.into_iter().find(|key| !compared.contains(key));
            self.progress.report("stability", ready as u64, SHORTLIST as u64);
            let Some(key) = next.filter(|_| ready < SHORTLIST) else { return Ok(()) };
            compared.insert(key);
            let criteria = self.tried.get(&key).and_then(|entry| entry.criteria);
            let entry = self.compare_candidate(key, criteria);
            self.record(key, entry)?;
        }
    }

    fn compare_candidate(
        &self,
        key: CandidateKey,
        criteria: Option<SelectionCriteria>,
    ) -> Result<LeaderboardEntry, TrainingError> {
        let quiet = QuietProgress(self.progress);
        let ComparisonData { train, validation, slices, .. } = *self.field;
        let (clusters, mut entry) = self.fit_candidate(key, train, validation, &quiet)?;
        entry.criteria = criteria;
        let shares = PartitionShares::of(&clusters.labels);
        if !shares.failed_gates(&self.spec.gates).is_empty() {
            return Ok(entry);
        }
        let algorithm = self.trial_algorithm(key);
        let subject = StabilitySubject {
            data: train,
            clusters: &clusters,
            slices,
            refit: &|data, seed| algorithm.fit(data, key.segments, seed, &quiet),
            seed: self.spec.seed,
        };
        let first_stream = FIRST_TRIAL_STREAM + TRIAL_STREAMS * key.segments as u64;
        let stability = subject.measure(&self.spec.stability, self.spec.seed, first_stream)?;
        entry.figures.stability = Some(stability);
        entry.cost = entry.cost.plus(quiet.take_cost());
        Ok(entry)
    }

    fn ranked(&self, baseline: Option<BaselineEntry>) -> Leaderboard {
        let entries = self.tried.values().cloned().collect();
        rank_candidates(entries, baseline, &self.spec.gates, &self.spec.weights)
    }

    fn key_of(&self, entry: &LeaderboardEntry) -> CandidateKey {
        let finds = self.algorithms[entry.listed].finds_segment_count();
        CandidateKey { listed: entry.listed, segments: if finds { 0 } else { entry.segments } }
    }

    fn first_candidates(&self) -> Vec<CandidateKey> {
        let numbers = coarse_steps(self.spec.segments.range(self.field.train.rows()));
        let mut candidates = Vec::new();
        for (listed, algorithm) in self.algorithms.iter().enumerate() {
            let steps = if algorithm.finds_segment_count() { &[0][..] } else { &numbers };
            let (rows, columns) = (self.sample.data.rows(), self.sample.data.columns());
            let most = algorithm.most_segments(rows, columns);
            // The smallest number is always tried: nothing else may have been requested.
            let steps = steps.iter().filter(|step| **step <= most || **step == steps[0]);
            candidates.extend(steps.map(|segments| CandidateKey { listed, segments: *segments }));
        }
        candidates
    }

    /// Candidates between the best one and its neighbours with the same algorithm.
    fn gaps_around_best(&self) -> Vec<CandidateKey> {
        let board = self.ranked(None);
        let best = board.winner().map(|winner| self.key_of(winner));
        let Some(best) = best.filter(|best| best.segments > 0) else { return vec![] };
        let same_algorithm = self.tried.keys().filter(|key| key.listed == best.listed);
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
        between.filter(|candidate| !self.tried.contains_key(candidate)).collect()
    }
}

/// Numbers of segments for the first round: all of a narrow range, and always both ends.
fn coarse_steps(range: SegmentCountRange) -> Vec<usize> {
    let mut steps = vec![range.from];
    while let Some(last) = steps.last().copied().filter(|last| *last < range.to) {
        let next =
            if last < ALL_UP_TO { last + 1 } else { (last as f64 * STEP_FACTOR).round() as usize };
        steps.push(next.min(range.to));
    }
    steps
}
