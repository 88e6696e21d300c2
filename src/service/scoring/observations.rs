//! Drift counters: sharded counts of the feature rows and scores of each serving model.
//!
//! A unit of work (a request or a commit) counts its rows in its own [`BatchCounts`] and
//! publishes it once its answers are given. So a commit that is retried counts once, and
//! a row scored by the canary is not counted for the active model. Counters exist in
//! several stripes, so that threads do not contend; counting takes no lock. A flush swaps
//! every count with 0: a count that is published meanwhile is in this flush or in the
//! next, never in both.
//!
//! Rows that were sent to be scored are counted per API key, so that a decision can leave
//! out any one key ([`crate::domain::drift::influence`]). The number of keys is bounded;
//! further keys share one count.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;

use arc_swap::ArcSwap;

use crate::domain::drift::{
    CountedRow, DriftWindow, MAX_COUNTED_KEYS, NO_KEY, OTHER_KEYS, ScoreSource, WindowLayout,
};
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::time::Timestamp;

/// With more stripes, collecting them costs more than the contention they avoid.
const MAX_STRIPES: usize = 16;

/// All drift counters of this process.
#[derive(Debug)]
pub struct DriftCounters {
    is_enabled: bool,
    /// Counters of serving models, and of former ones with counts not collected yet.
    /// Locked when a deployment changes and when counts are collected, never to count.
    counters: Mutex<Vec<Arc<ModelCounter>>>,
}

/// The counts of one model in one deployment.
#[derive(Debug)]
pub struct ModelCounter {
    model: ModelId,
    /// Start of the deployment. What the model answered in an earlier one is counted apart, so
    /// that a model on probation is judged by its answers since its promotion.
    deployed_at: Timestamp,
    layout: WindowLayout,
    sources: [KeyCounts; ScoreSource::ANSWERED.len()],
}

/// Counts of one model, deployment, source and API key since the last collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedCounts {
    pub model: ModelId,
    pub deployed_at: Timestamp,
    pub source: ScoreSource,
    /// [`NO_KEY`] if the source is not counted per key.
    pub key_id: Box<str>,
    pub window: DriftWindow,
}

/// Counts per API key: lock-free, and without allocation once a key is known.
#[derive(Debug)]
struct KeyCounts {
    width: usize,
    slots: ArcSwap<KeySlots>,
    /// Replaced slot sets with counts that may not be collected yet. Locked only to
    /// collect.
    retired: Mutex<Vec<Arc<KeySlots>>>,
}

/// Slots in the order of each key's first row; the last slot counts [`OTHER_KEYS`].
type KeySlots = [OnceLock<KeySlot>; MAX_COUNTED_KEYS];

#[derive(Debug)]
struct KeySlot {
    key: Box<str>,
    stripes: CounterStripes,
}

/// Stripes of the same counters; their sum is the count.
#[derive(Debug)]
struct CounterStripes {
    stripes: Vec<Box<[AtomicU64]>>,
}

/// Counts of one unit of work. Dropping it discards them. At most two models (active and
/// canary) serve at one time.
#[must_use = "only what is handed over counts"]
#[derive(Debug)]
pub struct BatchCounts {
    source: ScoreSource,
    parts: [Option<TallyPart>; 2],
}

#[derive(Debug)]
struct TallyPart {
    counter: Arc<ModelCounter>,
    counts: Vec<u32>,
}

impl DriftCounters {
    /// Creates the counters; without `enabled` nothing is counted.
    pub fn new(is_enabled: bool) -> Self {
        Self { is_enabled, counters: Mutex::default() }
    }

    /// The counter of this model in the deployment of this instant; `None` if counting is
    /// disabled.
    pub fn counter_for(&self, model: &Model, deployed_at: Timestamp) -> Option<Arc<ModelCounter>> {
        if !self.is_enabled {
            return None;
        }
        let mut counters = self.counters();
        let known = counters
            .iter()
            .find(|known| known.model == *model.id() && known.deployed_at == deployed_at);
        if let Some(known) = known {
            return Some(Arc::clone(known));
        }
        let counter = Arc::new(ModelCounter::new(model, deployed_at));
        counters.push(Arc::clone(&counter));
        Some(counter)
    }

    /// Collects everything counted since the last call.
    pub fn collect(&self) -> Vec<CollectedCounts> {
        let mut counters = self.counters();
        // Checked before the counts are collected. A counter without other owners can
        // gain counts only through `counter()`, which waits for the lock. (`get_mut`,
        // unlike `strong_count`, synchronises with earlier owners, so their counts are
        // visible here.)
        let has_owners: Vec<bool> =
            counters.iter_mut().map(|one| Arc::get_mut(one).is_none()).collect();
        let taken = counters.iter().flat_map(|counter| counter.take()).collect();
        let mut has_owners = has_owners.into_iter();
        counters.retain(|_| has_owners.next().unwrap_or(true));
        taken
    }

    fn counters(&self) -> MutexGuard<'_, Vec<Arc<ModelCounter>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ModelCounter {
    fn new(model: &Model, deployed_at: Timestamp) -> Self {
        let layout = WindowLayout::of(model);
        let sources = ScoreSource::ANSWERED.map(|_| KeyCounts::new(layout.width()));
        Self { model: model.id().clone(), deployed_at, layout, sources }
    }

