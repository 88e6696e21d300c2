//! The ranking of candidates: gates, then the weighted criteria.

use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::train::evaluation::internal_indices::SampleEstimate;
use segmentd::domain::train::evaluation::stability::{StabilityRating, StabilityReport};
use segmentd::domain::train::selection::baseline::{RfmBaseline, RfmFeatures};
use segmentd::domain::train::selection::criteria::{
    CandidateGates, CriterionWeights, SelectionCriteria,
};
use segmentd::domain::train::selection::leaderboard::{
    Leaderboard, LeaderboardEntry, PartitionFigures, ResourceCost, rank_candidates,
};

use crate::model::support::def;

/// A candidate with `criteria`: reproducibility, modularity, density validation.
fn entry(segments: usize, criteria: [f64; 3], jaccard: f64) -> LeaderboardEntry {
    let figures = PartitionFigures {
        rows: 1000,
        segments,
        silhouette: None,
        simplified_silhouette: None,
        validation_silhouette: None,
        davies_bouldin: None,
        calinski_harabasz: Some(100.0),
        inertia: 1.0,
        smallest_share: 0.1,
        balance: 0.9,
        noise_share: 0.0,
        stability: Some(StabilityReport {
            segments: vec![],
            mean_jaccard: Some(jaccard),
            seeds: None,
            slices: vec![],
            kept_under_noise: None,
            rows: 1000,
        }),
    };
    let [value, modularity, density] = criteria;
    let criteria = SelectionCriteria {
        reproducibility: SampleEstimate { value, error: 0.03, rows: 1000 },
        modularity,
        density_validation: Some(density),
        outcomes: None,
    };
    LeaderboardEntry {
        criteria: Some(criteria),
        ..LeaderboardEntry::new("k-means", segments, figures, ResourceCost::default())
    }
}

fn order(board: &Leaderboard) -> Vec<usize> {
    board.entries.iter().map(|entry| entry.segments).collect()
}

fn ranked(entries: Vec<LeaderboardEntry>, gates: &CandidateGates) -> Leaderboard {
    rank_candidates(entries, None, gates, &CriterionWeights::default())
}

#[test]
fn the_weighted_mean_of_the_criteria_decides() {
    // (0.9 + 0.8 / 4 + 0.4 / 4) / 1.5 and (0.95 + 0.5 / 4 - 0.4 / 4) / 1.5
    let entries = vec![entry(2, [0.95, 0.5, -0.4], 0.9), entry(5, [0.90, 0.8, 0.4], 0.9)];
    let board = ranked(entries.clone(), &CandidateGates::default());
    assert_eq!(order(&board), [5, 2]);
    let score = |place: usize| board.entries[place].score.unwrap();
    assert!((score(0).value - 0.8).abs() < 1e-12 && (score(1).value - 0.65).abs() < 1e-12);
    assert!((score(0).error - 0.02).abs() < 1e-12);
    assert!(board.entries[0].is_equally_good && !board.entries[1].is_equally_good);
    // Another weight, another winner.
    let only_first = CriterionWeights {
        modularity: 0.0,
        density_validation: 0.0,
        ..CriterionWeights::default()
    };
    let board = rank_candidates(entries, None, &CandidateGates::default(), &only_first);
    assert_eq!(order(&board), [2, 5]);
}

#[test]
fn candidates_within_one_standard_error_are_called_equally_good() {
    let entries = vec![
        entry(3, [0.88, 0.6, 0.2], 0.9),
        entry(4, [0.90, 0.6, 0.2], 0.9),
        entry(6, [0.80, 0.6, 0.2], 0.9),
    ];
    let board = ranked(entries, &CandidateGates::default());
    assert_eq!(order(&board), [4, 3, 6]);
    let equally_good: Vec<bool> = board.entries.iter().map(|entry| entry.is_equally_good).collect();
    assert_eq!(equally_good, [true, true, false]);
    // Of full equals, the fewer segments.
    let entries = vec![entry(7, [0.5, 0.1, 0.1], 0.8), entry(6, [0.5, 0.1, 0.1], 0.8)];
    assert_eq!(order(&ranked(entries, &CandidateGates::default())), [6, 7]);
}

#[test]
fn a_failed_gate_puts_the_best_candidate_last_with_a_reason() {
    let gates = CandidateGates { mean_jaccard: Some(0.75), ..CandidateGates::default() };
    let entries = vec![entry(5, [0.9, 0.8, 0.4], 0.7), entry(3, [0.2, 0.1, 0.0], 0.8)];
    let board = ranked(entries, &gates);
    assert_eq!(order(&board), [3, 5]);
    assert_eq!(
        board.entries[1].reason,
        "refused: mean_jaccard is 0.7000, required is 0.75 (`gates.mean_jaccard`)"
    );
    assert!(board.winner().is_some_and(|winner| winner.segments == 3));
    let nobody = ranked(vec![entry(5, [0.9, 0.8, 0.4], 0.7)], &gates);
    assert!(nobody.winner().is_none());
    assert!(nobody.refusals().contains("k-means 5"));
}

#[test]
fn a_jaccard_is_read_as_hennig_does() {
    let read = [0.59, 0.60, 0.75, 0.85].map(StabilityRating::from_jaccard);
    assert_eq!(
        read,
        [
            StabilityRating::Unstable,
            StabilityRating::Doubtful,
            StabilityRating::Stable,
            StabilityRating::HighlyStable
        ]
    );
}

/// Mid-ranks: seven of ten customers have one order, so their mid-rank is 3.5 of 10, in the
/// second fifth. The others have 7.5, 8.5 and 9.5.
#[test]
fn the_baseline_never_separates_equal_customers() {
    let defs = ["recency", "orders", "spend"].map(|name| def(name, name, None));
    let rows: Vec<FeatureRow> = (0..10)
        .map(|row: u32| {
            let orders = f64::from(row.saturating_sub(6).max(1));
            let orders = if row > 6 { orders + 1.0 } else { 1.0 };
            let numbers = [f64::from(row), orders, f64::from(10 * row)];
            FeatureRow(numbers.map(FeatureValue::Number).to_vec())
        })
        .collect();
    let rows: Vec<&FeatureRow> = rows.iter().collect();
    let named = |name: &str| RfmFeatures {
        recency: "recency".into(),
        frequency: name.into(),
        monetary: "spend".into(),
    };
    let baseline = RfmBaseline::fit(&named("orders"), &defs, &rows).unwrap();
    let scores: Vec<u8> =
        rows.iter().map(|row| baseline.rules().score_row(row).frequency).collect();
    assert_eq!(scores, [2, 2, 2, 2, 2, 2, 2, 4, 5, 5]);
    // Without ties every fifth has a fifth of the customers; low recency is good.
    let recency: Vec<u8> = rows.iter().map(|row| baseline.rules().score_row(row).recency).collect();
    assert_eq!(recency, [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]);
    let sizes = RfmBaseline::sizes(&baseline.labels(&rows));
    assert_eq!(sizes.iter().map(|segment| segment.rows).sum::<u64>(), 10);
    assert!(RfmBaseline::fit(&named("visits"), &defs, &rows).is_none());
}
