//! Segment lineage: the assignment problem compared with `SciPy`, properties of matching,
//! chains of retrainings.

use std::collections::BTreeSet;

use proptest::prelude::*;
use segmentd::domain::feature::{FeatureRow, FeatureSet, FeatureValue};
use segmentd::domain::id::FeatureSetId;
use segmentd::domain::model::{
    MINIMUM_REPORTED_CUSTOMERS, MigrationMatrix, Model, NamedSegment, ScoringScratch,
    compare_models,
};
use segmentd::domain::train;
use segmentd::domain::train::TrainedModel;
use segmentd::domain::train::lineage::overlap::MemberOverlap;
use segmentd::domain::train::lineage::{self, LineageEvent, SegmentLineage, hungarian, overlap};

use crate::feature::support::{RETAIL, at, journey, state_of};
use crate::model::support::{
    AS_OF, Quiet, feature_set, shop_features, shop_model, shoppers, spec, train,
};

#[derive(serde::Deserialize)]
struct Problem {
    name: String,
    costs: Vec<Vec<i64>>,
    pairs: Vec<(usize, usize)>,
    total: i64,
}

#[test]
fn assignments_have_the_cost_that_scipy_finds() {
    let problems: Vec<Problem> =
        serde_json::from_str(include_str!("../../data/golden/assignment.json")).unwrap();
    assert_eq!(problems.len(), 20);
    for Problem { name, costs, pairs, total } in problems {
        let chosen = hungarian::least_cost_assignment(&costs);
        let found: Vec<(usize, usize)> = chosen
            .iter()
            .enumerate()
            .filter_map(|(row, column)| column.map(|column| (row, column)))
            .collect();
        assert_eq!(found.len(), costs.len().min(costs[0].len()), "{name}");
        let columns: BTreeSet<usize> = found.iter().map(|(_, column)| *column).collect();
        assert_eq!(columns.len(), found.len(), "{name}");
        assert_eq!(found.iter().map(|(r, c)| costs[*r][*c]).sum::<i64>(), total, "{name}");
        if name.starts_with("wide") {
            assert_eq!(found, pairs, "{name}");
        }
    }
    assert!(hungarian::least_cost_assignment(&[]).is_empty());
    assert_eq!(hungarian::least_cost_assignment(&[vec![], vec![]]), [None, None]);
}

/// Overlap counts with a margin for unassigned customers, and distances.
fn overlaps() -> impl Strategy<Value = MemberOverlap> {
    (1..5_usize, 1..5_usize).prop_flat_map(|(old, new)| {
        let count = prop_oneof![Just(0_u64), 0..40_u64];
        let members = prop::collection::vec(prop::collection::vec(count, new + 1), old + 1);
        let distances = prop::collection::vec(prop::collection::vec(0.1..9.0_f64, new), old);
        (members, distances).prop_map(|(members, distances)| MemberOverlap { members, distances })
    })
}

fn index(overlap: &MemberOverlap, old: usize, new: usize) -> f64 {
    let of_old: u64 = overlap.members[old].iter().sum();
    let of_new: u64 = overlap.members.iter().map(|of_old| of_old[new]).sum();
    let both = overlap.members[old][new];
    both as f64 / (of_old + of_new - both).max(1) as f64
}

/// All pairings by brute force: the largest sum of indices of at least a third, and the
/// number of pairings that reach it.
fn best(overlap: &MemberOverlap, new: usize, taken: &mut Vec<usize>) -> (f64, usize) {
    let (old_segments, new_segments) = (overlap.members.len() - 1, overlap.members[0].len() - 1);
    if new == new_segments {
        return (0.0, 1);
    }
    let mut found = best(overlap, new + 1, taken);
    for old in 0..old_segments {
        let index = index(overlap, old, new);
        if taken.contains(&old) || index < 1.0 / 3.0 {
            continue;
        }
        taken.push(old);
        let (rest, ways) = best(overlap, new + 1, taken);
        taken.pop();
        let sum = index + rest;
        if (sum - found.0).abs() < 1e-5 {
            found = (sum.max(found.0), found.1 + ways);
        } else if sum > found.0 {
            found = (sum, ways);
        }
    }
    found
}

