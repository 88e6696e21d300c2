//! Drift finding: a significant and relevant difference, described for its owner.

use serde::Serialize;

use crate::domain::drift::by_key::DecisiveKey;
use crate::domain::drift::figures::{BinChange, CategoryChange, FeatureFigures, ValueFigures};
use crate::domain::drift::limits::Severity;
use crate::domain::drift::output_shift::{OutlierRateTest, RateComparison, ShareChange};
use crate::domain::drift::report::number_format::{
    format_number, format_percent, format_with_unit,
};
use crate::domain::drift::segments::{SegmentFeatureChange, SegmentFeatureShift};
use crate::domain::drift::statistics::wasserstein::{BinnedMedian, WassersteinShift};
use crate::domain::drift::unseen::UnseenShare;
use crate::domain::drift::window::P_VALUE_BINS;
use crate::domain::model::{Model, NamedSegment, SeenValues};

/// The compared quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparedQuantity {
    /// The known values of a feature.
    Values,
    /// The share of missing values of a feature.
    Missing,
    /// The share of the known values of a feature that training never had.
    Unseen,
    /// The share of the known values of a feature that were rare at training.
    Rare,
    /// A feature among the customers of one segment, as encoded: missing numbers count
    /// with their imputed value.
    Within,
    /// The shares of the segments.
    Segments,
    /// The share of customers in no segment.
    Unassigned,
    /// The distances of customers to their segments.
    Distances,
    /// The rate of outliers.
    Outliers,
    /// The distribution of outlier p-values.
    PValues,
    /// The ranks of each hour among earlier hours, accumulated by sequential detectors.
    Stream,
}

impl ComparedQuantity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Missing => "missing",
            Self::Unseen => "unseen",
            Self::Rare => "rare",
            Self::Within => "within",
            Self::Segments => "segments",
            Self::Unassigned => "unassigned",
            Self::Distances => "distances",
            Self::Outliers => "outliers",
            Self::PValues => "p_values",
            Self::Stream => "stream",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftFinding {
    pub about: ComparedQuantity,
    /// Name of the feature; `None`: the finding concerns the model as a whole.
    pub feature: Option<Box<str>>,
    /// Segment to which the finding is limited; `None`: all customers.
    pub segment: Option<NamedSegment>,
    pub title: Box<str>,
    pub owner: Option<Box<str>>,
    pub unit: Option<Box<str>>,
    pub severity: Severity,
    /// Size of the difference, in the unit of the limits of `about`.
    pub size: f64,
    pub p_value: f64,
    /// The p-value after the correction over all tests of the check.
    pub adjusted_p_value: f64,
    /// Effective sample size of the scored rows; `None` for a finding of a sequential detector,
    /// which compares hours.
    pub effective_sample_size: Option<f64>,
    /// The change and its size, as a sentence in the unit of the feature.
    pub description: String,
    pub advice: String,
    /// The API key without which the finding disappears. `None` if it survives without any
    /// single key, or if rows are not counted by key.
    pub decisive_key: Option<DecisiveKey>,
}

/// Texts of a finding for its owner.
pub(super) struct FindingText {
    pub(super) description: String,
    pub(super) advice: String,
}

pub(super) fn values(figures: &FeatureFigures) -> FindingText {
    let FeatureFigures { title, .. } = figures;
    let description = match &figures.values {
        ValueFigures::Number { moved, median_before, median_now, most_changed, .. } => moved
            .and_then(|moved| number_moved(figures, moved, *median_before, *median_now))
            .or_else(|| most_changed.map(|changed| bin_changed(figures, changed))),
        ValueFigures::Category { most_changed, .. } => {
            most_changed.as_ref().map(|changed| category_changed(figures, changed))
        }
    };
    let is_new_category = matches!(
        &figures.values,
        ValueFigures::Category { most_changed: Some(CategoryChange { category: None, .. }), .. }
    );
    let cause = if is_new_category {
        "whether categories were added or renamed"
    } else {
        "whether the source or its meaning has changed: a unit, a currency, a new channel"
    };
    FindingText {
        description: description
            .unwrap_or_else(|| format!("The distribution of {title} has changed.")),
        advice: advice(figures, cause),
    }
}

pub(super) fn missing(figures: &FeatureFigures, rate: RateComparison) -> FindingText {
    let FeatureFigures { title, .. } = figures;
    let (now, before) = (format_percent(rate.now), format_percent(rate.before));
    FindingText {
        description: format!(
            "{title} is missing in {now} of the scored rows; at training it was {before}."
        ),
        advice: advice(figures, "whether the source still sends it under the same name"),
    }
}

