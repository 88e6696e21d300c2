//! Candidates: each number of segments with each algorithm, fitted to the same
//! rows, measured alike and put in order.
//!
//! A wide range of segment numbers is tried in steps that grow by a seventh,
//! then every number between the best one's neighbours. The candidates ahead
//! so far are then tried for stability, which takes most of the time, and
//! ordered again.

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

/// Rows that the silhouette is sampled from: its error is then about 0.003.
const SILHOUETTE_ROWS: usize = 10_000;
const SILHOUETTE_STREAM: u64 = 3;
/// Candidates tried for stability.
pub(crate) const SHORTLIST: usize = 5;
/// The trials of each number of segments draw from streams of their own.
const FIRST_TRIAL_STREAM: u64 = 1 << 32;
const TRIAL_STREAMS: u64 = 1 << 12;
/// Starts of each run that only checks stability.
const TRIAL_STARTS: usize = 2;
/// How much a longer step of the range grows.
const STEP: f64 = 8.0 / 7.0;

/// What candidates are fitted to and compared on.
#[derive(Debug)]
pub struct Field<'a> {
    pub train: &'a Dataset,
    /// May be empty.
    pub validation: &'a Dataset,
    /// Of the rows of `train`.
    pub slices: &'a [Slices],
    pub baseline: Option<BaselineEntry>,
}

impl Field<'_> {
    /// Figures of labels for the rows of `train`, and for those of `validation`.
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

/// A candidate: its algorithm's place in the list, and its segments.
type Key = (usize, usize);

struct Tried {
    entry: Entry,
    clusters: Clusters,
}

/// What is to be fitted again, to more rows.
#[derive(Debug)]
pub struct Chosen {
    pub leaderboard: Leaderboard,
    /// Those of the first on the leaderboard.
    pub algorithm: Algorithm,
    pub segments: usize,
    /// Of the rows of `train`.
    pub clusters: Clusters,
}

/// Fits, measures and orders candidates; the first has passed every gate.
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
        // Judged by what would be served.
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

/// Tries the candidates that are ahead so far.
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

/// The numbers of segments tried first: all of a narrow range, and its ends.
fn ladder(segments: Segments) -> Vec<usize> {
    let mut steps = vec![segments.fewest()];
    while let Some(last) = steps.last().copied().filter(|last| *last < segments.most()) {
        let next = (last as f64 * STEP).round() as usize;
        steps.push(next.max(last + 1).min(segments.most()));
    }
    steps
}

/// Those between the best candidate so far and the ones of its algorithm that were
/// tried next to it.
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

/// Passes on whether to stop, and says nothing.
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