proptest! {
    #[test]
    fn the_best_pairs_are_found_whatever_the_order(
        overlap in overlaps(),
        seed in any::<u64>(),
    ) {
        let kept = overlap::match_segments(&overlap);
        let pairs = kept.iter().enumerate().filter_map(|(new, old)| Some(((*old)?, new)));
        let sum: f64 = pairs.clone().map(|(old, new)| index(&overlap, old, new)).sum();
        let (greatest, ways) = best(&overlap, 0, &mut Vec::new());
        prop_assert!((sum - greatest).abs() < 1e-5, "{sum} of {greatest}");
        prop_assert!(pairs.clone().all(|(old, new)| 3.0 * index(&overlap, old, new) >= 1.0 - 1e-9));
        let old: BTreeSet<usize> = pairs.clone().map(|(old, _)| old).collect();
        prop_assert_eq!(old.len(), pairs.count());

        let mut order: Vec<usize> = (0..kept.len()).collect();
        segmentd::domain::stats::RandomStream::new(seed, 0).shuffle(&mut order);
        let shuffled = MemberOverlap {
            members: overlap.members.iter().map(|row| {
                order.iter().map(|new| row[*new]).chain(row.last().copied()).collect()
            }).collect(),
            distances: overlap.distances.iter().map(|row| {
                order.iter().map(|new| row[*new]).collect()
            }).collect(),
        };
        let again = overlap::match_segments(&shuffled);
        if ways == 1 {
            let expected: Vec<Option<usize>> = order.iter().map(|new| kept[*new]).collect();
            prop_assert_eq!(again, expected);
        }
    }

    /// No customer is lost, and shares have the right denominator.
    #[test]
    fn lines_and_counts_add_up(overlap in overlaps()) {
        let name = |side: &str, place: usize| NamedSegment {
            id: format!("seg_{side}{place}").into(), name: format!("{side}{place}").into(),
        };
        let kept = overlap::match_segments(&overlap);
        let old: Vec<_> = (0..overlap.members.len() - 1).map(|o| name("o", o)).collect();
        let new: Vec<_> = kept.iter().enumerate()
            .map(|(n, kept)| kept.map_or_else(|| name("n", n), |o| old[o].clone())).collect();
        let segment_lineage = SegmentLineage::from_overlap(None, &old, &new, &overlap);
        let count = |event| segment_lineage.lines.iter().filter(|line| line.event == event).count();
        prop_assert_eq!(count(LineageEvent::Kept) + count(LineageEvent::Born), new.len());
        prop_assert_eq!(count(LineageEvent::Kept) + count(LineageEvent::Died), old.len());
        for line in &segment_lineage.lines {
            for share in [line.share_of_old, line.share_of_new].into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&share));
            }
        }
        prop_assert!(segment_lineage.relabelled <= segment_lineage.rows);
        prop_assert!((0.0..=1.0).contains(&segment_lineage.matched_share));
    }
}

fn counted(members: &[&[u64]]) -> MemberOverlap {
    MemberOverlap {
        members: members.iter().map(|row| row.to_vec()).collect(),
        distances: vec![vec![1.0; members[0].len() - 1]; members.len() - 1],
    }
}

fn events(overlap: &MemberOverlap) -> Vec<LineageEvent> {
    let name = |side: &str, place: usize| NamedSegment {
        id: format!("seg_{side}{place}").into(),
        name: format!("{side}{place}").into(),
    };
    let old: Vec<_> = (0..overlap.members.len() - 1).map(|o| name("o", o)).collect();
    let new: Vec<_> = overlap::match_segments(overlap)
        .iter()
        .enumerate()
        .map(|(n, kept)| kept.map_or_else(|| name("n", n), |o| old[o].clone()))
        .collect();
    SegmentLineage::from_overlap(None, &old, &new, overlap)
        .lines
        .iter()
        .map(|line| line.event)
        .collect()
}

#[test]
fn splits_and_merges_are_reported() {
    use LineageEvent::{Born, Died, Kept, Merged, Moved, Split};
    // A split: the larger part continues.
    let halves = counted(&[&[60, 40, 0], &[0, 0, 0]]);
    assert_eq!(overlap::match_segments(&halves), [Some(0), None]);
    assert_eq!(events(&halves), [Kept, Born, Split, Split]);
    // A merge: the larger one continues.
    let both = counted(&[&[40, 0], &[60, 0], &[0, 0]]);
    assert_eq!(overlap::match_segments(&both), [Some(1)]);
    assert_eq!(events(&both), [Kept, Died, Merged, Merged]);
    // A split into five: none continues the segment.
    let fifths = counted(&[&[20, 20, 20, 20, 20, 0], &[0; 6]]);
    assert_eq!(
        events(&fifths),
        [Born, Born, Born, Born, Born, Died, Moved, Moved, Moved, Moved, Moved]
    );
    // A few customers move; the name does not follow them.
    let few = counted(&[&[10, 990, 0], &[0, 1010, 0], &[0, 0, 0]]);
    assert_eq!(overlap::match_segments(&few), [None, Some(1)]);
    // Of equal overlaps, the nearer segment.
    let mut tie = counted(&[&[50, 50, 0], &[0, 0, 0]]);
    tie.distances = vec![vec![2.0, 1.0]];
    assert_eq!(overlap::match_segments(&tie), [None, Some(0)]);
}