/// Texts of a finding about values that training never had.
pub(super) fn unseen(
    figures: &FeatureFigures,
    share: UnseenShare,
    seen: Option<&SeenValues>,
) -> FindingText {
    let FeatureFigures { title, unit, .. } = figures;
    let now = format_percent(share.now);
    let description = match seen {
        Some(SeenValues::Range { lowest, highest }) => format!(
            "{title} is outside the training range ({} to {}) in {now} of the known cases.",
            format_number(*lowest),
            format_with_unit(*highest, unit)
        ),
        Some(SeenValues::Categories { .. }) => {
            format!("{title}: categories that training never had make up {now} of the known cases.")
        }
        Some(SeenValues::Numbers { .. }) | None => {
            format!("{title} has values that training never had in {now} of the known cases.")
        }
    };
    FindingText {
        description,
        advice: advice(figures, "whether values were added or renamed, or their unit has changed"),
    }
}

pub(super) fn rare(figures: &FeatureFigures, rate: RateComparison) -> FindingText {
    let FeatureFigures { title, .. } = figures;
    let (now, before) = (format_percent(rate.now), format_percent(rate.before));
    FindingText {
        description: format!(
            "{title}: values that were rare at training make up {now} of the known cases; at \
             training it was {before}."
        ),
        advice: advice(
            figures,
            "whether the source or its meaning has changed: a unit, a currency, a new channel",
        ),
    }
}

pub(super) fn within(
    figures: &FeatureFigures,
    segment: &NamedSegment,
    found: &SegmentFeatureShift,
) -> FindingText {
    let FeatureFigures { title, unit, owner, .. } = figures;
    let NamedSegment { name, .. } = segment;
    let description = match &found.moved {
        SegmentFeatureChange::Number { in_unit } => {
            let direction = if found.d > 0.0 { "risen" } else { "fallen" };
            let spreads = format_number(found.d.abs());
            let own = in_unit.map_or_else(String::new, |moved| {
                format!("about {}, which is ", format_with_unit(moved.abs(), unit))
            });
            format!(
                "{title} has {direction} in the segment “{name}”: its mean by {own}{spreads} times \
                 its standard deviation in the segment, as the model reads it."
            )
        }
        SegmentFeatureChange::Category { category, share_before, share_now } => {
            let category =
                category.as_deref().unwrap_or("the group of categories rare or unseen at training");
            let (before, now) = (format_percent(*share_before), format_percent(*share_now));
            format!(
                "{title} in the segment “{name}”: {category} makes up {now} of the known \
                 cases; at training it was {before}."
            )
        }
    };
    FindingText {
        description,
        advice: format!(
            "{owner}: check whether something has changed for these customers alone: a campaign, \
             a price, a channel. If the change is real, the description of the segment no longer \
             fits its customers: retrain, and compare both models before promoting."
        ),
    }
}

pub(super) fn segments(model: &Model, changed: Option<ShareChange>) -> FindingText {
    let segment = changed.and_then(|changed| model.segments().get(changed.index));
    let description = match (segment, changed) {
        (Some(segment), Some(changed)) => format!(
            "The segment “{}” has {} of the assigned customers; at training it had {}.",
            segment.name,
            format_percent(changed.now),
            format_percent(changed.before)
        ),
        _ => "The shares of the segments have changed.".into(),
    };
    let advice = "See which features moved too. If the customers have changed, retrain and \
                  compare both models before promoting; if a source has changed, repair it first.";
    FindingText { description, advice: advice.into() }
}

pub(super) fn unassigned(rate: RateComparison) -> FindingText {
    FindingText {
        description: format!(
            "{} of the scored rows are in no segment; at training the share was {}.",
            format_percent(rate.now),
            format_percent(rate.before)
        ),
        advice: if rate.change() > 0.0 {
            "These customers are of a kind unseen at training: retrain, and check whether they \
             form a segment of their own."
        } else {
            "Fewer customers than before fall outside the segments: see which features moved."
        }
        .into(),
    }
}

pub(super) fn distances(
    median_before: Option<BinnedMedian>,
    median_now: Option<BinnedMedian>,
) -> FindingText {
    let medians = match (median_before, median_now) {
        (Some(before), Some(now)) if before != now => format!(
            ": the median, in encoded units, was {} and is {}",
            median_text(before, ""),
            median_text(now, "")
        ),
        _ => String::new(),
    };
    FindingText {
        description: format!(
            "The distances of customers from their segments have changed since training{medians}."
        ),
        advice: "The segments fit today's customers less well or differently: see which features \
                 moved, and retrain if the change is real."
            .into(),
    }
}

