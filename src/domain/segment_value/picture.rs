//! Picture of the value of a segment over time.

use crate::domain::presentation::number_format::{format_integer, format_percent};
use crate::domain::presentation::{
    BarChart, ChartHead, ChartPoint, LABELS, LEFT, LabelledBar, axis_end,
};
use crate::domain::segment_value::SegmentTotals;
use crate::domain::time::Timestamp;

/// Dates under the bars.
const DATES: usize = 6;

/// Data of the chart: the reportable snapshots of one segment, oldest first.
#[derive(Debug)]
pub struct SegmentValuePicture<'s> {
    /// Name of the segment.
    pub name: &'s str,
    /// Unit of spend; empty without snapshots.
    pub unit: &'s str,
    pub snapshots: Vec<(Timestamp, &'s SegmentTotals)>,
}

impl SegmentValuePicture<'_> {
    /// Draws the spend predicted at each snapshot, and the part of it at risk, as an SVG.
    pub fn draw(&self) -> String {
        let Self { name, unit, snapshots } = self;
        let spend = snapshots.iter().map(|(_, totals)| totals.spend.expected);
        let tallest = spend.fold(0.0, f64::max);
        let unit_part = if unit.is_empty() { String::new() } else { format!(", {unit}") };
        let title = format!("{name}: spend in the next 90 days{unit_part}");
        let head = ChartHead {
            name: &title,
            description: &title,
            subtitle: &self.subtitle(),
            legend: ["predicted spend", "of it at risk"],
        };
        let columns = snapshots.len().max(1) as f64;
        let mut chart = BarChart::begin(&head, columns, axis_end(tallest), format_integer);
        let dates_apart = snapshots.len().div_ceil(DATES).max(1);
        for (index, (taken_at, totals)) in snapshots.iter().enumerate() {
            let left = LEFT + index as f64 * chart.column_width();
            let date: String = taken_at.to_string().chars().take(10).collect();
            let interval = totals.spend.interval();
            let [expected, low, high, at_risk] =
                [totals.spend.expected, interval.low, interval.high, totals.value_at_risk]
                    .map(format_integer);
            let pair = [
                LabelledBar {
                    value: totals.spend.expected,
                    text: format!(
                        "{date}: {expected} {unit} ({low} to {high}) by {} customers",
                        totals.customers
                    ),
                },
                LabelledBar {
                    value: totals.value_at_risk,
                    text: format!("{date}: {at_risk} {unit} at risk"),
                },
            ];
            chart.bar_pair(left, &pair);
            if index % dates_apart == 0 {
                let middle = ChartPoint { x: left + chart.column_width() / 2.0, y: LABELS };
                chart.text(middle, "middle", &date);
            }
        }
        chart.finish()
    }

    fn subtitle(&self) -> String {
        let (Some((_, first)), Some((_, last))) = (self.snapshots.first(), self.snapshots.last())
        else {
            return "no snapshot with enough customers in this period".to_owned();
        };
        let [now, risk] = [last.spend.expected, last.value_at_risk].map(format_integer);
        let now = format!("now {now}, of which {risk} at risk");
        if self.snapshots.len() < 2 || first.spend.expected <= 0.0 {
            return now;
        }
        let change = last.spend.expected / first.spend.expected - 1.0;
        let (size, direction) =
            (format_percent(change.abs()), if change < 0.0 { "less" } else { "more" });
        format!("{now}; {size} {direction} than at the first snapshot shown")
    }
}
