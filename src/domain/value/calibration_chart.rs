//! Calibration plot: orders in the hold-out and their forecasts, by number of earlier orders.

use crate::domain::presentation::number_format::format_integer;
use crate::domain::presentation::{
    BarChart, ChartHead, ChartPoint, LABELS, LEFT, LabelledBar, axis_end,
};
use crate::domain::value::evaluation::{CalibrationRow, ValueEvaluation};

/// Draws the calibration of the best family as an SVG.
pub fn draw_calibration(evaluation: &ValueEvaluation) -> String {
    let rows = &evaluation.calibration;
    let tallest = rows.iter().map(|row| row.actual.max(row.expected)).fold(0.0, f64::max);
    let days = evaluation.holdout_days;
    let head = ChartHead {
        name: &format!("Mean orders in {days} days, by repeat orders before"),
        description: &format!("Mean orders in {days} days, as they came and as forecast"),
        subtitle: &subtitle(evaluation),
        legend: ["orders that came", "forecast"],
    };
    let mut chart =
        BarChart::begin(&head, rows.len().max(1) as f64, axis_end(tallest), format_orders);
    for (index, row) in rows.iter().enumerate() {
        let left = LEFT + index as f64 * chart.column_width();
        let label = label(rows, index);
        let of = format!("{label} repeat orders, {} customers", row.customers);
        let pair = [("came", row.actual), ("forecast", row.expected)]
            .map(|(what, value)| LabelledBar { value, text: format!("{of}: {what} {value:.2}") });
        chart.bar_pair(left, &pair);
        let middle = ChartPoint { x: left + chart.column_width() / 2.0, y: LABELS };
        chart.text(middle, "middle", &label);
    }
    chart.finish()
}

fn subtitle(evaluation: &ValueEvaluation) -> String {
    let Some(best) = evaluation.candidates.first() else {
        return "no model could be fitted".to_owned();
    };
    format!(
        "{} orders expected by {}, {} came; mean error {:.2}, by repeating the period before {:.2}",
        format_integer(best.expected_orders),
        best.model.name(),
        format_integer(evaluation.actual_orders as f64),
        best.errors.mean_absolute,
        evaluation.same_as_before.mean_absolute
    )
}

/// The repeat days of a row: one number, a range, or an open end.
fn label(rows: &[CalibrationRow], index: usize) -> String {
    let first = rows[index].repeat_days;
    match rows.get(index + 1) {
        None => format!("{first} or more"),
        Some(next) if next.repeat_days == first + 1 => first.to_string(),
        Some(next) => format!("{first}–{}", next.repeat_days - 1),
    }
}

fn format_orders(orders: f64) -> String {
    // Axes end at 1, 2 or 5 times a power of ten, and are labelled in the middle too.
    let decimals = if orders == 0.0 || orders >= 10.0 { 0 } else { 2 };
    format!("{orders:.decimals$}")
}
