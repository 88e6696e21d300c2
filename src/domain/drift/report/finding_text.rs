//! Texts of a finding for its owner: the change in plain words, its statistics, and advice.
//!
//! The words must be understood without knowledge of the tests: a typical value (the median) or
//! a share, now and at training.

use crate::domain::drift::figures::{BinChange, CategoryChange, FeatureFigures, ValueFigures};
use crate::domain::drift::finding::{ComparedQuantity, DriftChange};
use crate::domain::drift::output_shift::{OutlierRateTest, RateComparison, ShareChange};
use crate::domain::drift::segments::{SegmentFeatureChange, SegmentFeatureShift};
use crate::domain::drift::statistics::wasserstein::BinnedMedian;
use crate::domain::drift::unseen::UnseenShare;
use crate::domain::model::P_VALUE_BINS;
use crate::domain::model::{Model, NamedSegment, SeenValues};
use crate::domain::presentation::number_format::{
    format_integer, format_number, format_p_value, format_percent, format_with_unit,
};

/// Texts of a finding, without its statistics.
pub(in crate::domain::drift) struct FindingText {
    pub(in crate::domain::drift) change: DriftChange,
    pub(in crate::domain::drift) advice: String,
}

/// The significance of a finding.
pub(in crate::domain::drift) struct Significance {
    pub(in crate::domain::drift) adjusted_p_value: f64,
    pub(in crate::domain::drift) effective_sample_size: f64,
}

/// Texts of a finding about values; `seen`: those of training.
pub(in crate::domain::drift) fn values(
    figures: &FeatureFigures,
    seen: Option<&SeenValues>,
) -> FindingText {
    let lowest = match seen {
        Some(SeenValues::Range { lowest, .. }) => Some(*lowest),
        Some(SeenValues::Numbers { values, .. }) => values.first().copied(),
        Some(SeenValues::Categories { .. }) | None => None,
    };
    let change = match &figures.values {
        ValueFigures::Number { .. } => number_changed(figures, lowest),
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
        change: change.unwrap_or_else(|| {
            change_of(&figures.title, "changed", "the shares of its values differ".into())
        }),
        advice: advice(figures, cause),
    }
}

pub(in crate::domain::drift) fn missing(
    figures: &FeatureFigures,
    rate: RateComparison,
) -> FindingText {
    let predicate = if rate.change() > 0.0 {
        "had missing values more often"
    } else {
        "had missing values less often"
    };
    FindingText {
        change: change_of(&figures.title, predicate, shares_of("the rows", rate.now, rate.before)),
        advice: advice(figures, "whether the source still sends it under the same name"),
    }
}

/// Texts of a finding about values that training never had.
pub(in crate::domain::drift) fn unseen(
    figures: &FeatureFigures,
    share: UnseenShare,
    seen: Option<&SeenValues>,
) -> FindingText {
    let now = format_percent(share.now);
    let (predicate, comparison) = match seen {
        Some(SeenValues::Range { lowest, highest }) => (
            "left the range of training",
            format!(
                "in {now} of the known cases it is not from {} to {}",
                format_number(*lowest),
                format_with_unit(*highest, &figures.unit)
            ),
        ),
        Some(SeenValues::Categories { .. }) => {
            ("took categories that training never had", format!("in {now} of the known cases"))
        }
        Some(SeenValues::Numbers { .. }) | None => {
            ("took values that training never had", format!("in {now} of the known cases"))
        }
    };
    FindingText {
        change: change_of(&figures.title, predicate, comparison),
        advice: advice(figures, "whether values were added or renamed, or their unit has changed"),
    }
}

pub(in crate::domain::drift) fn rare(
    figures: &FeatureFigures,
    rate: RateComparison,
) -> FindingText {
    let predicate = if rate.change() > 0.0 {
        "took more values that were rare at training"
    } else {
        "took fewer values that were rare at training"
    };
    FindingText {
        change: change_of(
            &figures.title,
            predicate,
            shares_of("the known cases", rate.now, rate.before),
        ),
        advice: advice(
            figures,
            "whether the source or its meaning has changed: a unit, a currency, a new channel",
        ),
    }
}

pub(in crate::domain::drift) fn within(
    figures: &FeatureFigures,
    segment: &NamedSegment,
    found: &SegmentFeatureShift,
) -> FindingText {
    let FeatureFigures { title, unit, owner, .. } = figures;
    let NamedSegment { name, .. } = segment;
    let (verb, comparison) = match &found.moved {
        SegmentFeatureChange::Number { in_unit } => {
            let direction = if found.d > 0.0 { "rose" } else { "fell" };
            let spreads = format_number(found.d.abs());
            let by = match in_unit {
                Some(moved) => format!(
                    "by about {} on average, {spreads} times its usual spread there",
                    format_with_unit(moved.abs(), unit)
                ),
                None => format!("by {spreads} times its usual spread there"),
            };
            (direction, by)
        }
        SegmentFeatureChange::Category { category, share_before, share_now } => {
            let category = category.as_deref().unwrap_or("a category rare or unseen at training");
            let shares = shares_of("the known cases", *share_now, *share_before);
            ("changed", format!("{category} {shares}"))
        }
    };
    FindingText {
        change: change_of(title, &format!("{verb} in the segment “{name}”"), comparison),
        advice: format!(
            "{owner}: check whether something has changed for these customers alone: a campaign, \
             a price, a channel. If the change is real, the description of the segment no longer \
             fits its customers: retrain, and compare both models before promoting."
        ),
    }
}

