//! Report of the model of customer value: the chosen family, and its forecasts of the hold-out.

use std::fmt::Write as _;

use crate::cli::train::show::table;
use crate::domain::train::TrainedModel;
use crate::domain::value::ValueModel;
use crate::domain::value::evaluation::ForecastErrors;

/// The report; `None` for rows from tables, which have no orders.
pub(super) fn value_report(trained: &TrainedModel) -> Option<String> {
    if let Some(gap) = &trained.report.value_gap {
        return Some(format!("no customer value: {gap}"));
    }
    trained.model.value().map(describe)
}

fn describe(model: &ValueModel) -> String {
    let evaluation = &model.evaluation;
    let mut shown = format!(
        "customer value by {}, forecasts of the last {} days for {} customers:",
        model.purchases.kind().name(),
        evaluation.holdout_days,
        evaluation.customers,
    );
    let mut families =
        table(&["model", "log-likelihood", "orders expected", "mean error", "rank correlation"]);
    for candidate in &evaluation.candidates {
        let [error, correlation] = errors(candidate.errors);
        families.add_row([
            candidate.model.name().to_owned(),
            format!("{:.4}", candidate.mean_log_likelihood),
            format!("{:.0}", candidate.expected_orders),
            error,
            correlation,
        ]);
    }
    let [error, correlation] = errors(evaluation.same_as_before);
    families.add_row([
        "same as before".to_owned(),
        String::new(),
        String::new(),
        error,
        correlation,
    ]);
    families.add_row(["what came", "", &*evaluation.actual_orders.to_string(), "", ""]);
    let mut calibration =
        table(&["repeat orders before", "customers", "mean orders", "mean forecast"]);
    for row in &evaluation.calibration {
        calibration.add_row([
            format!("from {}", row.repeat_days),
            row.customers.to_string(),
            format!("{:.2}", row.actual),
            format!("{:.2}", row.expected),
        ]);
    }
    // Writing to a String cannot fail.
    let _ = write!(shown, "\n{families}\n{calibration}");
    if let Some(ratio) = evaluation.spend_ratio {
        let _ = write!(shown, "\nspend expected over spend that came: {ratio:.2}");
    }
    for shortcoming in &evaluation.shortcomings {
        let _ = write!(shown, "\nnot reliable: {shortcoming}");
    }
    shown
}

fn errors(errors: ForecastErrors) -> [String; 2] {
    let correlation = errors.rank_correlation;
    [
        format!("{:.3}", errors.mean_absolute),
        correlation.map_or_else(String::new, |correlation| format!("{correlation:.3}")),
    ]
}