fn succeed(trained: TrainedModel, rows: &[FeatureRow], before: &Model) -> TrainedModel {
    lineage::inherit_segment_ids(trained, rows, Some(before)).unwrap()
}

fn ids(model: &Model) -> Vec<&str> {
    model.segments().iter().map(|segment| &*segment.id).collect()
}

#[test]
fn the_same_data_again_relabels_no_customer() {
    let first = shop_model();
    let rows = shoppers(2000, 1);
    let again = succeed(shop_model(), &rows, &first.model);
    let segment_lineage = again.report.lineage.as_ref().unwrap();
    assert_eq!(
        (segment_lineage.rows, segment_lineage.relabelled, segment_lineage.matched_share),
        (2000, 0, 1.0)
    );
    assert!(segment_lineage.lines.iter().all(|line| line.event == LineageEvent::Kept));
    assert_eq!(ids(&again.model), ids(&first.model));
    assert_eq!(again.model.provenance().predecessor.as_ref(), Some(first.model.id()));
    // Another seed holds out others, so that the encoder and some borders shift: 2.2 %.
    let other =
        train(train::TrainingSpec { seed: 99, ..spec(4) }, &shop_features(), &rows).unwrap();
    let other = succeed(other, &rows, &first.model);
    let segment_lineage = other.report.lineage.as_ref().unwrap();
    assert!(
        segment_lineage.relabelled_share < 0.04,
        "{segment_lineage:?} {:?}",
        other.report.sizes
    );
    // The same predecessor, the same bytes, on any number of threads.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let bytes = pool.install(|| succeed(shop_model(), &rows, &first.model).bytes);
    assert_eq!(bytes, again.bytes);
    assert!(compare_models(&first.model, &again.model).segments.added.is_empty());
}

#[test]
fn ids_are_never_used_twice() {
    let rows = shoppers(1500, 3);
    let make = |segments: usize| train(spec(segments), &shop_features(), &rows).unwrap();
    let mut before = make(2).model;
    let mut gone: BTreeSet<String> = BTreeSet::new();
    let mut born = 0;
    for segments in [5, 2, 6, 3, 1, 7, 4] {
        let owned = |model: &Model| -> BTreeSet<String> {
            ids(model).into_iter().map(str::to_owned).collect()
        };
        let old = owned(&before);
        let next = succeed(make(segments), &rows, &before);
        for id in ids(&next.model) {
            assert!(!gone.contains(id), "{id} came back");
            born += usize::from(!old.contains(id));
        }
        gone.extend(old.difference(&owned(&next.model)).cloned());
        assert!(!next.model.segments().iter().any(|s| s.name.is_empty()));
        before = next.model;
    }
    assert!(born > 8, "{born}");
}

#[test]
fn other_features_are_matched_by_name_or_not_at_all() {
    let rows = shoppers(2000, 1);
    let first = shop_model().model;
    // One more feature, and another order.
    let mut features = shop_features();
    features.reverse();
    let turned: Vec<FeatureRow> =
        rows.iter().map(|row| FeatureRow(row.0.iter().rev().cloned().collect())).collect();
    let other = FeatureSetId::of(b"the same in another order");
    let again = |defs: &[_], rows: &[_]| {
        let data = train::TrainingData { feature_set: &other, defs, rows, as_of: AS_OF };
        train::train_model(&spec(4).check().unwrap(), &data, &Quiet).unwrap()
    };
    let next = succeed(again(&features, &turned), &turned, &first);
    let segment_lineage = next.report.lineage.as_ref().unwrap();
    assert!(
        segment_lineage.comparable && segment_lineage.relabelled_share < 0.05,
        "{segment_lineage:?}"
    );
    let found = compare_models(&first, &next.model);
    assert!(!found.features.same_set && found.features.added.is_empty());
    assert_eq!(found.segments.same.len(), 4);

    // Without a feature that the predecessor reads, no segment continues.
    let gone = &features[1..];
    assert_eq!(&*features[0].name, "income");
    let fewer: Vec<FeatureRow> = turned.iter().map(|row| FeatureRow(row.0[1..].to_vec())).collect();
    let next = succeed(again(gone, &fewer), &fewer, &first);
    assert!(next.report.lineage.unwrap().comparable, "`income` is read by nobody");
    let fewer: Vec<FeatureRow> =
        fewer.iter().map(|row| FeatureRow(row.0[..row.0.len() - 1].to_vec())).collect();
    let gone = &gone[..gone.len() - 1];
    let next = succeed(again(gone, &fewer), &fewer, &first);
    let segment_lineage = next.report.lineage.unwrap();
    assert!(!segment_lineage.comparable);
    let died = segment_lineage.lines.iter().filter(|line| line.event == LineageEvent::Died).count();
    let born = segment_lineage.lines.iter().filter(|line| line.event == LineageEvent::Born).count();
    assert_eq!((died, born), (4, 4));
    let gone = compare_models(&first, &next.model).features.gone;
    assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), ["spend", "income"]);
}

