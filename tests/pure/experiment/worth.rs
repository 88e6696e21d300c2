//! Worth of a segmentation: RATE with ties, its bootstrap, and random groups.

use proptest::prelude::*;
use segmentd::domain::experiment::segmentation_worth::TrialFault;
use segmentd::domain::experiment::{
    PriorityRule, SegmentationWorth, TrialRows, WorthSettings, compare_segmentations,
    evaluate_segmentation, mean_effect_priorities,
};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::stats::groups::rank_weighted_effect::{
    GroupScores, RankWeighting, order_groups, rank_weighted_effect,
};

use crate::experiment::support::{assert_binomial, assert_close, golden};

const BY_EFFECT: PriorityRule<'_> = PriorityRule::Learned(&mean_effect_priorities);

fn group_scores(scores: &[f64]) -> GroupScores {
    let mut group = GroupScores::default();
    for score in scores {
        group.observe(*score);
    }
    group
}

#[test]
fn the_rate_of_ties_equals_the_mean_over_all_their_orders() {
    for case in golden().rank_weighted {
        let groups: Vec<GroupScores> = case.groups.iter().map(|one| group_scores(one)).collect();
        assert_close(rank_weighted_effect(&groups, RankWeighting::Autoc), case.autoc, "AUTOC");
        assert_close(rank_weighted_effect(&groups, RankWeighting::Qini), case.qini, "Qini");
    }
    assert_eq!(rank_weighted_effect(&[], RankWeighting::Autoc), 0.0);
}

#[test]
fn rates_of_sequential_folds_equal_brute_force() {
    let case = golden().sequential_folds;
    let trial =
        TrialRows::new(&case.outcomes, &case.treated, &case.groups, case.probability).unwrap();
    for (found, expected) in trial.effect_scores().into_iter().zip(&case.scores) {
        assert_close(found, *expected, "effect score");
    }
    for (weighting, expected) in
        [(RankWeighting::Autoc, case.autoc), (RankWeighting::Qini, case.qini)]
    {
        let settings = WorthSettings { weighting, ..WorthSettings::default() };
        let mut rng = RandomStream::new(24, 9);
        let found =
            evaluate_segmentation(&trial, &case.folds, &settings, BY_EFFECT, &mut rng).unwrap();
        assert_close(found.rate.value, expected, "RATE");
        assert!(found.p_value < 0.01 && found.random_upper < found.rate.value, "{found:?}");
    }
}

#[test]
fn faulty_trials_are_rejected() {
    let found = TrialRows::new(&[1.0, 2.0], &[true], &[0, 0], 0.5).unwrap_err();
    assert_eq!(found, TrialFault::Lengths { outcomes: 2, treated: 1, groups: 2 });
    let found = TrialRows::new(&[1.0, 2.0], &[true, false], &[0, 0], 1.0).unwrap_err();
    assert_eq!(found, TrialFault::Probability(1.0));
    let found = TrialRows::new(&[1.0, 2.0], &[true, true], &[0, 0], 0.5).unwrap_err();
    assert_eq!(found, TrialFault::EmptyVariation);
    let trial = TrialRows::new(&[1.0, 2.0], &[true, false], &[0, 0], 0.5).unwrap();
    let settings = WorthSettings::default();
    let mut rng = RandomStream::new(24, 9);
    assert_eq!(evaluate_segmentation(&trial, &[0], &settings, BY_EFFECT, &mut rng), None);
}

/// A randomised experiment with five segments, of which segment s has the effect `slope` (s - 2).
struct DrawnTrial {
    outcomes: Vec<f64>,
    is_treated: Vec<bool>,
    groups: Vec<usize>,
    folds: Vec<usize>,
}

impl DrawnTrial {
    fn draw(rng: &mut RandomStream, rows: usize, slope: f64) -> Self {
        let groups: Vec<usize> = (0..rows).map(|_| rng.uniform_below(5)).collect();
        let is_treated: Vec<bool> = (0..rows).map(|_| rng.uniform_unit() < 0.5).collect();
        let mut outcomes = Vec::with_capacity(rows);
        for row in 0..rows {
            let effect = if is_treated[row] { slope * (groups[row] as f64 - 2.0) } else { 0.0 };
            outcomes.push(5.0 + effect + rng.standard_normal());
        }
        let folds = (0..rows).map(|_| rng.uniform_below(10)).collect();
        Self { outcomes, is_treated, groups, folds }
    }

    fn trial(&self) -> TrialRows<'_> {
        TrialRows::new(&self.outcomes, &self.is_treated, &self.groups, 0.5).unwrap()
    }

    fn evaluate(&self, settings: &WorthSettings, rng: &mut RandomStream) -> SegmentationWorth {
        evaluate_segmentation(&self.trial(), &self.folds, settings, BY_EFFECT, rng).unwrap()
    }
}

