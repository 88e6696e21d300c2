//! One numeric feature: impute, winsorise, transform, scale, weight.

use serde::{Deserialize, Serialize};

use crate::domain::encode::transform;
use crate::domain::encode::transform::FittedTransform;
use crate::domain::encode::{ColumnRole, EncoderFitError, FittedNumber, MAX_ENCODED};
use crate::domain::feature::{FeatureValue, MissingValueRule, NumberScaling, NumberTransform};
use crate::domain::stats;

/// Declared steps of a numeric encoding: the fields of `Encoding::Number`.
#[derive(Clone, Copy)]
pub(super) struct NumericSteps {
    pub(super) missing: MissingValueRule,
    pub(super) missing_flag: bool,
    pub(super) winsorise: Option<(f64, f64)>,
    pub(super) transform: NumberTransform,
    pub(super) scale: NumberScaling,
    pub(super) weight: f64,
}

/// Fitted encoding of a numeric feature: one column, or two with the missing flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumericEncoding {
    pub(super) feature: usize,
    /// Imputed value for a missing number, in the feature's unit.
    pub(super) fill: f64,
    missing_flag: bool,
    /// Winsorisation bounds, in the feature's unit.
    clip: Option<(f64, f64)>,
    transform: FittedTransform,
    /// Subtracted after the transform; `spread` then divides the result.
    centre: f64,
    spread: f64,
    weight: f64,
}

impl NumericEncoding {
    /// Fits each step on the output of the step before it, as a scikit-learn pipeline does. A
    /// column without spread is centred and divided by 1.
    pub(super) fn fit<'a>(
        feature: usize,
        name: &str,
        recipe: NumericSteps,
        values: impl Iterator<Item = Option<&'a FeatureValue>>,
    ) -> Result<Self, EncoderFitError> {
        let observed_or_none: Vec<Option<f64>> = values.map(observed_number).collect();
        let observed: Vec<f64> = observed_or_none.iter().copied().flatten().collect();
        let fill = match recipe.missing {
            MissingValueRule::Constant(constant) => constant,
            _ if observed.is_empty() => return Err(EncoderFitError::NoObservations(name.into())),
            MissingValueRule::Mean => stats::mean(&observed),
            MissingValueRule::Median => stats::quantile(&stats::sorted(&observed), 0.5),
        };
        let mut column: Vec<f64> =
            observed_or_none.into_iter().map(|value| value.unwrap_or(fill)).collect();

        let clip = recipe.winsorise.map(|(low, high)| {
            let ascending = stats::sorted(&column);
            let bounds = (stats::quantile(&ascending, low), stats::quantile(&ascending, high));
            (bounds.0.min(bounds.1), bounds.0.max(bounds.1))
        });
        if let Some((low, high)) = clip {
            for x in &mut column {
                *x = x.clamp(low, high);
            }
        }
        let (narrower, transform) = FittedTransform::fit(recipe.transform, &column);
        let clip = narrower.or(clip);
        if recipe.transform == NumberTransform::Log1p && column.iter().any(|x| *x < 0.0) {
            return Err(EncoderFitError::BelowZero(name.into()));
        }
        for x in &mut column {
            *x = transform.apply(clip.map_or(*x, |(low, high)| x.clamp(low, high)));
        }

        let (centre, mut spread) = centre_and_spread(recipe.scale, &column);
        let is_bounded = recipe.transform == NumberTransform::Automatic
            && recipe.scale == NumberScaling::Standard;
        if is_bounded {
            // Clipping cannot bound a rare flag, which has two values only: divided by its small
            // standard deviation, the rare one would be farther than all other values.
            let deviation = transform::largest_deviation(&column, centre);
            spread = spread.max(deviation / transform::EXTREME);
        }
        let code = Self {
            feature,
            fill,
            missing_flag: recipe.missing_flag,
            clip,
            transform,
            centre,
            spread,
            weight: recipe.weight,
        };
        if code.is_sound() { Ok(code) } else { Err(EncoderFitError::NotFinite(name.into())) }
    }

    /// The fitted parameters, for the training report.
    pub(super) fn description(&self, feature: &str) -> FittedNumber {
        let (transform, lambda) = self.transform.name_and_lambda();
        FittedNumber {
            feature: feature.into(),
            transform,
            lambda,
            clipped: self.clip.map(|(low, high)| [low, high]),
        }
    }

    pub(super) fn width(&self) -> usize {
        1 + usize::from(self.missing_flag)
    }

    pub(super) fn roles(&self) -> Vec<ColumnRole> {
        let flag = self.missing_flag.then_some(ColumnRole::Missing);
        std::iter::once(ColumnRole::Value).chain(flag).collect()
    }

    pub(super) fn encode(&self, value: Option<&FeatureValue>, out: &mut [f32]) {
        let observed = observed_number(value);
        if let Some(first) = out.first_mut() {
            *first = self.column(observed.unwrap_or(self.fill));
        }
        if let Some(flag) = out.get_mut(1) {
            *flag = if observed.is_none() { 1.0 } else { 0.0 };
        }
    }

    /// Column value of this number. Every step is monotone.
    pub(super) fn column(&self, mut x: f64) -> f32 {
        if let Some((low, high)) = self.clip {
            x = x.clamp(low, high);
        }
        clamp_encoded((self.transform.apply(x) - self.centre) / self.spread * self.weight)
    }

    /// Change of the number that changes its column by 1; `None` after a transform.
    pub(super) fn own_unit(&self) -> Option<f64> {
        let unit = self.spread / self.weight;
        (self.transform == FittedTransform::None && unit.is_finite()).then_some(unit)
    }

    pub(super) fn is_sound(&self) -> bool {
        let clip_ordered =
            self.clip.is_none_or(|(low, high)| low.is_finite() && high.is_finite() && low <= high);
        let finite =
            [self.fill, self.centre, self.spread, self.weight].iter().all(|x| x.is_finite());
        clip_ordered && finite && self.spread > 0.0 && self.transform.is_sound()
    }
}

