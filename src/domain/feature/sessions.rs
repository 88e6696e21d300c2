//! Session counting: runs of events at most a gap apart, exact for late events.
//!
//! Sessions are stored as disjoint intervals in order of time. An event extends an interval,
//! starts one, or joins two. A session belongs to the window that contains its *end*, so events
//! before the window cannot change the count. This makes it possible to drop the past
//! independently of the order of arrival: see [`SessionIntervals::add`].

use serde::{Deserialize, Serialize};

use crate::domain::feature::fold::is_plausible;
use crate::domain::feature::zone::{DayZone, LocalInstant};

/// The rules by which events become sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRules {
    pub(super) gap_millis: i64,
    /// Length of the window in days; with `None`, every interval is retained.
    pub(super) length_days: Option<i64>,
    pub(super) zone: DayZone,
}

/// Inclusive intervals in milliseconds, ascending, more than a gap apart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionIntervals(Vec<(i64, i64)>);

impl SessionIntervals {
    /// Adds an event.
    ///
    /// With a window, events before its edge (midnight of its oldest day, counted from the
    /// newest event) are dropped, and so are sessions that ended before it. A session across
    /// the edge retains its end, and its start is moved to the edge. The same happens to a
    /// start within a gap after the edge: whether a dropped event preceded it shortly depends
    /// on the order of arrival. This changes no count, as an event between the edge and such a
    /// start belongs to the session anyway.
    pub(super) fn add(&mut self, millis: i64, rules: SessionRules) {
        let SessionRules { gap_millis, length_days, zone } = rules;
        let newest = self.0.last().map_or(millis, |last| last.1.max(millis));
        let edge = length_days.map(|days| zone.at(newest).window_start_millis(days));
        if edge.is_some_and(|edge| millis < edge) {
            return;
        }
        self.insert(millis, gap_millis);
        if let Some(edge) = edge {
            let ended = self.0.partition_point(|interval| interval.1 < edge);
            self.0.drain(..ended);
            if let Some(first) = self.0.first_mut()
                && first.0 < edge.saturating_add(gap_millis)
            {
                first.0 = edge;
            }
        }
    }

    /// The number of sessions that end in the `length_days` days up to the day of `now`.
    pub(super) fn count(&self, now: LocalInstant, length_days: Option<i64>) -> usize {
        let ended = length_days.map_or(0, |days| {
            let edge = now.window_start_millis(days);
            self.0.partition_point(|interval| interval.1 < edge)
        });
        self.0.len() - ended
    }

    /// The day of the end of the oldest counted session.
    pub(super) fn oldest_end_day(&self, now: LocalInstant, length_days: i64) -> Option<i64> {
        let counted = self.count(now, Some(length_days));
        let (_, end) = self.0.get(self.0.len() - counted)?;
        Some(now.zone.day(*end))
    }

    /// Whether the intervals are ascending and more than a gap apart.
    pub(super) fn is_sound(&self, gap_millis: i64) -> bool {
        self.0.iter().all(|(start, end)| is_plausible(*start) && is_plausible(*end) && start <= end)
            && self.0.is_sorted_by(|a, b| b.0 - a.1 > gap_millis)
    }

    /// Whether interval `at` exists and starts at most a gap after the instant.
    fn begins_by(&self, at: usize, millis: i64, gap_millis: i64) -> bool {
        self.0.get(at).is_some_and(|(start, _)| start.saturating_sub(gap_millis) <= millis)
    }

    fn insert(&mut self, millis: i64, gap_millis: i64) {
        // The first interval that ends late enough to touch the event …
        let at = self.0.partition_point(|i| i.1.saturating_add(gap_millis) < millis);
        // … and whether it and its successor touch the event.
        if !self.begins_by(at, millis, gap_millis) {
            self.0.insert(at, (millis, millis));
            return;
        }
        if self.begins_by(at + 1, millis, gap_millis) {
            let next = self.0.remove(at + 1);
            self.0[at].1 = next.1;
        }
        let (start, end) = &mut self.0[at];
        *start = millis.min(*start);
        *end = millis.max(*end);
    }
}
