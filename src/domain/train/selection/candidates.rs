//! Candidates: each algorithm with each number of segments, fitted to the same rows, evaluated and
//! ranked.
//!
//! A wide range of segment numbers is searched coarse to fine: steps that grow by a seventh, then
//! every number between the neighbours of the best one. The stability of the best candidates,
//! which takes most of the time, is measured last, and the candidates are ranked again.

use std::collections::BTreeMap;

use crate::domain::model::MAX_SEGMENTS;
use crate::domain::stats::Rng;
use crate::domain::train::clustering::algorithm::Algorithm;
use crate::domain::train::evaluation::external_indices::Label;
use crate::domain::train::evaluation::internal_indices::{Dispersion, silhouette};
use crate::domain::train::evaluation::stability::{Slices, Subject};
use crate::domain::train::selection::leaderboard::{
    BaselineEntry, Cost, Entry, Failed, Figures, Leaderboard, rank,
};
use crate::domain::train::spec::{Segments, TrainSpec};
use crate::domain::train::{Clusters, Dataset, FitError, Pause, Progress};

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
const STEP: f64 = 8.0 / 7.0;

/// Data of the comparison: the rows that candidates are fitted to and evaluated on.
#[derive(Debug)]
pub struct Field<'a> {
    pub train: &'a Dataset,
    /// May be empty.
    pub validation: &'a Dataset,
    /// Slices of the rows of `train`.
    pub slices: &'a [Slices],
    pub baseline: Option<BaselineEntry>,
}

impl Field<'_> {
    /// Figures of a partition, from labels for the rows of `train` and of `validation`.
    pub fn figures(&self, seed: u64, train: &[Label], validation: &[Label]) -> Figures {
        let segments =
            |labels: &[Label]| labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
        let on = Dispersion::measure(self.train, train, segments(train));
        let beside = (self.validation.rows() > 0)
            .then(|| Dispersion::measure(self.validation, validation, segments(validation)));
        let mut rng = Rng::new(seed, SILHOUETTE_STREAM);
        let silhouette = silhouette(self.train, train, SILHOUETTE_ROWS, &mut rng);
        Figures::new(&on, silhouette, beside.as_ref())
    }
}

/// Identity of a candidate: position of its algorithm in the list, and number of segments.
type Key = (usize, usize);

struct Tried {
    entry: Entry,
    clusters: Clusters,
}

/// The winner, to be fitted again to more rows.
#[derive(Debug)]
pub struct Chosen {
    pub leaderboard: Leaderboard,
    /// Algorithm and number of segments of the winner.
    pub algorithm: Algorithm,
    pub segments: usize,
    /// Clusters of the rows of `train`.
    pub clusters: Clusters,
}