/// True AUTOC of five equal groups with the effects 2, 1, 0, -1, -2.
fn true_autoc() -> f64 {
    let groups = [2.0, 1.0, 0.0, -1.0, -2.0]
        .map(|effect| GroupScores { rows: 1_000_000, score_sum: effect * 1e6 });
    rank_weighted_effect(&groups, RankWeighting::Autoc)
}

/// With clear effects the order is always found: intervals of 95 % contain the truth in about 95 % of
/// 200 experiments (band of four standard deviations), and every permutation test finds the effect.
#[test]
fn intervals_contain_the_true_rate() {
    let mut rng = RandomStream::new(24, 10);
    let settings =
        WorthSettings { half_samples: 60, random_groupings: 19, ..WorthSettings::default() };
    let (mut covered, mut errors, mut squares, mut sum) = (0, 0.0, 0.0, 0.0);
    let truth = true_autoc();
    for _ in 0..200 {
        let found = DrawnTrial::draw(&mut rng, 4_000, 1.0).evaluate(&settings, &mut rng);
        let [low, high] = found.rate.interval();
        covered += usize::from(low <= truth && truth <= high);
        errors += found.rate.standard_error / 200.0;
        sum += found.rate.value / 200.0;
        squares += (found.rate.value - truth).powi(2) / 200.0;
        assert_eq!(found.p_value, 0.05);
    }
    assert_binomial(covered, 200, 0.95, "covered");
    let ratio = errors / squares.sqrt();
    assert!((0.85..1.15).contains(&ratio), "standard errors are {ratio} of the true one");
    assert!((sum - truth).abs() < 4.0 * (squares / 200.0).sqrt(), "{sum} is not {truth}");
}

/// Segments without different effects: 5 % of the permutation tests reject, about 95 % of the intervals
/// contain 0, and random groups have a RATE near 0.
#[test]
fn segments_without_different_effects_are_not_worth_having() {
    let mut rng = RandomStream::new(24, 11);
    let settings =
        WorthSettings { half_samples: 60, random_groupings: 39, ..WorthSettings::default() };
    let (mut rejected, mut covered, mut random_sum) = (0, 0, 0.0);
    for _ in 0..400 {
        let found = DrawnTrial::draw(&mut rng, 300, 0.0).evaluate(&settings, &mut rng);
        rejected += usize::from(found.p_value <= 0.05);
        let [low, high] = found.rate.interval();
        covered += usize::from(low <= 0.0 && 0.0 <= high);
        random_sum += found.random_mean / 400.0;
    }
    assert_binomial(rejected, 400, 0.05, "rejected");
    assert_binomial(covered, 400, 0.95, "covered");
    assert!(random_sum.abs() < 0.02, "{random_sum}");
}

/// Evaluates segments in this fixed order, without folds.
fn evaluate_order(drawn: &DrawnTrial, priorities: [f64; 5], seed: u64) -> SegmentationWorth {
    let rule = PriorityRule::Fixed(&priorities);
    let single_fold = vec![0; drawn.groups.len()];
    let mut rng = RandomStream::new(seed, 13);
    let settings = WorthSettings::default();
    evaluate_segmentation(&drawn.trial(), &single_fold, &settings, rule, &mut rng).unwrap()
}

/// A fixed order is evaluated without folds; a learned one is not.
#[test]
fn a_fixed_order_needs_no_folds() {
    let drawn = DrawnTrial::draw(&mut RandomStream::new(24, 12), 2_000, 1.0);
    let right = evaluate_order(&drawn, [0.0, 1.0, 2.0, 3.0, 4.0], 1);
    let wrong = evaluate_order(&drawn, [4.0, 3.0, 2.0, 1.0, 0.0], 1);
    let tied = evaluate_order(&drawn, [7.0; 5], 1);
    assert!(right.rate.interval()[0] > 0.0 && right.p_value < 0.01, "{right:?}");
    assert!(wrong.rate.interval()[1] < 0.0 && wrong.p_value > 0.99, "{wrong:?}");
    assert!(tied.rate.value.abs() < 1e-12, "{tied:?}");
    assert_eq!(evaluate_order(&drawn, [0.0, 1.0, 2.0, 3.0, 4.0], 1), right);
    let other_seed = evaluate_order(&drawn, [0.0, 1.0, 2.0, 3.0, 4.0], 2);
    assert_close(other_seed.rate.value, right.rate.value, "RATE with another seed");
    assert_ne!(other_seed.rate.standard_error, right.rate.standard_error);
    let single_fold = vec![0; drawn.groups.len()];
    let (settings, mut rng) = (WorthSettings::default(), RandomStream::new(1, 1));
    let learned =
        evaluate_segmentation(&drawn.trial(), &single_fold, &settings, BY_EFFECT, &mut rng);
    assert_eq!(learned, None);
}