pub(in crate::domain::drift) fn segments(
    model: &Model,
    changed: Option<ShareChange>,
) -> FindingText {
    let segment = changed.and_then(|changed| model.segments().get(changed.index));
    let change = match (segment, changed) {
        (Some(segment), Some(changed)) => {
            let predicate = if changed.now > changed.before { "grew" } else { "shrank" };
            change_of(
                &format!("The segment “{}”", segment.name),
                predicate,
                share_phrase("of the assigned customers", changed.now, changed.before),
            )
        }
        _ => change_of("The segments", "changed", "their shares differ".into()),
    };
    let advice = "See which features moved too. If the customers have changed, retrain and \
                  compare both models before promoting; if a source has changed, repair it first.";
    FindingText { change, advice: advice.into() }
}

pub(in crate::domain::drift) fn unassigned(rate: RateComparison) -> FindingText {
    let is_more = rate.change() > 0.0;
    let predicate = if is_more { "became more frequent" } else { "became less frequent" };
    let advice = if is_more {
        "These customers are of a kind unseen at training: retrain, and check whether they form a \
         segment of their own."
    } else {
        "Fewer customers than before fall outside the segments: see which features moved."
    };
    FindingText {
        change: change_of(
            "Customers in no segment",
            predicate,
            share_phrase("of the rows", rate.now, rate.before),
        ),
        advice: advice.into(),
    }
}

pub(in crate::domain::drift) fn distances(
    before: Option<BinnedMedian>,
    now: Option<BinnedMedian>,
) -> FindingText {
    let subject = "The distance of customers from the centre of their segment";
    let change = match before.zip(now) {
        Some((before, now)) if position(now) > position(before) => {
            change_of(subject, "rose", medians(now, before, ""))
        }
        Some((before, now)) if position(now) < position(before) => {
            change_of(subject, "fell", medians(now, before, ""))
        }
        _ => change_of(subject, "changed", "it is spread differently".into()),
    };
    FindingText {
        change,
        advice: "The segments fit today's customers less well or differently: see which features \
                 moved, and retrain if the change is real."
            .into(),
    }
}

pub(in crate::domain::drift) fn outliers(outliers: OutlierRateTest) -> FindingText {
    let (now, promised) = (format_percent(outliers.now), format_percent(outliers.promised));
    FindingText {
        change: change_of(
            "Unusual rows (outliers)",
            "became more frequent",
            format!("{now} of the rows, {promised} expected"),
        ),
        advice: "Inspect some of the outliers: a broken source makes many similar ones. If they \
                 are real, the outlier limit is not valid until the model is retrained."
            .into(),
    }
}

/// `most_changed`: the bin of p-values whose share differs most from training, of
/// [`P_VALUE_BINS`].
pub(in crate::domain::drift) fn p_values(most_changed: Option<ShareChange>) -> FindingText {
    let comparison = match most_changed {
        Some(ShareChange { index, before, now }) => {
            let (low, high) = (index as f64, index as f64 + 1.0);
            let bins = P_VALUE_BINS as f64;
            let part = format!(
                "of the rows have an outlier p-value from {} to {}",
                format_number(low / bins),
                format_number(high / bins)
            );
            share_phrase(&part, now, before)
        }
        None => "the outlier p-values are spread differently".into(),
    };
    FindingText {
        change: change_of("The unusualness of rows", "changed", comparison),
        advice: "The outlier calibration does not hold for the rows scored now: see which \
                 features moved, and retrain."
            .into(),
    }
}

/// The size and the significance of a difference of `about`.
pub(in crate::domain::drift) fn statistics(
    about: ComparedQuantity,
    size: f64,
    figures: Option<&FeatureFigures>,
    significance: &Significance,
) -> String {
    let number = format_number(size);
    let points = format_number(100.0 * size);
    let mut parts = vec![match about {
        ComparedQuantity::Values | ComparedQuantity::Distances | ComparedQuantity::PValues => {
            format!("PSI {number} beyond chance")
        }
        ComparedQuantity::Missing
        | ComparedQuantity::Rare
        | ComparedQuantity::Segments
        | ComparedQuantity::Unassigned => format!("share changed by {points} percentage points"),
        ComparedQuantity::Unseen => {
            format!("{points} percentage points above the expected share")
        }
        ComparedQuantity::Within => format!("mean moved by {number} standard deviations"),
        ComparedQuantity::Outliers => format!("{number} times the promised rate"),
        ComparedQuantity::Stream => format!("{number} detectors"),
    }];
    if let (ComparedQuantity::Values, Some(figures)) = (about, figures)
        && let ValueFigures::Number { moved: Some(moved), .. } = &figures.values
    {
        let distance = format_with_unit(moved.distance, &figures.unit);
        parts.push(format!("values moved by at least {distance} on average"));
    }
    let Significance { adjusted_p_value, effective_sample_size } = significance;
    parts.push(format!("corrected p-value {}", format_p_value(*adjusted_p_value)));
    let rows = format_integer(*effective_sample_size);
    parts.push(format!("effective sample size {rows}"));
    parts.join(", ")
}

