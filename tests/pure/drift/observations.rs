//! Sharded counters of scores: no count is lost or doubled while they are collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use segmentd::domain::drift::{
    CountedRow, DriftWindow, MAX_COUNTED_KEYS, NO_KEY, OTHER_KEYS, ScoreSource, WindowLayout,
};
use segmentd::domain::feature::FeatureRow;
use segmentd::domain::model::Model;
use segmentd::domain::time::Timestamp;
use segmentd::service::scoring::observations::{
    BatchCounts, CollectedCounts, DriftCounters, ModelCounter,
};

use crate::drift::check::window_of;
use crate::model::support::{shop_features, shop_model, shoppers, spec, train};

const ALPHA: f64 = 0.05;
const DEPLOYED_AT: Timestamp = Timestamp::from_millis(1_000);

fn note(tally: &mut BatchCounts, counter: &Arc<ModelCounter>, model: &Model, rows: &[FeatureRow]) {
    let mut scratch = model.scratch();
    for row in rows {
        let score = model.score(row, &mut scratch);
        tally.count_row(counter, &CountedRow::new(row, &score, score.is_outlier(ALPHA)));
    }
}

fn taken(model: &Model, key: &str, window: DriftWindow) -> CollectedCounts {
    CollectedCounts {
        model: model.id().clone(),
        deployed_at: DEPLOYED_AT,
        source: ScoreSource::Rows,
        key_id: key.into(),
        window,
    }
}

fn count(counter: &Arc<ModelCounter>, model: &Model, rows: &[FeatureRow]) {
    let mut tally = BatchCounts::new(ScoreSource::Rows);
    note(&mut tally, counter, model, rows);
    tally.publish();
}

#[test]
fn counts_add_up_while_they_are_taken() {
    let model = shop_model().model;
    let rows = shoppers(600, 3);
    let drift_counters = DriftCounters::new(true);
    let counter = drift_counters.counter_for(&model, DEPLOYED_AT).unwrap();
    let is_over = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut taken = WindowLayout::of(&model).empty();
            loop {
                let last = is_over.load(Ordering::Acquire);
                for CollectedCounts { model: of, source, key_id: key, window, .. } in
                    drift_counters.collect()
                {
                    assert_eq!(
                        (of, source, &*key),
                        (model.id().clone(), ScoreSource::Rows, NO_KEY)
                    );
                    taken.merge(&window).unwrap();
                }
                if last {
                    return taken;
                }
            }
        });
        let counting: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for some in rows.chunks(7) {
                        count(&counter, &model, some);
                    }
                })
            })
            .collect();
        for thread in counting {
            thread.join().unwrap();
        }
        is_over.store(true, Ordering::Release);
        taker.join().unwrap()
    });
    let mut expected = WindowLayout::of(&model).empty();
    for _ in 0..4 {
        expected.merge(&window_of(&model, &rows, ALPHA)).unwrap();
    }
    assert_eq!(taken, expected);
}

#[test]
fn counts_that_are_not_published_are_discarded() {
    let model = shop_model().model;
    let drift_counters = DriftCounters::new(true);
    let counter = drift_counters.counter_for(&model, DEPLOYED_AT).unwrap();
    let mut tally = BatchCounts::new(ScoreSource::Rows);
    note(&mut tally, &counter, &model, &shoppers(20, 3));
    drop(tally);
    assert_eq!(drift_counters.collect(), []);
    assert!(DriftCounters::new(false).counter_for(&model, DEPLOYED_AT).is_none());
}

#[test]
fn two_models_are_counted_separately_and_late_scores_are_kept() {
    let first = shop_model().model;
    let second = train(spec(2), &shop_features(), &shoppers(500, 2)).unwrap().model;
    let rows = shoppers(90, 3);
    let drift_counters = DriftCounters::new(true);
    let (old, new) = (
        drift_counters.counter_for(&first, DEPLOYED_AT).unwrap(),
        drift_counters.counter_for(&second, DEPLOYED_AT).unwrap(),
    );
    let [mut tally, mut joined, mut also] = [(); 3].map(|()| BatchCounts::new(ScoreSource::Rows));
    note(&mut tally, &old, &first, &rows[..30]);
    note(&mut joined, &new, &second, &rows[50..70]);
    note(&mut joined, &old, &first, &rows[30..50]);
    note(&mut also, &new, &second, &rows[70..]);
    tally.add_counts(joined);
    tally.add_counts(also);
    tally.publish();
    // The first model no longer serves.
    drop(old);
    let expected = [
        taken(&first, NO_KEY, window_of(&first, &rows[..50], ALPHA)),
        taken(&second, NO_KEY, window_of(&second, &rows[50..], ALPHA)),
    ];
    assert_eq!(drift_counters.collect(), expected);
    // A counter that is used again starts from zero.
    count(&drift_counters.counter_for(&first, DEPLOYED_AT).unwrap(), &first, &rows);
    let expected = taken(&first, NO_KEY, window_of(&first, &rows, ALPHA));
    assert_eq!(drift_counters.collect(), [expected]);
}

