//! Bar chart of one feature, at training and now, as an SVG for web pages and e-mails.
//!
//! The SVG is self-contained: it brings its colours and background, and uses no script, no
//! style sheet and no font beyond the reader's.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::domain::drift::dependence::FeatureDependence;
use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::report::number_format::{
    format_integer, format_number, format_p_value, format_percent, is_written,
};
use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::drift::window::{DriftWindow, FeatureCounts, WindowLayout, WindowLengthError};
use crate::domain::model::{CategoryCounts, FeatureBins, Model};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
/// Edges of the plot area.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 704.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 276.0;
/// Baseline of the labels under the plot.
const LABELS: f64 = BOTTOM + 18.0;
/// Gap between the bars of known values and of missing ones, in bin widths.
const GAP: f64 = 0.5;
/// Most categories with bars of their own; the others share one.
const MAX_BARS: usize = 10;
/// Characters of a category name that fit under its bars.
const MAX_LETTERS: usize = 10;

const BEFORE: &str = "#7b8794";
const NOW: &str = "#c2410c";
const INK: &str = "#1f2933";

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
    let mut chart =
        BarChart { svg: String::new(), column_width: width, y_end: y_axis_end(tallest) };

    chart.head(figures);
    for part in [0.0, 0.5, 1.0] {
        let y = BOTTOM - part * (BOTTOM - TOP);
        chart.line(ChartPoint { x: LEFT, y }, ChartPoint { x: RIGHT, y }, "#d3d9e0");
        chart.text(
            ChartPoint { x: LEFT - 6.0, y: y + 4.0 },
            "end",
            &format_percent(part * chart.y_end),
        );
    }
    for (index, bar) in bars.iter().enumerate() {
        chart.bar_pair(bar, LEFT + index as f64 * width);
    }
    if with_missing {
        chart.bar_pair(missing, RIGHT - width);
        chart.text(ChartPoint { x: RIGHT - width / 2.0, y: LABELS }, "middle", "missing");
    }
    // Numbers are labelled at the cuts between bins, categories under their bars.
    for (index, cut) in cuts.iter().enumerate() {
        let x = LEFT + (index as f64 + 1.0) * width;
        chart.line(ChartPoint { x, y: BOTTOM }, ChartPoint { x, y: BOTTOM + 4.0 }, INK);
        chart.text(ChartPoint { x, y: LABELS }, "middle", &format_number(*cut));
    }
    if cuts.is_empty() {
        for (index, bar) in bars.iter().enumerate() {
            let x = LEFT + (index as f64 + 0.5) * width;
            chart.text(ChartPoint { x, y: LABELS }, "middle", &shortened(&bar.label));
        }
    }
    chart.line(ChartPoint { x: LEFT, y: BOTTOM }, ChartPoint { x: RIGHT, y: BOTTOM }, INK);
    chart.svg.push_str("</svg>\n");
    chart.svg
}

/// An SVG under construction.
struct BarChart {
    svg: String,
    column_width: f64,
    /// Share at the end of the y axis.
    y_end: f64,
}

#[derive(Clone, Copy)]
struct ChartPoint {
    x: f64,
    y: f64,
}

impl BarChart {
    /// Opening tag, title, test result and legend: everything above the plot.
    fn head(&mut self, figures: &FeatureFigures) {
        let FeatureFigures { title, unit, before, now, psi, .. } = figures;
        let name = if is_written(unit) { format!("{title} ({unit})") } else { title.to_string() };
        let name = escape_xml(&name);
        let _ = write!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"{INK}\">\
             <title>{name}: at training and now</title>\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
        );
        let _ = write!(
            self.svg,
            r#"<text x="16" y="26" font-size="15" font-weight="600">{name}</text>"#
        );
        let result = psi.map_or("Too few rows to compare".into(), |psi| {
            format!(
                "PSI {} ({} by chance alone), p {}",
                format_number(psi.value),
                format_number(psi.by_chance),
                format_p_value(psi.p_value)
            )
        });
        self.text(ChartPoint { x: 16.0, y: 44.0 }, "start", &result);
        let legend = [
            (16.0, BEFORE, format!("at training: {} rows", format_integer(before.all() as f64))),
            (216.0, NOW, format!("now: {} rows", format_integer(now.all() as f64))),
        ];
        for (x, colour, label) in legend {
            let _ = write!(
                self.svg,
                r#"<rect x="{x}" y="53" width="10" height="10" fill="{colour}"/>"#
            );
            self.text(ChartPoint { x: x + 15.0, y: 62.0 }, "start", &label);
        }
    }

    /// The bars of one column, at training and now.
    fn bar_pair(&mut self, bar: &ChartBar, left: f64) {
        for (share, side, colour) in [(bar.before, 0.1, BEFORE), (bar.now, 0.5, NOW)] {
            let height = (share / self.y_end).min(1.0) * (BOTTOM - TOP);
            let _ = write!(
                self.svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill=\"{colour}\"><title>{}: {}</title></rect>",
                left + side * self.column_width,
                BOTTOM - height,
                0.4 * self.column_width,
                height,
                escape_xml(&bar.label),
                format_percent(share),
            );
        }
    }

    fn line(&mut self, from: ChartPoint, to: ChartPoint, colour: &str) {
        let _ = write!(
            self.svg,
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}"/>"#,
            from.x, from.y, to.x, to.y
        );
    }

    fn text(&mut self, at: ChartPoint, anchor: &str, words: &str) {
        let ChartPoint { x, y } = at;
        let _ = write!(
            self.svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
            escape_xml(words)
        );
    }
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

/// Escapes text for XML and HTML: for element content and for double-quoted attributes.
pub fn escape_xml(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            // XML 1.0 allows no control characters, not even as references.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    text
}
