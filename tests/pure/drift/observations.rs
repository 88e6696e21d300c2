//! Sharded counters of scores: no count is lost or doubled while they are collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use segmentd::domain::drift::{Layout, MOST_KEYS, NO_KEY, OTHER_KEYS, ScoreSource, Window};
use segmentd::domain::feature::FeatureRow;
use segmentd::domain::model::Model;
use segmentd::service::scoring::observations::{BatchCounts, Counter, Observer, Taken};

use crate::drift::check::window_of;
use crate::model::support::{shop_features, shop_model, shoppers, spec, train};

const ALPHA: f64 = 0.05;

fn note(tally: &mut BatchCounts, counter: &Arc<Counter>, model: &Model, rows: &[FeatureRow]) {
    let mut scratch = model.scratch();
    for row in rows {
        let score = model.score(row, &mut scratch);
        tally.count_row(counter, row, &score, score.is_outlier(ALPHA));
    }
}

fn taken(model: &Model, key: &str, window: Window) -> Taken {
    Taken { model: model.id().clone(), source: ScoreSource::Rows, key: key.into(), window }
}

fn count(counter: &Arc<Counter>, model: &Model, rows: &[FeatureRow]) {
    let mut tally = BatchCounts::of(ScoreSource::Rows);
    note(&mut tally, counter, model, rows);
    tally.hand_over();
}

#[test]
fn counts_add_up_while_they_are_taken() {
    let model = shop_model().model;
    let rows = shoppers(600, 3);
    let observer = Observer::new(true);
    let counter = observer.counter(&model).unwrap();
    let is_over = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut taken = Layout::of(&model).empty();
            loop {
                let last = is_over.load(Ordering::Acquire);
                for Taken { model: of, source, key, window } in observer.take() {
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
    let mut expected = Layout::of(&model).empty();
    for _ in 0..4 {
        expected.merge(&window_of(&model, &rows, ALPHA)).unwrap();
    }
    assert_eq!(taken, expected);
}

#[test]
fn counts_that_are_not_published_are_discarded() {
    let model = shop_model().model;
    let observer = Observer::new(true);
    let counter = observer.counter(&model).unwrap();
    let mut tally = BatchCounts::of(ScoreSource::Rows);
    note(&mut tally, &counter, &model, &shoppers(20, 3));
    drop(tally);
    assert_eq!(observer.take(), []);
    assert!(Observer::new(false).counter(&model).is_none());
}

#[test]
fn two_models_are_counted_separately_and_late_scores_are_kept() {
    let first = shop_model().model;
    let second = train(spec(2), &shop_features(), &shoppers(500, 2)).unwrap().model;
    let rows = shoppers(90, 3);
    let observer = Observer::new(true);
    let (old, new) = (observer.counter(&first).unwrap(), observer.counter(&second).unwrap());
    let [mut tally, mut joined, mut also] = [(); 3].map(|()| BatchCounts::of(ScoreSource::Rows));
    note(&mut tally, &old, &first, &rows[..30]);
    note(&mut joined, &new, &second, &rows[50..70]);
    note(&mut joined, &old, &first, &rows[30..50]);
    note(&mut also, &new, &second, &rows[70..]);
    tally.join(joined);
    tally.join(also);
    tally.hand_over();
    // The first model no longer serves.
    drop(old);
    let expected = [
        taken(&first, NO_KEY, window_of(&first, &rows[..50], ALPHA)),
        taken(&second, NO_KEY, window_of(&second, &rows[50..], ALPHA)),
    ];
    assert_eq!(observer.take(), expected);
    // A counter that is used again starts from zero.
    count(&observer.counter(&first).unwrap(), &first, &rows);
    let expected = taken(&first, NO_KEY, window_of(&first, &rows, ALPHA));
    assert_eq!(observer.take(), [expected]);
}

#[test]
fn keys_are_counted_separately_up_to_the_limit_and_together_beyond() {
    let model = shop_model().model;
    let rows = shoppers(3, 3);
    let observer = Observer::new(true);
    let counter = observer.counter(&model).unwrap();
    let hand_over = |key: &str| {
        let mut tally = BatchCounts::of(ScoreSource::Rows);
        note(&mut tally, &counter, &model, &rows);
        tally.hand_over_for(key);
    };
    let keys: Vec<String> = (0..MOST_KEYS + 9).map(|key| format!("key{key}")).collect();
    for _ in 0..2 {
        for key in &keys {
            hand_over(key);
        }
    }
    let counted = observer.take();
    assert_eq!(counted.len(), MOST_KEYS);
    let mut twice = window_of(&model, &rows, ALPHA);
    twice.merge(&twice.clone()).unwrap();
    for (counted, key) in counted.iter().zip(&keys).take(MOST_KEYS - 1) {
        assert_eq!(*counted, taken(&model, key, twice.clone()));
    }
    let rest = &counted[MOST_KEYS - 1];
    assert_eq!((&*rest.key, rest.window.counts.last()), (OTHER_KEYS, Some(&(10 * 2 * 3))));
    // Full keys are evicted for others, and no count is lost meanwhile.
    hand_over("late");
    let late = observer.take();
    assert_eq!(late, [taken(&model, "late", window_of(&model, &rows, ALPHA))]);
    assert_eq!(observer.take(), []);
}

#[test]
fn no_count_is_lost_while_keys_are_evicted() {
    let model = shop_model().model;
    let rows = shoppers(2, 3);
    let observer = Observer::new(true);
    let counter = observer.counter(&model).unwrap();
    let is_over = AtomicBool::new(false);
    let sum = |observer: &Observer| -> u64 {
        observer.take().iter().filter_map(|one| one.window.counts.last()).sum()
    };
    let (threads, each) = (3, 400);
    let taken = thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut taken = 0;
            while !is_over.load(Ordering::Acquire) {
                taken += sum(&observer);
            }
            taken + sum(&observer) + sum(&observer)
        });
        let counting: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    for key in 0..each {
                        let mut tally = BatchCounts::of(ScoreSource::Rows);
                        note(&mut tally, &counter, &model, &rows);
                        tally.hand_over_for(&format!("key{key}"));
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
