//! Bar chart of one feature, at training and now.

use serde::{Deserialize, Serialize};

use crate::domain::drift::dependence::FeatureDependence;
use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::drift::window::{DriftWindow, FeatureCounts, WindowLayout, WindowLengthError};
use crate::domain::model::{CategoryCounts, FeatureBins, Model};
use crate::domain::presentation::number_format::{
    format_integer, format_number, format_p_value, format_percent, is_written,
};
use crate::domain::presentation::{
    BarChart, ChartHead, ChartPoint, LABELS, LEFT, LabelledBar, RIGHT,
};

/// Gap between the bars of known values and of missing ones, in bin widths.
const GAP: f64 = 0.5;
/// Most categories with bars of their own; the others share one.
const MAX_BARS: usize = 10;
/// Characters of a category name that fit under its bars.
const MAX_LETTERS: usize = 10;

/// A pair of bars: the shares of all rows at training and now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChartBar {
    pub label: String,
    pub before: f64,
    pub now: f64,
}

/// A chart and the shares it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureChart {
    pub svg: String,
    /// The bars in order; missing values, if any, come last.
    pub bars: Vec<ChartBar>,
}

/// Draws one feature of `model`. `None`: the model has no feature of this name, or it is
/// sensitive.
pub fn draw_feature_chart(
    model: &Model,
    window: &DriftWindow,
    feature: &str,
) -> Result<Option<FeatureChart>, WindowLengthError> {
    let layout = WindowLayout::of(model);
    let training = layout.reference();
    let (before, now) = (layout.view(&training)?, layout.view(window)?);
    let mut references = model.drift_baseline().features.iter().enumerate();
    let found = references.find(|(_, one)| *model.features()[one.feature].name == *feature);
    let Some((index, reference)) = found else { return Ok(None) };
    let (before, now) = (before.feature(index), now.feature(index));
    // Without tests the dependence of the rows does not matter.
    let figures = FeatureFigures::of(model, reference, before, now, FeatureDependence::INDEPENDENT);
    let mut bars = bars(&reference.bins, &figures, before, now);
    let missing = ChartBar {
        label: "missing".into(),
        before: share(figures.before.missing as f64, figures.before.all() as f64),
        now: share(figures.now.missing as f64, figures.now.all() as f64),
    };
    let cuts = match &reference.bins {
        FeatureBins::Numbers(numbers) => numbers.cuts.as_slice(),
        FeatureBins::Categories(_) => &[],
    };
    let svg = draw(&figures, &bars, &missing, cuts);
    if missing.is_shown() {
        bars.push(missing);
    }
    Ok(Some(FeatureChart { svg, bars }))
}

impl ChartBar {
    fn is_shown(&self) -> bool {
        self.before > 0.0 || self.now > 0.0
    }

    fn labelled(&self) -> [LabelledBar; 2] {
        [self.before, self.now].map(|share| LabelledBar {
            value: share,
            text: format!("{}: {}", self.label, format_percent(share)),
        })
    }
}

fn bars(
    bins: &FeatureBins,
    figures: &FeatureFigures,
    before: FeatureCounts<'_>,
    now: FeatureCounts<'_>,
) -> Vec<ChartBar> {
    let (all_before, all_now) = (figures.before.all() as f64, figures.now.all() as f64);
    let mut bars = Vec::with_capacity(before.bins.len());
    for (index, (count_before, count_now)) in before.bins.iter().zip(now.bins).enumerate() {
        bars.push(ChartBar {
            label: match bins {
                FeatureBins::Numbers(numbers) => range_label(&numbers.cuts, index),
                FeatureBins::Categories(categories) => category_label(categories, index),
            },
            before: share(*count_before as f64, all_before),
            now: share(*count_now as f64, all_now),
        });
    }
    match bins {
        FeatureBins::Numbers(_) => bars,
        FeatureBins::Categories(_) => merge_rare_categories(bars),
    }
}

