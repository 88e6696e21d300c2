//! Changes of memberships with time alone.
//!
//! A rule changes only where a number that it reads passes one of its thresholds. Features have
//! jumps and bounds (`feature::time_change`). Forecasts of value change at midnights, and between
//! events each of them moves in one direction.

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
    /// Event sources behind the features that are read, by index.
    sources: Vec<usize>,
    /// The features that move between jumps.
    features: Vec<FeatureThresholds>,
    figures: Vec<FigureThreshold>,
}

#[derive(Debug)]
struct FeatureThresholds {
    feature: usize,
    /// Ascending.
    thresholds: Vec<f64>,
}

#[derive(Debug)]
struct FigureThreshold {
    figure: ValueFigure,
    threshold: f64,
}

impl AudienceSchedule {
    pub(super) fn new<'r>(
        rules: impl Iterator<Item = &'r Condition>,
        features: &FeatureSet,
    ) -> Self {
        let mut thresholds: Vec<Vec<f64>> = vec![Vec::new(); features.features().len()];
        let mut is_read = vec![false; thresholds.len()];
        let mut figures = Vec::new();
        for rule in rules {
            rule.for_each_leaf(&mut |leaf| {
                if let Some(feature) = leaf.feature() {
                    is_read[feature] = true;
                }
                for (operand, threshold) in leaf.thresholds() {
                    match operand {
                        NumberOperand::Feature(feature) => thresholds[feature].push(threshold),
                        NumberOperand::Value(figure) => {
                            figures.push(FigureThreshold { figure, threshold });
                        }
                        NumberOperand::Confidence | NumberOperand::PValue => {}
                    }
                }
            });
        }
        let mut schedule = Self { sources: Vec::new(), features: Vec::new(), figures };
        for (feature, mut thresholds) in thresholds.into_iter().enumerate() {
            if is_read[feature] {
                features.sources_behind(feature, &mut schedule.sources);
            }
            if is_read[feature] && features.can_drift(feature) {
                thresholds.sort_unstable_by(f64::total_cmp);
                schedule.features.push(FeatureThresholds { feature, thresholds });
            }
        }
        features.retain_distinct_jumps(&mut schedule.sources);
        schedule
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
        let no_later = no_later.filter(|sooner| *sooner > now);
        let jump = state.next_jump(features, &self.sources, now);
        let forecast = forecast.filter(|_| !self.figures.is_empty());
        let figures = forecast.map(|forecast| {
            let days = self.unchanged_days(forecast);
            features.midnight_after(now, days + 1)
        });
        let end = jump.into_iter().chain(figures).chain(no_later).min();
        if self.features.is_empty() {
            return end;
        }
        let latest = now.plus_millis(MAX_INTERVAL_MILLIS);
        let end = end.map_or(latest, |end| end.min(latest));
        Some(first_possible_change(now, end, |until| {
            let period = QuietPeriod { from: now, until };
            self.features.iter().all(|read| read.is_unchanged(row, features, period))
        }))
    }

    /// Number of days for which every figure stays on its side of every threshold.
    fn unchanged_days(&self, forecast: ForecastSource<'_>) -> u32 {
        let sides = |days: u32| {
            let age_days = forecast.history.age_days.saturating_add(days);
            let history = PurchaseHistory { age_days, ..forecast.history };
            let value = forecast.model.summarise(&history, Timestamp::from_millis(0));
            self.figures.iter().map(move |at| {
                at.figure.read(&value).and_then(|figure| figure.partial_cmp(&at.threshold))
            })
        };
        // Bisection: each figure passes a threshold at most once.
        let (mut good, mut bad) = (0, MAX_FORECAST_DAYS);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if sides(0).eq(sides(middle)) { good = middle } else { bad = middle }
        }
        good
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