    fn add(&self, source: ScoreSource, key: &str, counts: &[u32]) {
        // Sampled customers (`EventSource` beyond `ANSWERED`) are counted elsewhere, once for
        // all replicas.
        if let Some(by_key) = self.sources.get(source as usize) {
            by_key.add(key, counts);
        }
    }

    fn take(&self) -> Vec<CollectedCounts> {
        let mut taken = Vec::new();
        for (source, by_key) in ScoreSource::ANSWERED.into_iter().zip(&self.sources) {
            for (key, window) in by_key.take() {
                taken.push(CollectedCounts {
                    model: self.model.clone(),
                    deployed_at: self.deployed_at,
                    source,
                    key_id: key,
                    window,
                });
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
            let slot = slot.get_or_init(|| KeySlot {
                key: if is_last { OTHER_KEYS } else { key }.into(),
                stripes: CounterStripes::new(self.width),
            });
            if is_last || *slot.key == *key {
                slot.stripes.add(counts);
                return;
            }
        }
    }

    /// Collects the counts of each key and resets them. If every slot is in use, later
    /// counts go to a fresh slot set: keys that are revoked or inactive lose their slots.
    fn take(&self) -> Vec<(Box<str>, DriftWindow)> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.slots.load_full();
        let is_full = current.last().is_some_and(|slot| slot.get().is_some());
        let mut taken = Vec::new();
        drain(&current, &mut taken);
        // Checked before the counts are collected, as in [`DriftCounters::take`].
        let has_owners: Vec<bool> =
            retired.iter_mut().map(|slots| Arc::get_mut(slots).is_none()).collect();
        retired.iter().for_each(|slots| drain(slots, &mut taken));
        let mut has_owners = has_owners.into_iter();
        retired.retain(|_| has_owners.next().unwrap_or(true));
        if is_full {
            self.slots.store(Arc::new(empty_slots()));
            retired.push(current);
        }
        taken
    }
}

fn empty_slots() -> KeySlots {
    std::array::from_fn(|_| OnceLock::new())
}

fn drain(slots: &KeySlots, taken: &mut Vec<(Box<str>, DriftWindow)>) {
    for slot in slots.iter().filter_map(OnceLock::get) {
        let counts = slot.stripes.take();
        if counts.iter().any(|count| *count > 0) {
            taken.push((slot.key.clone(), DriftWindow { counts }));
        }
    }
}

impl CounterStripes {
    fn new(width: usize) -> Self {
        let count = available_parallelism().map_or(1, usize::from).min(MAX_STRIPES);
        let mut stripes: Vec<Box<[AtomicU64]>> = Vec::with_capacity(count);
        for _ in 0..count {
            stripes.push((0..width).map(|_| AtomicU64::new(0)).collect());
        }
        Self { stripes }
    }

    fn add(&self, counts: &[u32]) {
        let stripe = &self.stripes[thread_number() % self.stripes.len()];
        for (total, count) in stripe.iter().zip(counts) {
            if *count > 0 {
                // `Relaxed`: counts order nothing else, and a flush needs no consistent
                // cut.
                total.fetch_add(u64::from(*count), Ordering::Relaxed);
            }
        }
    }

    fn take(&self) -> Vec<u64> {
        let width = self.stripes.first().map_or(0, |stripe| stripe.len());
        let mut totals = vec![0; width];
        for stripe in &self.stripes {
            for (total, count) in totals.iter_mut().zip(stripe.iter()) {
                *total += count.swap(0, Ordering::Relaxed);
            }
        }
        totals
    }
}

impl BatchCounts {
    pub fn new(source: ScoreSource) -> Self {
        Self { source, parts: [None, None] }
    }

    /// Counts a row and its score by the model of `counter`.
    pub fn count_row(&mut self, counter: &Arc<ModelCounter>, counted: &CountedRow<'_>) {
        let Some(part) = self.place(counter) else { return };
        let part = part.get_or_insert_with(|| {
            let counts = vec![0; counter.layout.width()];
            TallyPart { counter: Arc::clone(counter), counts }
        });
        counter.layout.for_each_position(counted, |place| part.counts[place] += 1);
    }

    /// The part of this counter, or the free part for it.
    fn place(&mut self, counter: &Arc<ModelCounter>) -> Option<&mut Option<TallyPart>> {
        self.parts.iter_mut().find(|part| match part {
            Some(part) => Arc::ptr_eq(&part.counter, counter),
            None => true,
        })
    }

    /// Adds the counts of `other`, which is of the same source.
    pub fn add_counts(&mut self, other: Self) {
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

    /// Publishes the counts without a key.
    pub fn publish(self) {
        self.publish_for_key(NO_KEY);
    }

    /// Publishes the counts under the API key with the id `key`.
    pub fn publish_for_key(self, key: &str) {
        for part in self.parts.into_iter().flatten() {
            part.counter.add(self.source, key, &part.counts);
        }
    }
}

/// A number per thread, to choose its stripe.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}
