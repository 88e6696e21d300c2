//! Bar chart of pairs, as an SVG for web pages and e-mails.
//!
//! The SVG is self-contained: it brings its colours and background, and uses no script, no
//! style sheet and no font beyond the reader's.

use std::fmt::Write as _;

use crate::domain::presentation::xml::escape_xml;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
/// Edges of the plot area.
pub(in crate::domain) const LEFT: f64 = 52.0;
pub(in crate::domain) const RIGHT: f64 = 704.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 276.0;
/// Baseline of the labels under the plot.
pub(in crate::domain) const LABELS: f64 = BOTTOM + 18.0;

const FIRST: &str = "#7b8794";
const SECOND: &str = "#c2410c";
const INK: &str = "#1f2933";
const GRID: &str = "#d3d9e0";

/// Texts above the plot.
#[derive(Debug)]
pub(in crate::domain) struct ChartHead<'h> {
    /// Name of the chart, shown.
    pub(in crate::domain) name: &'h str,
    /// Name for screen readers.
    pub(in crate::domain) description: &'h str,
    pub(in crate::domain) subtitle: &'h str,
    /// What the first and the second bar of each pair show.
    pub(in crate::domain) legend: [&'h str; 2],
}

/// An SVG under construction.
#[derive(Debug)]
pub(in crate::domain) struct BarChart {
    svg: String,
    column_width: f64,
    /// Value at the end of the y axis.
    y_end: f64,
}

/// A place in the picture.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct ChartPoint {
    pub(in crate::domain) x: f64,
    pub(in crate::domain) y: f64,
}

/// One bar with the text that a pointer over it shows.
#[derive(Debug)]
pub(in crate::domain) struct LabelledBar {
    pub(in crate::domain) value: f64,
    pub(in crate::domain) text: String,
}

impl BarChart {
    /// Draws everything above and behind the bars. `columns`: how many pairs fit side by side;
    /// `y_label`: of a value on the y axis.
    pub(in crate::domain) fn begin(
        head: &ChartHead<'_>,
        columns: f64,
        y_end: f64,
        y_label: impl Fn(f64) -> String,
    ) -> Self {
        let column_width = (RIGHT - LEFT) / columns;
        let mut chart = Self { svg: String::new(), column_width, y_end };
        chart.draw_head(head);
        for part in [0.0, 0.5, 1.0] {
            let y = BOTTOM - part * (BOTTOM - TOP);
            chart.line(ChartPoint { x: LEFT, y }, ChartPoint { x: RIGHT, y }, GRID);
            chart.text(ChartPoint { x: LEFT - 6.0, y: y + 4.0 }, "end", &y_label(part * y_end));
        }
        chart
    }

    fn draw_head(&mut self, head: &ChartHead<'_>) {
        let (name, description) = (escape_xml(head.name), escape_xml(head.description));
        let _ = write!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"{INK}\">\
             <title>{description}</title>\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
        );
        let _ = write!(
            self.svg,
            r#"<text x="16" y="26" font-size="15" font-weight="600">{name}</text>"#
        );
        self.text(ChartPoint { x: 16.0, y: 44.0 }, "start", head.subtitle);
        for ((x, colour), label) in [(16.0, FIRST), (216.0, SECOND)].into_iter().zip(head.legend) {
            let _ = write!(
                self.svg,
                r#"<rect x="{x}" y="53" width="10" height="10" fill="{colour}"/>"#
            );
            self.text(ChartPoint { x: x + 15.0, y: 62.0 }, "start", label);
        }
    }

    pub(in crate::domain) const fn column_width(&self) -> f64 {
        self.column_width
    }

    /// The bars of one column that begins at `left`.
    pub(in crate::domain) fn bar_pair(&mut self, left: f64, pair: &[LabelledBar; 2]) {
        for (bar, (side, colour)) in pair.iter().zip([(0.1, FIRST), (0.5, SECOND)]) {
            let height = (bar.value / self.y_end).min(1.0) * (BOTTOM - TOP);
            let _ = write!(
                self.svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill=\"{colour}\"><title>{}</title></rect>",
                left + side * self.column_width,
                BOTTOM - height,
                0.4 * self.column_width,
                height,
                escape_xml(&bar.text),
            );
        }
    }

    /// A mark on the x axis with its label.
    pub(in crate::domain) fn x_mark(&mut self, x: f64, label: &str) {
        self.line(ChartPoint { x, y: BOTTOM }, ChartPoint { x, y: BOTTOM + 4.0 }, INK);
        self.text(ChartPoint { x, y: LABELS }, "middle", label);
    }

    pub(in crate::domain) fn text(&mut self, at: ChartPoint, anchor: &str, words: &str) {
        let ChartPoint { x, y } = at;
        let _ = write!(
            self.svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
            escape_xml(words)
        );
    }

    fn line(&mut self, from: ChartPoint, to: ChartPoint, colour: &str) {
        let _ = write!(
            self.svg,
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}"/>"#,
            from.x, from.y, to.x, to.y
        );
    }

    /// Draws the x axis over the bars; returns the SVG.
    pub(in crate::domain) fn finish(mut self) -> String {
        self.line(ChartPoint { x: LEFT, y: BOTTOM }, ChartPoint { x: RIGHT, y: BOTTOM }, INK);
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that fits `tallest`.
pub(in crate::domain) fn axis_end(tallest: f64) -> f64 {
    let power = 10_f64.powf(tallest.max(f64::MIN_POSITIVE).log10().floor());
    let ends = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    ends.into_iter().find(|end| tallest <= *end).unwrap_or(tallest)
}
