//! Leaderboard: ranking of the candidates, with reasons.
//!
//! *Gates first*: a candidate that fails a gate cannot win. *Then the silhouette*, the index that
//! found the true number of groups most often in the comparison of Arbelaitz et al. (2013, *An
//! extensive comparative study of cluster validity indices*). *Then a vote*: candidates within one
//! standard error of the best silhouette count as equal (the one-standard-error rule of Breiman
//! et al. 1984). Stability, Davies-Bouldin and Calinski-Harabasz each rank them, and the weighted
//! mean rank decides (Borda count). Remaining ties go to fewer segments, then to the algorithm
//! listed first.

use serde::{Deserialize, Serialize};

use crate::domain::fault::{Fault, Faults};
use crate::domain::train::clustering::algorithm::Likelihood;
use crate::domain::train::evaluation::internal_indices::{Dispersion, Estimate};
use crate::domain::train::evaluation::stability::Stability;
use crate::domain::train::spec::within;

/// Conditions that a candidate must meet. `None`: no condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gates {
    /// Minimum share of the rows in the smallest segment, 0..=1.
    pub smallest_share: Option<f64>,
    /// Minimum of the mean bootstrap Jaccard index of the segments, 0..=1.
    pub mean_jaccard: Option<f64>,
    /// Minimum of the mean silhouette, -1..=1.
    pub silhouette: Option<f64>,
    /// Maximum share of the rows without a segment, 0..=1.
    pub noise_share: Option<f64>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            smallest_share: Some(0.005),
            mean_jaccard: None,
            silhouette: None,
            noise_share: Some(0.5),
        }
    }
}

impl Gates {
    pub(crate) fn check(&self, faults: &mut Faults, bootstraps: usize) {
        let mut share = |path: &str, value: Option<f64>, least: f64| {
            if let Some(value) = value {
                within(faults, path, value, least..=1.0);
            }
        };
        share("gates.smallest_share", self.smallest_share, 0.0);
        share("gates.mean_jaccard", self.mean_jaccard, 0.0);
        share("gates.silhouette", self.silhouette, -1.0);
        share("gates.noise_share", self.noise_share, 0.0);
        if self.mean_jaccard.is_some() && bootstraps == 0 {
            let problem = "is measured by bootstraps: `stability.bootstraps` must be above 0";
            faults.push(Fault::new("gates.mean_jaccard", problem));
        }
    }
}

/// Weight of each criterion among candidates with equal silhouettes. Not negative; 0 disables a
/// criterion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub stability: f64,
    pub davies_bouldin: f64,
    pub calinski_harabasz: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { stability: 2.0, davies_bouldin: 1.0, calinski_harabasz: 1.0 }
    }
}

impl Weights {
    pub(crate) fn check(&self, faults: &mut Faults) {
        within(faults, "weights.stability", self.stability, 0.0..=1000.0);
        within(faults, "weights.davies_bouldin", self.davies_bouldin, 0.0..=1000.0);
        within(faults, "weights.calinski_harabasz", self.calinski_harabasz, 0.0..=1000.0);
    }
}

/// Evaluation figures of one partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Number of segments with rows.
    pub segments: usize,
    /// From a sample of the rows for training.
    pub silhouette: Option<Estimate>,
    /// By centroids, over all rows for training.
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
    pub stability: Option<Stability>,
}

impl Figures {
    pub fn new(
        on: &Dispersion,
        silhouette: Option<Estimate>,
        validation: Option<&Dispersion>,
    ) -> Self {
        Self {
            segments: on.segments(),
            silhouette,
            simplified_silhouette: on.simplified_silhouette(),
            validation_silhouette: validation.and_then(Dispersion::simplified_silhouette),
            davies_bouldin: on.davies_bouldin(),
            calinski_harabasz: on.calinski_harabasz(),
            inertia: on.inertia(),
            smallest_share: on.smallest_share(),
            balance: on.balance(),
            noise_share: on.noise as f64 / (on.rows() + on.noise).max(1) as f64,
            stability: None,
        }
    }

    fn by_silhouette(&self) -> f64 {
        self.silhouette.map_or(-1.0, |s| s.value)
    }

    fn jaccard(&self) -> Option<f64> {
        self.stability.as_ref()?.mean_jaccard
    }
}

/// Resources used by a candidate. Reported beside the results and never sealed into a model, as
/// it differs between machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    pub seconds: f64,
    /// Peak memory of the process meanwhile; `None` if the system does not report it.
    pub peak_bytes: Option<u64>,
}