pub(super) fn outliers(outliers: OutlierRateTest) -> FindingText {
    FindingText {
        description: format!(
            "{} of the scored rows are outliers; the promised rate is {}.",
            format_percent(outliers.now),
            format_percent(outliers.promised)
        ),
        advice: "Inspect some of the outliers: a broken source makes many similar ones. If they \
                 are real, the outlier limit is not valid until the model is retrained."
            .into(),
    }
}

/// `most_changed`: the bin of p-values whose share differs most from training, of
/// [`P_VALUE_BINS`].
pub(super) fn p_values(most_changed: Option<ShareChange>) -> FindingText {
    let part = most_changed.map_or_else(String::new, |ShareChange { index, before, now }| {
        let (low, high) = (index as f64, index as f64 + 1.0);
        let bins = P_VALUE_BINS as f64;
        format!(
            ": {} are from {} to {}; at training {} were",
            format_percent(now),
            format_number(low / bins),
            format_number(high / bins),
            format_percent(before)
        )
    });
    FindingText {
        description: format!(
            "The distribution of outlier p-values has changed since training{part}."
        ),
        advice: "The outlier calibration does not hold for the rows scored now: see which \
                 features moved, and retrain."
            .into(),
    }
}

fn advice(figures: &FeatureFigures, cause: &str) -> String {
    let owner = &figures.owner;
    if figures.is_read {
        format!(
            "{owner}: check {cause}. If the change is real, retrain: until then the model reads \
             this feature on the scale of its training."
        )
    } else {
        format!(
            "{owner}: check {cause}. The model does not read this feature, so no score is affected."
        )
    }
}

fn number_moved(
    figures: &FeatureFigures,
    moved: WassersteinShift,
    before: Option<BinnedMedian>,
    now: Option<BinnedMedian>,
) -> Option<String> {
    let FeatureFigures { title, unit, .. } = figures;
    let distance = moved.distance;
    if distance <= 0.0 {
        return None;
    }
    // In a pure shift the mean moves as far as the values do on average.
    let direction = if moved.shift.abs() < 0.5 * distance {
        "spread differently"
    } else if moved.shift > 0.0 {
        "risen"
    } else {
        "fallen"
    };
    let median = match (before?, now?) {
        (before, now) if before == now => String::new(),
        (before, now) => {
            format!(
                "; the median was {} and is {}",
                median_text(before, unit),
                median_text(now, unit)
            )
        }
    };
    let distance = format_with_unit(distance, unit);
    Some(format!(
        "{title} has {direction}: values moved by at least {distance} on average{median}."
    ))
}

fn bin_changed(figures: &FeatureFigures, changed: BinChange) -> String {
    let FeatureFigures { title, unit, .. } = figures;
    let (before, now) = (format_percent(changed.before), format_percent(changed.now));
    let bin = match (changed.above, changed.up_to) {
        (None, Some(high)) => format!("is at most {}", format_with_unit(high, unit)),
        (Some(low), None) => format!("is above {}", format_with_unit(low, unit)),
        // A bin around a single value, which made up most of the training rows.
        (Some(low), Some(high)) if low.next_up() >= high => {
            format!("is {}", format_with_unit(high, unit))
        }
        (Some(low), Some(high)) => {
            format!("lies above {} and up to {}", format_number(low), format_with_unit(high, unit))
        }
        (None, None) => "is known".into(),
    };
    format!("{title} {bin} in {now} of the known cases; at training it was {before}.")
}

fn category_changed(figures: &FeatureFigures, changed: &CategoryChange) -> String {
    let FeatureFigures { title, unseen, .. } = figures;
    let is_new = unseen.is_some_and(|unseen| unseen.now > changed.now / 2.0);
    let (before, now) = (format_percent(changed.before), format_percent(changed.now));
    match &changed.category {
        Some(category) => {
            format!(
                "{title}: {category} makes up {now} of the known cases; at training it was {before}."
            )
        }
        None if is_new => format!(
            "{title}: categories that training never had make up most of {now} of the known \
             cases; at training the rare ones made up {before}."
        ),
        None => format!(
            "{title}: categories that were rare or unseen at training make up {now} of the known \
             cases; at training it was {before}."
        ),
    }
}

fn median_text(median: BinnedMedian, unit: &str) -> String {
    match median {
        BinnedMedian::Near(x) => format_with_unit(x, unit),
        BinnedMedian::AtMost(x) => format!("at most {}", format_with_unit(x, unit)),
        BinnedMedian::Above(x) => format!("above {}", format_with_unit(x, unit)),
    }
}
