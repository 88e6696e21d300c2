//! The stored snapshots of one segment, with their changes explained.

use std::collections::BTreeMap;

use crate::domain::feature::DayPeriod;
use crate::domain::model::NamedSegment;
use crate::domain::segment_value::{
    ChangeWords, SegmentValueChange, ValueFlow, describe_change, explain_change,
};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::service::segment_value::{SegmentValueService, weeks_before};
use crate::store::TimeRange;
use crate::store::segment_values::{self, SegmentValueRow};

/// The value of one segment over time.
#[derive(Debug)]
pub struct SegmentValueSeries {
    /// Newest first.
    pub snapshots: Vec<SegmentValueSnapshot>,
    /// Why there is no newer snapshot; `None` if the next one is taken as scheduled.
    pub missing: Option<String>,
    /// Names of the segments that customers moved from and to, by id.
    names: BTreeMap<Box<str>, Box<str>>,
}

/// One snapshot of the segment.
#[derive(Debug)]
pub struct SegmentValueSnapshot {
    pub figures: SegmentValueRow,
    /// Since the previous snapshot.
    pub change: Option<SeriesChange>,
    /// Since the snapshot four weeks before.
    pub change_28_days: Option<SeriesChange>,
}

/// The change of the segment since an earlier snapshot.
#[derive(Debug, Clone)]
pub struct SeriesChange {
    pub since: Timestamp,
    /// Another model than at the earlier snapshot made the forecasts, and may have assigned customers
    /// otherwise.
    pub has_other_model: bool,
    /// `None` if it would single a customer out.
    pub parts: Option<SegmentValueChange>,
    /// The change in words; `None` without parts.
    pub sentence: Option<String>,
}

impl SegmentValueSeries {
    /// A segment that customers moved from or to.
    pub(crate) fn named(&self, segment_id: &str) -> NamedSegment {
        match self.names.get(segment_id) {
            Some(name) => NamedSegment { id: segment_id.into(), name: name.clone() },
            None => NamedSegment::of_rules(segment_id),
        }
    }
}

impl SegmentValueService {
    /// The snapshots of the last `days` days.
    pub(crate) async fn series(
        &self,
        segment_id: &str,
        days: u32,
    ) -> Result<SegmentValueSeries, ServiceError> {
        let db = self.db.read();
        let now = self.clock.now();
        let since = now.plus_millis(-MILLIS_PER_DAY * i64::from(days));
        let period = TimeRange { since, until: now };
        let rows = segment_values::list_of_segment(db, segment_id, period).await?;
        let missing = match self.gap() {
            Some(gap) => Some(self.describe_gap(gap).await?),
            None if segment_values::newest_snapshot(db, now).await?.is_none() => {
                let first = "the first snapshot is taken within minutes after a model is activated";
                Some(first.to_owned())
            }
            None => None,
        };
        if rows.is_empty() && self.serving.snapshot().find_segment(segment_id).is_none() {
            return Err(ServiceError::NotFound(format!(
                "segment with the id `{segment_id}` that is served or has snapshots in the last {days} days"
            )));
        }
        let names = segment_values::list_names(db).await?;
        let mut series = SegmentValueSeries {
            snapshots: Vec::new(),
            missing,
            names: names.into_iter().map(|named| (named.id, named.name)).collect(),
        };
        let mut flows: BTreeMap<Timestamp, BTreeMap<Timestamp, Vec<ValueFlow>>> = BTreeMap::new();
        for stored in segment_values::list_flows(db, segment_id, period).await? {
            let of_snapshot = flows.entry(stored.taken_at).or_default();
            of_snapshot.entry(stored.since).or_default().push(stored.flow);
        }
        for row in rows.iter().filter(|row| row.taken_at >= since) {
            let mut found =
                SegmentValueSnapshot { figures: row.clone(), change: None, change_28_days: None };
            let previous = rows.iter().find(|other| other.taken_at < row.taken_at);
            for (since, flows) in flows.remove(&row.taken_at).unwrap_or_default() {
                let Some(before) = rows.iter().find(|row| row.taken_at == since) else { continue };
                let change = self.explain(segment_id, [before, row], &flows, &series);
                if previous.is_some_and(|previous| previous.taken_at == since) {
                    found.change = Some(change.clone());
                }
                if since <= weeks_before(row.taken_at) {
                    found.change_28_days = Some(change);
                }
            }
            series.snapshots.push(found);
        }
        Ok(series)
    }

    fn explain(
        &self,
        segment_id: &str,
        [before, now]: [&SegmentValueRow; 2],
        flows: &[ValueFlow],
        series: &SegmentValueSeries,
    ) -> SeriesChange {
        // Figures that were withheld must not follow from a change; amounts in two currencies do not
        // compare.
        let is_comparable =
            before.unit == now.unit && [before, now].iter().all(|row| row.totals.is_reportable());
        let parts = if is_comparable {
            explain_change(segment_id, before.totals.spend.expected, flows)
        } else {
            None
        };
        let features = &self.serving.snapshot().features;
        let passed = DayPeriod::from_day_of(before.taken_at, now.taken_at, features);
        let words = ChangeWords {
            segment_name: &now.name,
            unit: &now.unit,
            days: passed.days(),
            names: &series.names,
        };
        SeriesChange {
            since: before.taken_at,
            has_other_model: before.model != now.model,
            sentence: parts.as_ref().map(|parts| describe_change(parts, &words)),
            parts,
        }
    }
}