impl Cost {
    /// Cost of both, one after the other.
    #[must_use]
    pub fn and(self, then: Self) -> Self {
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

/// One candidate on the leaderboard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    pub algorithm: Box<str>,
    /// Position in the spec's `algorithms`, from 0.
    pub listed: usize,
    /// Number of segments requested, or found if the algorithm determines it.
    pub segments: usize,
    pub figures: Figures,
    /// For a mixture: goodness of fit and information criteria.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<Likelihood>,
    /// Share of rows that serving places as the algorithm did.
    pub fidelity: f64,
    pub gates: Vec<GateOutcome>,
    /// Difference from the baseline; `None` without one.
    pub over_baseline: Option<Margin>,
    /// Reason for the rank, in words.
    pub reason: String,
    pub cost: Cost,
}

impl Entry {
    /// Entry of the algorithm listed first, with an exact served form.
    pub fn new(algorithm: &str, segments: usize, figures: Figures, cost: Cost) -> Self {
        Self {
            algorithm: algorithm.into(),
            listed: 0,
            segments,
            figures,
            likelihood: None,
            fidelity: 1.0,
            gates: vec![],
            over_baseline: None,
            reason: String::new(),
            cost,
        }
    }

    pub fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }

    fn refusals(&self) -> Vec<String> {
        let failed = self.gates.iter().filter(|gate| !gate.passed);
        failed
            .map(|gate| format!("{} is {:.3}, required is {}", gate.gate, gate.found, gate.asked))
            .collect()
    }
}

/// Figures of a candidate minus those of the baseline, with signs such that more is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Margin {
    pub silhouette: Option<f64>,
    pub davies_bouldin: Option<f64>,
    pub calinski_harabasz: Option<f64>,
}

/// The RFM segmentation used as baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaselineEntry {
    /// Key and number of rows of each segment.
    pub segments: Vec<(&'static str, u64)>,
    pub figures: Figures,
}

/// All candidates, best first, those refused by a gate last. Empty for an algorithm without
/// competitors.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Leaderboard {
    pub baseline: Option<BaselineEntry>,
    pub entries: Vec<Entry>,
    /// Candidates that could not be fitted to these rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
}

/// A candidate without clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failed {
    pub algorithm: Box<str>,
    pub listed: usize,
    /// Number of segments requested; `None` if the algorithm determines it.
    pub segments: Option<usize>,
    pub reason: String,
}

impl Leaderboard {
    /// The winner; `None` when no candidate passes the gates.
    pub fn winner(&self) -> Option<&Entry> {
        self.entries.first().filter(|entry| entry.passed())
    }

    /// The refused candidates with their reasons, in words.
    pub fn refusals(&self) -> String {
        let refused = self.entries.iter().filter(|entry| !entry.passed());
        let said = refused.map(|e| format!("{} {}: {}", e.algorithm, e.segments, e.reason));
        said.collect::<Vec<_>>().join("; ")
    }
}

/// Ranks `entries`, and fills in their gates, margins and reasons.
pub fn rank(
    mut entries: Vec<Entry>,
    baseline: Option<BaselineEntry>,
    gates: &Gates,
    weights: &Weights,
) -> Leaderboard {
    for entry in &mut entries {
        entry.gates = outcomes(&entry.figures, gates);
        entry.over_baseline = baseline.as_ref().map(|b| margin(&entry.figures, &b.figures));
    }
    let (mut passed, mut refused): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(Entry::passed);
    let by_silhouette = |a: &Entry, b: &Entry| {
        b.figures
            .by_silhouette()
            .total_cmp(&a.figures.by_silhouette())
            .then(a.segments.cmp(&b.segments))
    };
    passed.sort_by(by_silhouette);
    refused.sort_by(by_silhouette);

    let best = passed.first().and_then(|entry| entry.figures.silhouette);
    // One-standard-error rule: lower silhouettes down to here count as equal to the best.
    let enough = best.map_or(-1.0, |best| best.value - best.error);
    let tied = passed.iter().take_while(|e| e.figures.by_silhouette() >= enough).count();
    let points = consensus(&passed[..tied], weights);
    let mut order: Vec<usize> = (0..tied).collect();
    order.sort_by(|a, b| {
        points[*b].total_cmp(&points[*a]).then(passed[*a].segments.cmp(&passed[*b].segments))
    });
    let winner_reason = order.first().map(|first| why_first(&passed, *first, tied, points[*first]));
    for (place, entry) in passed.iter_mut().enumerate() {
        entry.reason = match points.get(place) {
            Some(points) => format!(
                "silhouette {} is within one standard error of the best; the other criteria \
                 together give it {points:.2} of 1",
                silhouette(&entry.figures),
            ),
            None => format!(
                "silhouette {} is more than one standard error below the best, {}",
                silhouette(&entry.figures),
                best.map_or_else(|| "unknown".into(), |best| format!("{:.3}", best.value)),
            ),
        };
    }
    for entry in &mut refused {
        entry.reason = format!("refused: {}", entry.refusals().join(", "));
    }
    let behind = passed.split_off(tied);
    let mut entries: Vec<Entry> = order.into_iter().map(|place| passed[place].clone()).collect();
    if let (Some(first), Some(reason)) = (entries.first_mut(), winner_reason) {
        first.reason = reason;
    }
    entries.extend(behind);
    entries.extend(refused);
    Leaderboard { baseline, entries, failed: vec![] }
}

