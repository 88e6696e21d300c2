//! What each model that answers has met, counted where it answers.
//!
//! A unit of work, a request or a commit, counts its rows in a [`Tally`] of its
//! own and hands that over once its answers are given: so a commit that is tried
//! again counts once, and a canary's row is not counted for the model that it
//! answered in the place of. Counters stand in several copies, so that threads do
//! not wait for each other; nothing locks. A flush takes every count in exchange
//! for 0: what is handed over meanwhile is in that flush or in the next, never in
//! both.
//!
//! Rows that were sent to be scored are counted for each API key apart, so that a
//! decision can leave any one key out ([`crate::domain::drift::influence`]). The keys
//! counted apart are bounded; the keys beyond share one count.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;

use arc_swap::ArcSwap;

use crate::domain::drift::{Layout, MOST_KEYS, NO_KEY, OTHER_KEYS, Source, Window};
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
    sources: [KeyCounts; Source::ANSWERED.len()],
}

/// What was counted of one model and source since the last time, for one API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub model: ModelId,
    pub source: Source,
    /// [`NO_KEY`] where the source is not counted by key.
    pub key: Box<str>,
    pub window: Window,
}

/// Counts by API key, without a lock and, once a key is known, without allocation.
#[derive(Debug)]
struct KeyCounts {
    width: usize,
    slots: ArcSwap<Slots>,
    /// Replaced sets of slots with counts that may not have been taken yet. Locked only
    /// when counts are taken.
    retired: Mutex<Vec<Arc<Slots>>>,
}

/// The keys in the order of their first row; [`OTHER_KEYS`] has the last slot.
type Slots = [OnceLock<Slot>; MOST_KEYS];

#[derive(Debug)]
struct Slot {
    key: Box<str>,
    copies: Copies,
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
    pub fn take(&self) -> Vec<Taken> {
        let mut counters = self.counters();
        // Told before the counts are taken: what nobody else holds can only be
        // added to by those who ask for it first, and they wait for the lock. (Unlike
        // `strong_count`, `get_mut` makes sure that what was added by then is seen.)
        let is_held: Vec<bool> =
            counters.iter_mut().map(|one| Arc::get_mut(one).is_none()).collect();
        let taken = counters.iter().flat_map(|counter| counter.take()).collect();
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
        let sources = Source::ANSWERED.map(|_| KeyCounts::new(layout.width()));
        Self { model: model.id().clone(), layout, sources }
    }

    fn add(&self, source: Source, key: &str, counts: &[u32]) {
        // Customers who are drawn are counted elsewhere, once for all replicas.
        if let Some(by_key) = self.sources.get(source as usize) {
            by_key.add(key, counts);
        }
    }

    fn take(&self) -> Vec<Taken> {
        let mut taken = Vec::new();
        for (source, by_key) in Source::ANSWERED.into_iter().zip(&self.sources) {
            for (key, window) in by_key.take() {
                taken.push(Taken { model: self.model.clone(), source, key, window });
            }
        }
        taken
    }
}

impl KeyCounts {
    fn new(width: usize) -> Self {
        let slots = ArcSwap::from_pointee(empty_slots());
        Self { width, slots, retired: Mutex::default() }
    }

    fn add(&self, key: &str, counts: &[u32]) {
        let slots = self.slots.load();
        for (place, slot) in slots.iter().enumerate() {
            let is_last = place + 1 == slots.len();
            let slot = slot.get_or_init(|| Slot {
                key: if is_last { OTHER_KEYS } else { key }.into(),
                copies: Copies::new(self.width),
            });
            if is_last || *slot.key == *key {
                slot.copies.add(counts);
                return;
            }
        }
    }

    /// The counts of each key, and zeros from now on. When every slot is in use, later
    /// counts go to a fresh set of slots: keys that were revoked or rest give theirs up.
    fn take(&self) -> Vec<(Box<str>, Window)> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.slots.load_full();
        let is_full = current.last().is_some_and(|slot| slot.get().is_some());
        let mut taken = Vec::new();
        drain(&current, &mut taken);
        // Told before the counts are taken, as in [`Observer::take`].
        let is_held: Vec<bool> =
            retired.iter_mut().map(|slots| Arc::get_mut(slots).is_none()).collect();
        retired.iter().for_each(|slots| drain(slots, &mut taken));
        let mut is_held = is_held.into_iter();
        retired.retain(|_| is_held.next().unwrap_or(true));
        if is_full {
            self.slots.store(Arc::new(empty_slots()));
            retired.push(current);
        }
        taken
    }
}

fn empty_slots() -> Slots {
    std::array::from_fn(|_| OnceLock::new())
}

fn drain(slots: &Slots, taken: &mut Vec<(Box<str>, Window)>) {
    for slot in slots.iter().filter_map(OnceLock::get) {
        let counts = slot.copies.take();
        if counts.iter().any(|count| *count > 0) {
            taken.push((slot.key.clone(), Window { counts }));
        }
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

    /// Makes the counts visible, for no key in particular.
    pub fn hand_over(self) {
        self.hand_over_for(NO_KEY);
    }

    /// Makes the counts visible, as those of the API key with the id `key`.
    pub fn hand_over_for(self, key: &str) {
        for part in self.parts.into_iter().flatten() {
            part.counter.add(self.source, key, &part.counts);
        }
    }
}

/// A number of this thread's own, to choose a copy by.
fn turn() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static TURN: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    TURN.with(|turn| *turn)
}
