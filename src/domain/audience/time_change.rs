//! Changes of memberships with time alone.
//!
//! A rule changes only where a number that it reads passes one of its thresholds. Features have
//! jumps and bounds (`feature::time_change`). Confidence and p-value have none: they are evaluated at
//! least once a day. Forecasts of value change at midnights, and between events each of them moves in
//! one direction.

use crate::domain::audience::condition::{Condition, NumberOperand, ValueFigure};
use crate::domain::feature::{FeatureRow, FeatureSet, PurchaseHistory, QuietPeriod, TimeBounds};
use crate::domain::rescore_schedule::{QuietCustomer, first_possible_change};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::domain::value::ValueModel;

/// Maximum interval, as for segments.
const MAX_INTERVAL_MILLIS: i64 = 366 * MILLIS_PER_DAY;
/// Maximum interval for a customer whose forecasts are read, in days.
const MAX_FORECAST_DAYS: u32 = 32;

/// The forecasts of a customer as of the row.
#[derive(Debug, Clone, Copy)]
pub struct ForecastSource<'a> {
    pub model: &'a ValueModel,
    pub history: PurchaseHistory,
}

/// The time-dependent numbers that the rules read, with all thresholds.
#[derive(Debug, Default)]
pub(super) struct AudienceSchedule {
    features_read: Vec<usize>,
    /// The features that move between jumps.
    drifting: Vec<FeatureThresholds>,
    figures: Vec<FigureThresholds>,
    /// Whether a rule reads the confidence or the p-value, for which no bounds are known.
    reads_score: bool,
}

#[derive(Debug)]
struct FeatureThresholds {
    feature: usize,
    /// Ascending.
    thresholds: Vec<f64>,
}

#[derive(Debug)]
struct FigureThresholds {
    figure: ValueFigure,
    /// Ascending.
    thresholds: Vec<f64>,
}

impl AudienceSchedule {
    pub(super) fn new<'r>(
        rules: impl Iterator<Item = &'r Condition>,
        features: &FeatureSet,
    ) -> Self {
        let mut of_features: Vec<Vec<f64>> = vec![Vec::new(); features.features().len()];
        let mut is_read = vec![false; of_features.len()];
        let mut reads_score = false;
        let mut figures =
            ValueFigure::ALL.map(|figure| FigureThresholds { figure, thresholds: Vec::new() });
        for rule in rules {
            rule.for_each_leaf(&mut |leaf| {
                if let Some(feature) = leaf.feature() {
                    is_read[feature] = true;
                }
                for (operand, threshold) in leaf.thresholds() {
                    match operand {
                        NumberOperand::Feature(feature) => of_features[feature].push(threshold),
                        NumberOperand::Value(figure) => {
                            figures[figure as usize].thresholds.push(threshold);
                        }
                        NumberOperand::Confidence | NumberOperand::PValue => reads_score = true,
                    }
                }
            });
        }
        let mut schedule = Self { reads_score, ..Self::default() };
        for (feature, mut thresholds) in of_features.into_iter().enumerate() {
            if !is_read[feature] {
                continue;
            }
            schedule.features_read.push(feature);
            if features.can_drift(feature) {
                thresholds.sort_unstable_by(f64::total_cmp);
                schedule.drifting.push(FeatureThresholds { feature, thresholds });
            }
        }
        for mut figure in figures {
            if !figure.thresholds.is_empty() {
                figure.thresholds.sort_unstable_by(f64::total_cmp);
                schedule.figures.push(figure);
            }
        }
        schedule
    }

    pub(super) fn features_read(&self) -> &[usize] {
        &self.features_read
    }

    pub(super) fn next_change_at(
        &self,
        customer: QuietCustomer<'_>,
        features: &FeatureSet,
        forecast: Option<ForecastSource<'_>>,
        no_later: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let QuietCustomer { state, row, now } = customer;
        // Rows before the newest event's instant are those of that instant.
        let now = state.last_event_at().map_or(now, |newest| newest.max(now));
        let mut end = no_later.filter(|sooner| *sooner > now);
        // A score of the rule-based fallback has neither a confidence nor a p-value, and a score that
        // never changes needs no rescore: then there is no instant to be earlier than.
        if self.reads_score && end.is_some() {
            end = end.into_iter().chain([now.plus_millis(MILLIS_PER_DAY)]).min();
        }
        if let Some(forecast) = forecast.filter(|_| !self.figures.is_empty()) {
            let limit = end.map_or(MAX_FORECAST_DAYS, |end| {
                u32::try_from(features.midnights_between(now, end)).unwrap_or(MAX_FORECAST_DAYS)
            });
            let limit = limit.min(MAX_FORECAST_DAYS);
            let change = features.midnight_after(now, self.unchanged_days(forecast, limit) + 1);
            end = end.into_iter().chain([change]).min();
        }
        if self.drifting.is_empty() {
            return end;
        }
        let latest = now.plus_millis(MAX_INTERVAL_MILLIS);
        let end = end.map_or(latest, |end| end.min(latest));
        Some(first_possible_change(now, end, |until| {
            let period = QuietPeriod { from: now, until };
            self.drifting.iter().all(|read| read.is_unchanged(row, features, period))
        }))
    }

    /// Number of days, at most `limit`, for which every figure stays on its side of every threshold.
    fn unchanged_days(&self, forecast: ForecastSource<'_>, limit: u32) -> u32 {
        let present = self.sides(forecast, 0);
        if self.sides(forecast, limit) == present {
            return limit;
        }
        // Bisection: each figure passes a threshold at most once.
        let (mut good, mut bad) = (0, limit);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.sides(forecast, middle) == present { good = middle } else { bad = middle }
        }
        good
    }

    /// The number of thresholds up to each figure after some days without an event; `None` for a
    /// missing figure.
    fn sides(&self, forecast: ForecastSource<'_>, days: u32) -> [Option<usize>; 3] {
        let age_days = forecast.history.age_days.saturating_add(days);
        let history = PurchaseHistory { age_days, ..forecast.history };
        let value = forecast.model.summarise(&history, Timestamp::from_millis(0));
        let mut sides = [None; 3];
        for FigureThresholds { figure, thresholds } in &self.figures {
            sides[*figure as usize] = figure.read(&value).map(|figure| {
                thresholds.partition_point(|threshold| *threshold < figure)
                    + thresholds.partition_point(|threshold| *threshold <= figure)
            });
        }
        sides
    }
}

impl FeatureThresholds {
    /// Whether the feature stays on its side of every threshold.
    fn is_unchanged(&self, row: &FeatureRow, features: &FeatureSet, period: QuietPeriod) -> bool {
        match features.time_bounds(row, self.feature, period) {
            TimeBounds::Constant => true,
            TimeBounds::Within(least, greatest) => {
                let below = self.thresholds.partition_point(|threshold| *threshold < least);
                self.thresholds.get(below).is_none_or(|next| *next > greatest)
            }
            TimeBounds::Anywhere => false,
        }
    }
}
