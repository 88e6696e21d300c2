//! What each model that answers has met, counted where it answers.
//!
//! A unit of work, a request or a commit, counts its rows in a [`Tally`] of its
//! own and hands that over once its answers are given: so a commit that is tried
//! again counts once, and a canary's row is not counted for the model that it
//! answered in the place of. Counters stand in several copies, so that threads do
//! not wait for each other; nothing locks. A flush takes every count in exchange
//! for 0: what is handed over meanwhile is in that flush or in the next, never in
//! both.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use crate::domain::drift::{Layout, Source, Window};
use crate::domain::feature::FeatureRow;
use crate::domain::id::ModelId;
use crate::domain::model::{Model, Score};

/// Beyond as many copies taking them costs more than they spare.
const MOST_COPIES: usize = 16;

/// The counters of this process.
#[derive(Debug)]
pub struct Observer {
    enabled: bool,
    /// Of the models that answer now, and of those whose last answers are not taken
    /// yet. Locked when a lineup changes and when counts are taken, never to count.
    counters: Mutex<Vec<Arc<Counter>>>,
}

/// The counts of one model.
#[derive(Debug)]
pub struct Counter {
    model: ModelId,
    layout: Layout,
    sources: [Copies; Source::ANSWERED.len()],
}

/// The same counts several times: their sum counts.
#[derive(Debug)]
struct Copies {
    copies: Vec<Box<[AtomicU64]>>,
}

/// What a unit of work has counted so far; dropped, it never was. No more than two
/// models answer at one time.
#[must_use = "only what is handed over counts"]
#[derive(Debug)]
pub struct Tally {
    source: Source,
    parts: [Option<Part>; 2],
}

#[derive(Debug)]
struct Part {
    counter: Arc<Counter>,
    counts: Vec<u32>,
}

impl Observer {
    /// One that is not `enabled` counts nothing.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, counters: Mutex::default() }
    }

    /// Where this model counts; `None`: it does not.
    pub fn counter(&self, model: &Model) -> Option<Arc<Counter>> {
        if !self.enabled {
            return None;
        }
        let mut counters = self.counters();
        if let Some(known) = counters.iter().find(|known| known.model == *model.id()) {
            return Some(Arc::clone(known));
        }
        let counter = Arc::new(Counter::new(model));
        counters.push(Arc::clone(&counter));
        Some(counter)
    }

    /// Everything counted since the last time.
    pub fn take(&self) -> Vec<((ModelId, Source), Window)> {
        let mut counters = self.counters();
        // Told before the counts are taken: what nobody else holds can only be
        // added to by those who ask for it first, and they wait for the lock. (Unlike
        // `strong_count`, `get_mut` makes sure that what was added by then is seen.)
        let is_held: Vec<bool> =
            counters.iter_mut().map(|one| Arc::get_mut(one).is_none()).collect();
        let taken = counters.iter().flat_map(|counter| counter.take());
        let taken = taken.filter(|(_, window)| window.counts.iter().any(|count| *count > 0));
        let taken = taken.collect();
        let mut is_held = is_held.into_iter();
        counters.retain(|_| is_held.next().unwrap_or(true));
        taken
    }

    fn counters(&self) -> MutexGuard<'_, Vec<Arc<Counter>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    fn new(model: &Model) -> Self {
        let layout = Layout::of(model);
        let sources = Source::ANSWERED.map(|_| Copies::new(layout.width()));
        Self { model: model.id().clone(), layout, sources }
    }

    fn add(&self, source: Source, counts: &[u32]) {
        // Customers who are drawn are counted elsewhere, once for all replicas.
        if let Some(copies) = self.sources.get(source as usize) {
            copies.add(counts);
        }
    }

    fn take(&self) -> impl Iterator<Item = ((ModelId, Source), Window)> {
        Source::ANSWERED.into_iter().zip(&self.sources).map(|(source, copies)| {
            let counts = copies.take();
            ((self.model.clone(), source), Window { counts })
        })
    }
}

impl Copies {
    fn new(width: usize) -> Self {
        let copies = available_parallelism().map_or(1, usize::from).min(MOST_COPIES);
        let copy = |_| (0..width).map(|_| AtomicU64::new(0)).collect();
        Self { copies: (0..copies).map(copy).collect() }
    }

    fn add(&self, counts: &[u32]) {
        let copy = &self.copies[turn() % self.copies.len()];
        for (total, count) in copy.iter().zip(counts) {
            if *count > 0 {
                total.fetch_add(u64::from(*count), Ordering::Relaxed);
            }
        }
    }

    fn take(&self) -> Vec<u64> {
        let width = self.copies.first().map_or(0, |copy| copy.len());
        let taken = |place: usize| {
            self.copies.iter().map(|copy| copy[place].swap(0, Ordering::Relaxed)).sum()
        };
        (0..width).map(taken).collect()
    }
}

impl Tally {
    pub fn of(source: Source) -> Self {
        Self { source, parts: [None, None] }
    }

    /// Counts what the model of `counter` said of `row`.
    pub fn note(&mut self, counter: &Arc<Counter>, row: &FeatureRow, score: &Score, outlier: bool) {
        let Some(part) = self.place(counter) else { return };
        let part = part.get_or_insert_with(|| {
            let counts = vec![0; counter.layout.width()];
            Part { counter: Arc::clone(counter), counts }
        });
        counter.layout.places(row, score, outlier, |place| part.counts[place] += 1);
    }

    /// Where this counter's part is, or is to be.
    fn place(&mut self, counter: &Arc<Counter>) -> Option<&mut Option<Part>> {
        let is_its = |part: &&mut Option<Part>| {
            part.as_ref().is_none_or(|part| Arc::ptr_eq(&part.counter, counter))
        };
        self.parts.iter_mut().find(is_its)
    }

    /// Counts what `other` has counted, of the same source.
    pub fn join(&mut self, other: Self) {
        for part in other.parts.into_iter().flatten() {
            match self.place(&part.counter) {
                Some(Some(known)) => {
                    for (total, count) in known.counts.iter_mut().zip(&part.counts) {
                        *total += count;
                    }
                }
                Some(free) => *free = Some(part),
                None => {}
            }
        }
    }

    /// What was counted counts from now on.
    pub fn hand_over(self) {
        for part in self.parts.into_iter().flatten() {
            part.counter.add(self.source, &part.counts);
        }
    }
}

/// A number of this thread's own, to choose a copy by.
fn turn() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static TURN: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    TURN.with(|turn| *turn)
}