#[test]
fn deployments_of_one_model_are_counted_apart() {
    let model = shop_model().model;
    let rows = shoppers(50, 3);
    let drift_counters = DriftCounters::new(true);
    let again = Timestamp::from_millis(2_000);
    let first = drift_counters.counter_for(&model, DEPLOYED_AT).unwrap();
    let second = drift_counters.counter_for(&model, again).unwrap();
    count(&second, &model, &rows[..20]);
    // Answered by the earlier deployment, counted after the promotion.
    count(&first, &model, &rows[20..]);
    let expected = [
        taken(&model, NO_KEY, window_of(&model, &rows[20..], ALPHA)),
        CollectedCounts {
            deployed_at: again,
            ..taken(&model, NO_KEY, window_of(&model, &rows[..20], ALPHA))
        },
    ];
    assert_eq!(drift_counters.collect(), expected);
}

#[test]
fn keys_are_counted_separately_up_to_the_limit_and_together_beyond() {
    let model = shop_model().model;
    let rows = shoppers(3, 3);
    let drift_counters = DriftCounters::new(true);
    let counter = drift_counters.counter_for(&model, DEPLOYED_AT).unwrap();
    let hand_over = |key: &str| {
        let mut tally = BatchCounts::new(ScoreSource::Rows);
        note(&mut tally, &counter, &model, &rows);
        tally.publish_for_key(key);
    };
    let keys: Vec<String> = (0..MAX_COUNTED_KEYS + 9).map(|key| format!("key{key}")).collect();
    for _ in 0..2 {
        for key in &keys {
            hand_over(key);
        }
    }
    let counted = drift_counters.collect();
    assert_eq!(counted.len(), MAX_COUNTED_KEYS);
    let mut twice = window_of(&model, &rows, ALPHA);
    twice.merge(&twice.clone()).unwrap();
    for (counted, key) in counted.iter().zip(&keys).take(MAX_COUNTED_KEYS - 1) {
        assert_eq!(*counted, taken(&model, key, twice.clone()));
    }
    let rest = &counted[MAX_COUNTED_KEYS - 1];
    assert_eq!((&*rest.key_id, rest.window.counts.last()), (OTHER_KEYS, Some(&(10 * 2 * 3))));
    // Full keys are evicted for others, and no count is lost meanwhile.
    hand_over("late");
    let late = drift_counters.collect();
    assert_eq!(late, [taken(&model, "late", window_of(&model, &rows, ALPHA))]);
    assert_eq!(drift_counters.collect(), []);
}

#[test]
fn no_count_is_lost_while_keys_are_evicted() {
    let model = shop_model().model;
    let rows = shoppers(2, 3);
    let drift_counters = DriftCounters::new(true);
    let counter = drift_counters.counter_for(&model, DEPLOYED_AT).unwrap();
    let is_over = AtomicBool::new(false);
    let sum = |drift_counters: &DriftCounters| -> u64 {
        drift_counters.collect().iter().filter_map(|one| one.window.counts.last()).sum()
    };
    let (threads, each) = (3, 400);
    let taken = thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut taken = 0;
            while !is_over.load(Ordering::Acquire) {
                taken += sum(&drift_counters);
            }
            taken + sum(&drift_counters) + sum(&drift_counters)
        });
        let counting: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    for key in 0..each {
                        let mut tally = BatchCounts::new(ScoreSource::Rows);
                        note(&mut tally, &counter, &model, &rows);
                        tally.publish_for_key(&format!("key{key}"));
                    }
                })
            })
            .collect();
        for thread in counting {
            thread.join().unwrap();
        }
        is_over.store(true, Ordering::Release);
        taker.join().unwrap()
    });
    assert_eq!(taken, threads * each * rows.len() as u64);
}