/// Merging the segments pairwise loses part of the worth. The difference of the two is known more
/// precisely than either of them, and its intervals contain the truth in about 95 % of 200 experiments.
#[test]
fn two_segmentations_of_one_experiment_are_compared() {
    let mut rng = RandomStream::new(24, 14);
    let settings =
        WorthSettings { half_samples: 60, random_groupings: 0, ..WorthSettings::default() };
    let merged = [(2, 3.0), (2, -1.0), (1, -2.0)].map(|(segments, effect_sum)| GroupScores {
        rows: segments * 1_000_000,
        score_sum: effect_sum * 1e6,
    });
    let truth = true_autoc() - rank_weighted_effect(&merged, RankWeighting::Autoc);
    let mut covered = 0;
    for _ in 0..200 {
        let drawn = DrawnTrial::draw(&mut rng, 1_000, 1.0);
        let coarse: Vec<usize> = drawn.groups.iter().map(|group| group.div_ceil(2)).collect();
        let trial = drawn.trial();
        let found =
            compare_segmentations(&trial, &coarse, &drawn.folds, &settings, &mut rng).unwrap();
        let [low, high] = found.interval();
        covered += usize::from(low <= truth && truth <= high);
    }
    assert_binomial(covered, 200, 0.95, "covered");
    let drawn = DrawnTrial::draw(&mut rng, 1_000, 1.0);
    let same =
        compare_segmentations(&drawn.trial(), &drawn.groups, &drawn.folds, &settings, &mut rng);
    assert_eq!(same.unwrap().value, 0.0);
    assert_eq!(same.unwrap().standard_error, 0.0);
    assert_eq!(
        compare_segmentations(&drawn.trial(), &[0], &drawn.folds, &settings, &mut rng),
        None
    );
}

#[test]
fn groups_without_a_priority_come_last() {
    let groups = [3.0, 1.0, 2.0].map(|score_sum| GroupScores { rows: 1, score_sum });
    let ordered = order_groups(&groups, &[1.0, 5.0]);
    assert_eq!(ordered, [groups[1], groups[0], groups[2]]);
    assert_eq!(order_groups(&groups, &[0.0, -0.0, 1.0]).len(), 2);
}

/// Ranks of hundreds, where harmonic numbers come from an expansion, equal the plain sum.
#[test]
fn the_rate_of_many_rows_equals_the_plain_sum() {
    let groups = [(60, 2.0), (3, 1.5), (1, 9.0), (200, -0.5), (7, -1.0)]
        .map(|(rows, mean)| GroupScores { rows, score_sum: rows as f64 * mean });
    let scores: Vec<f64> = groups
        .iter()
        .flat_map(|group| std::iter::repeat_n(group.mean().unwrap(), group.rows as usize))
        .collect();
    let overall_mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let (mut sum, mut area) = (0.0, 0.0);
    for (index, score) in scores.iter().enumerate() {
        sum += score;
        area += sum / (index + 1) as f64 - overall_mean;
    }
    let found = rank_weighted_effect(&groups, RankWeighting::Autoc);
    let expected = area / scores.len() as f64;
    assert!((found - expected).abs() < 1e-13, "{found} is not {expected}");
}

proptest! {
    /// Groups of equal priority count as one, and a constant effect has a RATE of 0.
    #[test]
    fn equal_priorities_are_one_group(
        sums in prop::collection::vec(-9.0..9.0_f64, 2..12),
        priorities in prop::collection::vec(0..3_i32, 12),
    ) {
        let groups: Vec<GroupScores> = sums
            .iter()
            .enumerate()
            .map(|(index, sum)| GroupScores { rows: index as u64 + 1, score_sum: *sum })
            .collect();
        let priorities: Vec<f64> =
            priorities[..groups.len()].iter().map(|one| f64::from(*one)).collect();
        let ordered = order_groups(&groups, &priorities);
        let mut distinct = priorities.clone();
        distinct.sort_by(f64::total_cmp);
        distinct.dedup();
        prop_assert_eq!(ordered.len(), distinct.len());
        let rows: u64 = ordered.iter().map(|group| group.rows).sum();
        prop_assert_eq!(rows, groups.iter().map(|group| group.rows).sum::<u64>());
        let constant: Vec<GroupScores> = groups
            .iter()
            .map(|group| GroupScores { score_sum: 3.0 * group.rows as f64, ..*group })
            .collect();
        for weighting in [RankWeighting::Autoc, RankWeighting::Qini] {
            prop_assert!(rank_weighted_effect(&constant, weighting).abs() < 1e-9);
        }
    }
}
