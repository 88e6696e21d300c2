//! Forest plot: estimates with their intervals below each other, as an SVG (Lewis and Clarke 2001).

use std::fmt::Write as _;

use crate::domain::presentation::xml::escape_xml;

const WIDTH: f64 = 720.0;
/// Edges of the plot area; the labels are left of it, the figures right of it.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 70.0;
const ROW_HEIGHT: f64 = 24.0;
const FOOT: f64 = 34.0;

const INK: &str = "#1f2933";
const GRID: &str = "#d3d9e0";
const MARK: &str = "#c2410c";

/// Texts above the plot.
#[derive(Debug)]
pub(crate) struct ForestHead<'h> {
    /// Name of the plot, shown.
    pub(crate) name: &'h str,
    pub(crate) subtitle: &'h str,
}

/// One estimate.
#[derive(Debug)]
pub(crate) struct ForestRow {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// Lower and upper bound.
    pub(crate) interval: [f64; 2],
    /// The figures in words, right of the plot.
    pub(crate) figures: String,
    /// An estimate of all rows below it, which is emphasised.
    pub(crate) is_total: bool,
}

/// The x axis, which includes 0.
struct ValueAxis {
    low: f64,
    high: f64,
}

impl ValueAxis {
    fn of(rows: &[ForestRow]) -> Self {
        let ends = rows.iter().flat_map(|row| row.interval);
        let low = ends.clone().fold(0.0, f64::min);
        let high = ends.fold(0.0, f64::max);
        let margin = if high > low { 0.04 * (high - low) } else { 1.0 };
        Self { low: low - margin, high: high + margin }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.low) / (self.high - self.low) * (RIGHT - LEFT)
    }

    /// Multiples of 1, 2 or 5 times a power of ten, about four of them.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let mut ticks = Vec::new();
        let mut tick = (self.low / step).ceil() * step;
        while tick <= self.high {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

/// Draws the estimates; `format` is that of the numbers on the axis.
pub(crate) fn draw_forest_plot(
    head: &ForestHead<'_>,
    rows: &[ForestRow],
    format: fn(f64) -> String,
) -> String {
    let bottom = TOP + ROW_HEIGHT * rows.len() as f64;
    let height = bottom + FOOT;
    let (name, subtitle) = (escape_xml(head.name), escape_xml(head.subtitle));
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"{INK}\">\
         <title>{name}</title><rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\
         <text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"600\">{name}</text>\
         <text x=\"16\" y=\"44\">{subtitle}</text>"
    );
    let axis = ValueAxis::of(rows);
    for tick in axis.ticks() {
        let (x, colour) = (axis.x(tick), if tick == 0.0 { INK } else { GRID });
        let _ = write!(
            svg,
            r#"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom:.1}" stroke="{colour}"/>"#
        );
        let _ = write!(
            svg,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 16.0,
            escape_xml(&format(tick))
        );
    }
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut svg, row, &axis, TOP + ROW_HEIGHT * (index as f64 + 0.5));
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_row(svg: &mut String, row: &ForestRow, axis: &ValueAxis, y: f64) {
    let weight = if row.is_total { 600 } else { 400 };
    let half = if row.is_total { 5.0 } else { 3.5 };
    let [low, high] = row.interval.map(|end| axis.x(end));
    let (label, figures) = (escape_xml(&row.label), escape_xml(&row.figures));
    let _ = write!(
        svg,
        r#"<text x="16" y="{0:.1}" font-weight="{weight}">{label}</text><text x="{1}" y="{0:.1}">{figures}</text>"#,
        y + 4.0,
        RIGHT + 12.0,
    );
    let _ = write!(
        svg,
        r#"<line x1="{low:.1}" y1="{y:.1}" x2="{high:.1}" y2="{y:.1}" stroke="{MARK}" stroke-width="2"/>"#
    );
    let _ = write!(
        svg,
        r#"<rect x="{:.1}" y="{:.1}" width="{2}" height="{2}" fill="{MARK}"/>"#,
        axis.x(row.value) - half,
        y - half,
        2.0 * half,
    );
}