/// Fits, evaluates and ranks the candidates; the winner has passed every gate.
pub fn compete(
    field: Field<'_>,
    spec: &TrainSpec,
    progress: &dyn Progress,
) -> Result<Chosen, FitError> {
    let mut algorithms = spec.competitors();
    let mut tried: BTreeMap<Key, Tried> = BTreeMap::new();
    let mut failed = Vec::new();
    let mut first_failure = None;
    let mut waiting = first_candidates(&algorithms, spec.segments);
    let mut refined = false;
    let (mut done, mut total) = (0, waiting.len() as u64);
    while !waiting.is_empty() {
        for (listed, segments) in std::mem::take(&mut waiting) {
            progress.report("candidates", done, total);
            let algorithm = &algorithms[listed];
            match attempt(&field, spec, algorithm, (listed, segments), progress) {
                Ok(candidate) => drop(tried.insert(key(&candidate.entry), candidate)),
                // One failed candidate does not end the run. If all fail, the run reports the
                // first error.
                Err(error) if error.is_of_one_candidate() => {
                    failed.push(Failed {
                        algorithm: algorithm.name().into(),
                        listed,
                        segments: (!algorithm.finds_number()).then_some(segments),
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
            waiting = between_neighbours(&algorithms, &tried, spec);
            total += waiting.len() as u64;
        }
    }
    progress.report("candidates", done, total);
    if tried.is_empty()
        && let Some(error) = first_failure
    {
        return Err(error);
    }
    try_stability(&field, spec, &algorithms, &mut tried, progress)?;
    let leaderboard = Leaderboard { failed, ..ordered(&tried, field.baseline, spec) };
    let winner = leaderboard.winner().and_then(|entry| tried.remove(&key(entry)));
    match winner {
        Some(Tried { entry, clusters }) => Ok(Chosen {
            leaderboard,
            algorithm: algorithms.swap_remove(entry.listed),
            segments: entry.segments,
            clusters,
        }),
        None => Err(FitError::NoneQualifies { refusals: leaderboard.refusals() }),
    }
}

fn key(entry: &Entry) -> Key {
    (entry.listed, entry.segments)
}

fn ordered(
    tried: &BTreeMap<Key, Tried>,
    baseline: Option<BaselineEntry>,
    spec: &TrainSpec,
) -> Leaderboard {
    let entries = tried.values().map(|candidate| candidate.entry.clone()).collect();
    rank(entries, baseline, &spec.gates, &spec.weights)
}

fn attempt(
    field: &Field<'_>,
    spec: &TrainSpec,
    algorithm: &Algorithm,
    (listed, segments): Key,
    progress: &dyn Progress,
) -> Result<Tried, FitError> {
    let quiet = Inside(progress);
    quiet.cost();
    let found = algorithm.find(field.train, segments, spec.seed, &quiet)?;
    let mut clusters = found.clusters;
    if clusters.segments() > MAX_SEGMENTS {
        return Err(FitError::TooManySegments { found: clusters.segments() });
    }
    if found.fidelity < 1.0 {
        // The partition as served is evaluated, not the algorithm's own.
        clusters.labels = clusters.place(field.train);
    }
    let beside = clusters.place(field.validation);
    let figures = field.figures(spec.seed, &clusters.labels, &beside);
    let segments = if algorithm.finds_number() { clusters.segments() } else { segments };
    let entry = Entry {
        listed,
        likelihood: found.likelihood,
        fidelity: found.fidelity,
        ..Entry::new(algorithm.name(), segments, figures, quiet.cost())
    };
    Ok(Tried { entry, clusters })
}

/// Measures the stability of the best candidates.
fn try_stability(
    field: &Field<'_>,
    spec: &TrainSpec,
    algorithms: &[Algorithm],
    tried: &mut BTreeMap<Key, Tried>,
    progress: &dyn Progress,
) -> Result<(), FitError> {
    let so_far = ordered(tried, None, spec);
    let passed = so_far.entries.iter().filter(|entry| entry.passed());
    let shortlist: Vec<Key> = passed.take(SHORTLIST).map(key).collect();
    for (done, place) in shortlist.iter().enumerate() {
        progress.report("stability", done as u64, shortlist.len() as u64);
        let Some(candidate) = tried.get_mut(place) else { continue };
        let (listed, segments) = *place;
        let quiet = Inside(progress);
        quiet.cost();
        let algorithm = algorithms[listed].clone().with_at_most(TRIAL_STARTS);
        let refit = |data: &Dataset, seed: u64| algorithm.fit(data, segments, seed, &quiet);
        let subject = Subject {
            data: field.train,
            clusters: &candidate.clusters,
            slices: field.slices,
            refit: &refit,
            seed: spec.seed,
        };
        let first_stream = FIRST_TRIAL_STREAM + TRIAL_STREAMS * segments as u64;
        let stability = subject.measure(&spec.stability, spec.seed, first_stream)?;
        candidate.entry.figures.stability = Some(stability);
        candidate.entry.cost = candidate.entry.cost.and(quiet.cost());
    }
    progress.report("stability", shortlist.len() as u64, shortlist.len() as u64);
    Ok(())
}

fn first_candidates(algorithms: &[Algorithm], segments: Segments) -> Vec<Key> {
    let of = |(listed, algorithm): (usize, &Algorithm)| {
        let steps = if algorithm.finds_number() { vec![0] } else { ladder(segments) };
        steps.into_iter().map(move |segments| (listed, segments))
    };
    algorithms.iter().enumerate().flat_map(of).collect()
}

/// Numbers of segments for the first round: all of a narrow range, and always both ends.
fn ladder(segments: Segments) -> Vec<usize> {
    let mut steps = vec![segments.fewest()];
    while let Some(last) = steps.last().copied().filter(|last| *last < segments.most()) {
        let next = (last as f64 * STEP).round() as usize;
        steps.push(next.max(last + 1).min(segments.most()));
    }
    steps
}

/// Candidates between the best one and its neighbours with the same algorithm.
fn between_neighbours(
    algorithms: &[Algorithm],
    tried: &BTreeMap<Key, Tried>,
    spec: &TrainSpec,
) -> Vec<Key> {
    let so_far = ordered(tried, None, spec);
    let Some(best) = so_far.winner().filter(|best| !algorithms[best.listed].finds_number()) else {
        return vec![];
    };
    let (listed, best) = key(best);
    let segments = |(key, _): (&Key, &Tried)| key.1;
    let below = tried.range((listed, 0)..(listed, best)).next_back().map_or(best, segments);
    let above = tried.range((listed, best + 1)..(listed + 1, 0)).next().map_or(best, segments);
    let between = (below..=above).map(|segments| (listed, segments));
    between.filter(|candidate| !tried.contains_key(candidate)).collect()
}

/// Progress adapter that suppresses reports and passes on the rest.
struct Inside<'a>(&'a dyn Progress);

impl Progress for Inside<'_> {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        self.0.should_stop()
    }

    fn pause(&self) -> Pause {
        self.0.pause()
    }

    fn cost(&self) -> Cost {
        self.0.cost()
    }
}