/// Label of a bin of numbers: `above 10 up to 20`, without the bound of an open end.
fn range_label(cuts: &[f64], bin: usize) -> String {
    let low = bin.checked_sub(1).and_then(|cut| cuts.get(cut));
    let low = low.map(|low| format!("above {}", format_number(*low)));
    let high = cuts.get(bin).map(|high| format!(" up to {}", format_number(*high)));
    format!("{}{}", low.unwrap_or_default(), high.unwrap_or_default())
}

fn category_label(categories: &CategoryCounts, index: usize) -> String {
    categories.counts.get(index).map_or("all other", |(name, _)| name).into()
}

/// Adds all but the [`MAX_BARS`] most frequent categories, by the larger share of both
/// periods, to the last bar, which is that of all other categories.
fn merge_rare_categories(mut bars: Vec<ChartBar>) -> Vec<ChartBar> {
    let Some(mut other) = bars.pop() else { return bars };
    bars.sort_by(|a, b| b.before.max(b.now).total_cmp(&a.before.max(a.now)));
    for bar in bars.split_off(bars.len().min(MAX_BARS)) {
        other.before += bar.before;
        other.now += bar.now;
    }
    bars.push(other);
    bars
}

/// Draws the chart; `cuts` are the labels between bins of numbers, empty for categories.
fn draw(figures: &FeatureFigures, bars: &[ChartBar], missing: &ChartBar, cuts: &[f64]) -> String {
    let with_missing = missing.is_shown();
    let shown = bars.iter().chain(with_missing.then_some(missing));
    let tallest = shown.map(|bar| bar.before.max(bar.now)).fold(0.0, f64::max);
    let columns = bars.len() as f64 + if with_missing { 1.0 + GAP } else { 0.0 };
    let width = (RIGHT - LEFT) / columns;
    let mut chart = begin_chart(figures, columns, y_axis_end(tallest));
    for (index, bar) in bars.iter().enumerate() {
        chart.bar_pair(LEFT + index as f64 * width, &bar.labelled());
    }
    if with_missing {
        chart.bar_pair(RIGHT - width, &missing.labelled());
        chart.text(ChartPoint { x: RIGHT - width / 2.0, y: LABELS }, "middle", "missing");
    }
    // Numbers are labelled at the cuts between bins, categories under their bars.
    for (index, cut) in cuts.iter().enumerate() {
        chart.x_mark(LEFT + (index as f64 + 1.0) * width, &format_number(*cut));
    }
    if cuts.is_empty() {
        for (index, bar) in bars.iter().enumerate() {
            let x = LEFT + (index as f64 + 0.5) * width;
            chart.text(ChartPoint { x, y: LABELS }, "middle", &shortened(&bar.label));
        }
    }
    chart.finish()
}

/// Title, test result and legend of a feature.
fn begin_chart(figures: &FeatureFigures, columns: f64, y_end: f64) -> BarChart {
    let FeatureFigures { title, unit, before, now, psi, .. } = figures;
    let name = if is_written(unit) { format!("{title} ({unit})") } else { title.to_string() };
    let result = psi.map_or("Too few rows to compare".into(), |psi| {
        format!(
            "PSI {} ({} by chance alone), p {}",
            format_number(psi.value),
            format_number(psi.by_chance),
            format_p_value(psi.p_value)
        )
    });
    let head = ChartHead {
        description: &format!("{name}: at training and now"),
        name: &name,
        subtitle: &result,
        legend: [
            &format!("at training: {} rows", format_integer(before.all() as f64)),
            &format!("now: {} rows", format_integer(now.all() as f64)),
        ],
    };
    BarChart::begin(&head, columns, y_end, format_percent)
}

/// End of the y axis: the smallest of 1, 2, 4, 10, 20, 40 and 100 % that fits `tallest`.
fn y_axis_end(tallest: f64) -> f64 {
    let ends = [0.01, 0.02, 0.04, 0.1, 0.2, 0.4];
    ends.into_iter().find(|end| tallest <= *end).unwrap_or(1.0)
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MAX_LETTERS {
        return label.into();
    }
    label.chars().take(MAX_LETTERS - 1).chain(['…']).collect()
}