fn change_of(subject: &str, predicate: &str, comparison: String) -> DriftChange {
    DriftChange { subject: subject.into(), predicate: predicate.into(), comparison }
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

/// `lowest`: the lowest value at training. `None` without a difference of counts.
fn number_changed(figures: &FeatureFigures, lowest: Option<f64>) -> Option<DriftChange> {
    let FeatureFigures { title, unit, .. } = figures;
    let ValueFigures::Number { moved, median_before, median_now, most_changed, .. } =
        &figures.values
    else {
        return None;
    };
    // In a pure shift the mean moves as far as the values do on average.
    let shift = moved
        .filter(|moved| moved.shift.abs() >= 0.5 * moved.distance)
        .map_or(0.0, |one| one.shift);
    let predicate = match shift {
        0.0 => "changed",
        shift if shift > 0.0 => "rose",
        _ => "fell",
    };
    // The medians are quoted only if they show the direction.
    let typical = median_before
        .zip(*median_now)
        .filter(|(before, now)| (position(*now) - position(*before)) * shift > 0.0);
    let comparison = match (typical, most_changed) {
        (Some((before, now)), _) => {
            medians(without_bound(now, lowest), without_bound(before, lowest), unit)
        }
        (None, Some(changed)) => bin_shares(*changed, lowest, unit),
        (None, None) => return None,
    };
    Some(change_of(title, predicate, comparison))
}

/// A first bin that ends at the lowest value has this value alone, as counts of 0 often have.
fn without_bound(median: BinnedMedian, lowest: Option<f64>) -> BinnedMedian {
    match median {
        BinnedMedian::AtMost(x) if lowest == Some(x) => BinnedMedian::Near(x),
        median => median,
    }
}

/// The share of values in one bin.
fn bin_shares(changed: BinChange, lowest: Option<f64>, unit: &str) -> String {
    let bin = match (changed.above, changed.up_to) {
        (None, Some(high)) if lowest == Some(high) => format_with_unit(high, unit),
        (None, Some(high)) => format!("at most {}", format_with_unit(high, unit)),
        (Some(low), None) => format!("above {}", format_with_unit(low, unit)),
        // A bin around a single value, which made up most of the training rows.
        (Some(low), Some(high)) if low.next_up() >= high => format_with_unit(high, unit),
        (Some(low), Some(high)) => {
            format!("above {} and up to {}", format_number(low), format_with_unit(high, unit))
        }
        (None, None) => "known".into(),
    };
    format!("{bin} {}", shares_of("the known cases", changed.now, changed.before))
}

fn category_changed(figures: &FeatureFigures, changed: &CategoryChange) -> DriftChange {
    let FeatureFigures { title, unseen, .. } = figures;
    let shares = shares_of("the known cases", changed.now, changed.before);
    let is_new = unseen.is_some_and(|unseen| unseen.now > changed.now / 2.0);
    match &changed.category {
        Some(category) => change_of(title, "changed", format!("{category} {shares}")),
        None if is_new => change_of(title, "took categories that training never had", shares),
        None => change_of(title, "changed", format!("rare or unseen categories {shares}")),
    }
}

/// `in 57 % of the rows, in 2.0 % at training`.
fn shares_of(whole: &str, now: f64, before: f64) -> String {
    format!("in {} of {whole}, in {} at training", format_percent(now), format_percent(before))
}

/// `57 % of the rows, 2.0 % at training`.
fn share_phrase(of_whole: &str, now: f64, before: f64) -> String {
    format!("{} {of_whole}, {} at training", format_percent(now), format_percent(before))
}

/// `typically 13.2 min, 2.1 min at training`.
fn medians(now: BinnedMedian, before: BinnedMedian, unit: &str) -> String {
    format!("typically {}, {} at training", median_text(now, unit), median_text(before, unit))
}

fn median_text(median: BinnedMedian, unit: &str) -> String {
    match median {
        BinnedMedian::Near(x) => format_with_unit(x, unit),
        BinnedMedian::AtMost(x) => format!("at most {}", format_with_unit(x, unit)),
        BinnedMedian::Above(x) => format!("above {}", format_with_unit(x, unit)),
    }
}

/// A number that orders medians.
fn position(median: BinnedMedian) -> f64 {
    match median {
        BinnedMedian::Near(x) | BinnedMedian::AtMost(x) | BinnedMedian::Above(x) => x,
    }
}
