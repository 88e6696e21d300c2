//! Gaps in a customer's history: events that arrived before a property was declared.
//!
//! Undeclared properties are dropped before an event is stored. A feature over a property that
//! was declared later cannot know the value in earlier events, so it is missing while its window
//! contains one of them. A customer without such an event has a full history.

use serde::{Deserialize, Serialize};

use crate::domain::feature::fold::is_plausible;
use crate::domain::feature::slot::StateSlot;
use crate::domain::feature::source::EventFeatureSource;
use crate::domain::feature::zone::{DayZone, LocalInstant};

/// By slot, the instant of the newest event without a property that was dropped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::domain::feature) struct HistoryGaps(Vec<HistoryGap>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct HistoryGap {
    slot: usize,
    newest_millis: i64,
}

impl HistoryGaps {
    pub(in crate::domain::feature) fn add(&mut self, slot: usize, millis: i64) {
        match self.0.binary_search_by_key(&slot, |gap| gap.slot) {
            Ok(at) => self.0[at].newest_millis = self.0[at].newest_millis.max(millis),
            Err(at) => self.0.insert(at, HistoryGap { slot, newest_millis: millis }),
        }
    }

    /// Whether the value of a source is unknown at an instant.
    pub(in crate::domain::feature) fn hides(
        &self,
        index: usize,
        source: &EventFeatureSource,
        slot: &StateSlot,
        now: LocalInstant,
    ) -> bool {
        let Some(gap) = self.newest(index) else { return false };
        match source.window.length_days() {
            Some(length) => now.day - now.zone.day(gap) < length,
            None => slot.newest_decisive_millis().is_none_or(|newest| newest <= gap),
        }
    }

    /// Whether an event of any age lacks a property of a slot.
    pub(in crate::domain::feature) fn has_gap(&self, slot: usize) -> bool {
        self.newest(slot).is_some()
    }

    /// The day on which the gap leaves a window of `length` days.
    pub(in crate::domain::feature) fn leaves_on(
        &self,
        slot: usize,
        length: i64,
        zone: DayZone,
    ) -> Option<i64> {
        Some(zone.day(self.newest(slot)?) + length)
    }

    pub(in crate::domain::feature) fn is_sound(&self, slots: usize) -> bool {
        self.0.is_sorted_by(|a, b| a.slot < b.slot)
            && self.0.iter().all(|gap| gap.slot < slots && is_plausible(gap.newest_millis))
    }

    fn newest(&self, slot: usize) -> Option<i64> {
        let at = self.0.binary_search_by_key(&slot, |gap| gap.slot).ok()?;
        Some(self.0[at].newest_millis)
    }
}