fn why_first(passed: &[Entry], first: usize, tied: usize, points: f64) -> String {
    let silhouette = silhouette(&passed[first].figures);
    match (passed.len(), tied) {
        (1, _) => {
            format!("first: the only candidate that passes the gates; silhouette {silhouette}")
        }
        (_, 1) => format!(
            "first: silhouette {silhouette}, and no other is within one standard error of it"
        ),
        _ => format!(
            "first: silhouette {silhouette}; of the {tied} candidates within one standard error \
             of the best, stability, Davies-Bouldin and Calinski-Harabasz together put it ahead \
             ({points:.2} of 1)"
        ),
    }
}

fn silhouette(figures: &Figures) -> String {
    figures.silhouette.map_or_else(
        || "unknown".into(),
        |estimate| format!("{:.3} ± {:.3}", estimate.value, estimate.error),
    )
}

fn outcomes(figures: &Figures, gates: &Gates) -> Vec<GateOutcome> {
    let least = |gate, asked: Option<f64>, found: Option<f64>| {
        let (asked, found) = (asked?, found?);
        Some(GateOutcome { gate, asked, found, passed: found >= asked })
    };
    let most = |gate, asked: Option<f64>, found: f64| {
        Some(GateOutcome { gate, asked: asked?, found, passed: found <= asked? })
    };
    let all = [
        least("smallest_share", gates.smallest_share, Some(figures.smallest_share)),
        least("mean_jaccard", gates.mean_jaccard, figures.jaccard()),
        least("silhouette", gates.silhouette, figures.silhouette.map(|s| s.value)),
        most("noise_share", gates.noise_share, figures.noise_share),
    ];
    all.into_iter().flatten().collect()
}

fn margin(figures: &Figures, baseline: &Figures) -> Margin {
    let more = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
    let value = |figures: &Figures| figures.silhouette.map(|s| s.value);
    Margin {
        silhouette: more(value(figures), value(baseline)),
        davies_bouldin: more(baseline.davies_bouldin, figures.davies_bouldin),
        calinski_harabasz: more(figures.calinski_harabasz, baseline.calinski_harabasz),
    }
}

/// Criterion of the vote; more is better.
type Criterion = dyn Fn(&Figures) -> Option<f64>;

/// Borda score of each entry, 0..=1: the weighted mean, over the criteria, of the share of other
/// entries that it is ahead of. Ties count half.
fn consensus(entries: &[Entry], weights: &Weights) -> Vec<f64> {
    let criteria: [(f64, &Criterion); 3] = [
        (weights.stability, &|f: &Figures| f.jaccard()),
        (weights.davies_bouldin, &|f: &Figures| f.davies_bouldin.map(|x| -x)),
        (weights.calinski_harabasz, &|f: &Figures| f.calinski_harabasz),
    ];
    let total: f64 = criteria.iter().map(|(weight, _)| weight).sum();
    let others = entries.len().saturating_sub(1).max(1) as f64;
    let points = |entry: &Entry| {
        let ahead = |value: &Criterion| {
            let own = value(&entry.figures);
            let share = |other: &Entry| match value(&other.figures).partial_cmp(&own) {
                Some(std::cmp::Ordering::Less) => 1.0,
                Some(std::cmp::Ordering::Equal) => 0.5,
                _ => 0.0,
            };
            // Minus the tie with itself.
            (entries.iter().map(share).sum::<f64>() - 0.5) / others
        };
        let weighted = criteria.iter().map(|(weight, value)| weight * ahead(value)).sum::<f64>();
        if total > 0.0 { weighted / total } else { 0.0 }
    };
    entries.iter().map(points).collect()
}