/// The finite number; any other value counts as missing.
fn observed_number(value: Option<&FeatureValue>) -> Option<f64> {
    match value {
        Some(FeatureValue::Number(x)) if x.is_finite() => Some(*x),
        _ => None,
    }
}

fn clamp_encoded(x: f64) -> f32 {
    // NaN comes from infinity times a weight of zero.
    if x.is_nan() { 0.0 } else { (x as f32).clamp(-MAX_ENCODED, MAX_ENCODED) }
}

fn centre_and_spread(scale: NumberScaling, column: &[f64]) -> (f64, f64) {
    match scale {
        NumberScaling::None => (0.0, 1.0),
        NumberScaling::Standard => {
            let mean = stats::mean(column);
            let variance = stats::variance(column, mean);
            // Upper bound of the variance that rounding alone leaves in a constant column: the
            // test of scikit-learn's `StandardScaler`.
            let n = column.len() as f64;
            let rounding = n * f64::EPSILON * variance + (n * mean * f64::EPSILON).powi(2);
            let is_constant = variance.is_finite() && variance <= rounding;
            (mean, if is_constant { 1.0 } else { variance.sqrt() })
        }
        NumberScaling::Robust => {
            let ascending = stats::sorted(column);
            let quartiles = [0.25, 0.5, 0.75].map(|share| stats::quantile(&ascending, share));
            (quartiles[1], spread_or_one(quartiles[2] - quartiles[0]))
        }
        NumberScaling::MinMax => {
            let low = column.iter().copied().fold(f64::INFINITY, f64::min);
            let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (low, spread_or_one(high - low))
        }
    }
}

/// Replaces a spread that is only rounding error by 1.
fn spread_or_one(spread: f64) -> f64 {
    if spread < 10.0 * f64::EPSILON { 1.0 } else { spread }
}
