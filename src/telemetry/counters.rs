//! Counters by label, resolved before the first request.
//!
//! Looking a child up by its label values hashes text under a lock; done once
//! at the start, counting is one atomic addition. And every combination is
//! exported from the start as zero: `rate()` cannot see a counter's first
//! increment when it is also its first appearance.

use std::marker::PhantomData;

use prometheus::{IntCounter, IntCounterVec, Opts};

use super::labels::LabelSet;
use crate::telemetry::registry::MetricRegistry;

/// One counter for every value of `L`.
#[derive(Debug)]
pub struct LabelledCounters<L> {
    children: Vec<IntCounter>,
    labels: PhantomData<fn(L)>,
}

impl<L: LabelSet> LabelledCounters<L> {
    pub(super) fn new(
        registry: &MetricRegistry,
        name: &str,
        help: &str,
    ) -> prometheus::Result<Self> {
        let family = IntCounterVec::new(Opts::new(name, help), &L::names())?;
        let family = registry.register(family)?;
        let children = L::all().map(|labels| family.get_metric_with_label_values(&labels.values()));
        Ok(Self { children: children.collect::<Result<_, _>>()?, labels: PhantomData })
    }

    pub fn add(&self, labels: L, count: u64) {
        // Never out of range: `all` yields each value at its own index.
        if let Some(child) = self.children.get(labels.index()) {
            child.inc_by(count);
        }
    }

    pub fn get(&self, labels: L) -> u64 {
        self.children.get(labels.index()).map_or(0, IntCounter::get)
    }
}
