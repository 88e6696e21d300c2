//! Candidates: each number of segments with each algorithm, fitted to the same
//! rows, measured alike and put in order.
//!
//! A wide range of segment numbers is tried in steps that grow by a seventh,
//! then every number between the best one's neighbours. The candidates ahead
//! so far are then tried for stability, which takes most of the time, and
//! ordered again.

use std::collections::BTreeMap;

use crate::domain::stats::Rng;
use crate::domain::train::agreement::Label;
use crate::domain::train::kmeans::{self, BestOf};
use crate::domain::train::quality::{Dispersion, silhouette};
use crate::domain::train::select::{BaselineEntry, Cost, Entry, Figures, Leaderboard, rank};
use crate::domain::train::spec::{Segments, TrainSpec};
use crate::domain::train::stability::{Slices, Subject};
use crate::domain::train::{Clusters, Dataset, FitError, Progress};

/// Rows that the silhouette is sampled from: its error is then about 0.003.
const SILHOUETTE_ROWS: usize = 10_000;
const SILHOUETTE_STREAM: u64 = 3;
/// Candidates tried for stability.
const SHORTLIST: usize = 5;
/// Each candidate's trials draw from streams of its own.
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

/// The candidates by segments, with their place in the order of trying.
struct Tried {
    entry: Entry,
    clusters: Clusters,
}

/// Fits, measures and orders candidates; the first has passed every gate.
/// The clusters are those of the first, for the rows of `train`.
pub fn compete(
    field: Field<'_>,
    spec: &TrainSpec,
    progress: &dyn Progress,
) -> Result<(Leaderboard, Clusters), FitError> {
    let mut tried: BTreeMap<usize, Tried> = BTreeMap::new();
    let mut refused = None;
    let mut waiting = ladder(spec.segments);
    let mut refined = false;
    let (mut done, mut total) = (0, waiting.len() as u64);
    while !waiting.is_empty() {
        for segments in std::mem::take(&mut waiting) {
            progress.report("candidates", done, total);
            match attempt(&field, spec, segments, progress) {
                Ok(candidate) => drop(tried.insert(segments, candidate)),
                Err(error @ FitError::TooFewDistinct { .. }) => drop(refused.get_or_insert(error)),
                Err(error) => return Err(error),
            }
            done += 1;
        }
        if !refined {
            refined = true;
            waiting = between_neighbours(&tried, spec);
            total += waiting.len() as u64;
        }
    }
    progress.report("candidates", done, total);
    if tried.is_empty()
        && let Some(error) = refused
    {
        return Err(error);
    }
    try_stability(&field, spec, &mut tried, progress)?;
    let leaderboard = ordered(&tried, field.baseline, spec);
    let winner = leaderboard.winner().and_then(|entry| tried.remove(&entry.segments));
    match winner {
        Some(winner) => Ok((leaderboard, winner.clusters)),
        None => Err(FitError::NoneQualifies { refusals: leaderboard.refusals() }),
    }
}

fn ordered(
    tried: &BTreeMap<usize, Tried>,
    baseline: Option<BaselineEntry>,
    spec: &TrainSpec,
) -> Leaderboard {
    let entries = tried.values().map(|candidate| candidate.entry.clone()).collect();
    rank(entries, baseline, &spec.gates, &spec.weights)
}

fn attempt(
    field: &Field<'_>,
    spec: &TrainSpec,
    segments: usize,
    progress: &dyn Progress,
) -> Result<Tried, FitError> {
    let quiet = Inside(progress);
    quiet.cost();
    let best = fit_candidate(field.train, &with(spec, segments, spec.starts, spec.seed), &quiet)?;
    let clusters = Clusters::from(best.partition);
    let beside = clusters.place(field.validation);
    let figures = field.figures(spec.seed, &clusters.labels, &beside);
    let entry = Entry::new("k-means", segments, figures, quiet.cost());
    Ok(Tried { entry, clusters })
}

/// Tries the candidates that are ahead so far.
fn try_stability(
    field: &Field<'_>,
    spec: &TrainSpec,
    tried: &mut BTreeMap<usize, Tried>,
    progress: &dyn Progress,
) -> Result<(), FitError> {
    let so_far = ordered(tried, None, spec);
    let passed = so_far.entries.iter().filter(|entry| entry.passed());
    let shortlist: Vec<usize> = passed.take(SHORTLIST).map(|entry| entry.segments).collect();
    for (done, segments) in shortlist.iter().enumerate() {
        progress.report("stability", done as u64, shortlist.len() as u64);
        let Some(candidate) = tried.get_mut(segments) else { continue };
        let quiet = Inside(progress);
        quiet.cost();
        let refit = |data: &Dataset, seed: u64| {
            let starts = spec.starts.min(TRIAL_STARTS);
            fit_candidate(data, &with(spec, *segments, starts, seed), &quiet)
                .map(|best| best.partition.into())
        };
        let subject = Subject {
            data: field.train,
            clusters: &candidate.clusters,
            slices: field.slices,
            refit: &refit,
            seed: spec.seed,
        };
        let first_stream = FIRST_TRIAL_STREAM + TRIAL_STREAMS * *segments as u64;
        let stability = subject.measure(&spec.stability, spec.seed, first_stream)?;
        candidate.entry.figures.stability = Some(stability);
        candidate.entry.cost = candidate.entry.cost.and(quiet.cost());
    }
    progress.report("stability", shortlist.len() as u64, shortlist.len() as u64);
    Ok(())
}

/// The settings of one fit.
pub(super) fn with(spec: &TrainSpec, segments: usize, starts: usize, seed: u64) -> TrainSpec {
    TrainSpec { segments: Segments::Exactly(segments), starts, seed, ..spec.clone() }
}

fn fit_candidate(
    data: &Dataset,
    spec: &TrainSpec,
    progress: &dyn Progress,
) -> Result<BestOf, FitError> {
    kmeans::best_of(data, spec, progress)
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

/// Those between the best candidate so far and the ones tried next to it.
fn between_neighbours(tried: &BTreeMap<usize, Tried>, spec: &TrainSpec) -> Vec<usize> {
    let so_far = ordered(tried, None, spec);
    let Some(best) = so_far.winner().map(|entry| entry.segments) else { return vec![] };
    let below = tried.range(..best).next_back().map_or(best, |(segments, _)| *segments);
    let above = tried.range(best + 1..).next().map_or(best, |(segments, _)| *segments);
    (below..=above).filter(|segments| !tried.contains_key(segments)).collect()
}

/// Passes on whether to stop, and says nothing.
struct Inside<'a>(&'a dyn Progress);

impl Progress for Inside<'_> {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        self.0.should_stop()
    }

    fn cost(&self) -> Cost {
        self.0.cost()
    }
}