/// The households of the demo, trained at the end of each month on the data of that time:
/// no segment is born, and 2.1, 3.7, 1.3, 4.6 and 5.2 % of the customers move.
#[test]
fn real_months_keep_their_segments() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let households = journey();
    let month = |month: u32| {
        let now = at(&format!("2017-{month:02}-01T00:00:00Z"));
        let rows: Vec<FeatureRow> = households
            .values()
            .map(|events| {
                let known = events.iter().filter(|event| event.timestamp <= now);
                state_of(&set, known).feature_row(&set, now)
            })
            .filter(|row| row.0.iter().any(|value| matches!(value, FeatureValue::Number(_))))
            .collect();
        let spec = spec(5).check().unwrap();
        let (feature_set, defs) = (set.id(), set.features());
        let data = train::TrainingData { feature_set, defs, rows: &rows, as_of: now };
        let trained = train::train_model(&spec, &data, &Quiet).unwrap();
        (trained, rows)
    };
    let (first, _) = month(7);
    let mut before = first.model;
    for number in 8..=12 {
        let (trained, rows) = month(number);
        let next = succeed(trained, &rows, &before);
        let segment_lineage = next.report.lineage.as_ref().unwrap();
        let count = |event| segment_lineage.lines.iter().filter(|line| line.event == event).count();
        assert_eq!(count(LineageEvent::Kept), 5, "{segment_lineage:?}");
        assert_eq!(segment_lineage.matched_share, 1.0);
        assert!(
            segment_lineage.relabelled > 0 && segment_lineage.relabelled_share < 0.08,
            "{segment_lineage:?}"
        );
        assert!(segment_lineage.comparable && segment_lineage.rows == rows.len() as u64);
        // Customers that are in a segment with another id now, counted independently.
        let (mut old, mut new) = (ScoringScratch::default(), ScoringScratch::default());
        let moved = rows.iter().filter(|row| {
            let was = before.score(row, &mut old).segment().map(|s| &before.segments()[s].id);
            let is = next.model.score(row, &mut new).segment();
            was != is.map(|s| &next.model.segments()[s].id)
        });
        assert_eq!(moved.count() as u64, segment_lineage.relabelled);
        before = next.model;
    }
}

#[test]
fn small_flows_are_aggregated() {
    let model = shop_model().model;
    let mut counts = MigrationMatrix::new(model.named_segments(), model.named_segments());
    (0..90).for_each(|_| counts.add(Some(0), Some(0)));
    (0..7).for_each(|_| counts.add(Some(0), Some(1)));
    (0..MINIMUM_REPORTED_CUSTOMERS - 1).for_each(|_| counts.add(Some(2), Some(1)));
    counts.add(None, Some(3));
    (0..6).for_each(|_| counts.add(None, None));
    let segment_lineage = counts.summarize();
    assert_eq!(
        (segment_lineage.customers, segment_lineage.stay, segment_lineage.move_away),
        (108, 96, 12)
    );
    assert_eq!((segment_lineage.small_flows, segment_lineage.in_small_flows), (2, 5));
    let flows: Vec<(u64, bool)> =
        segment_lineage.flows.iter().map(|f| (f.customers, f.stays)).collect();
    assert_eq!(flows, [(90, true), (7, false), (6, true)]);
    assert_eq!(segment_lineage.flows[1].share_of_from, 7.0 / 97.0);
    assert_eq!(&*segment_lineage.flows[2].from.id, "unassigned");
    assert_eq!(counts.summarize().moved_share, 12.0 / 108.0);
    assert_eq!(model.feature_set(), &feature_set());
}
