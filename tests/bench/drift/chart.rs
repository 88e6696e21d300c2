//! Findings by week, as an SVG.

use std::fmt::Write as _;

use segmentd::domain::drift::Severity;
use segmentd::domain::presentation::escape_xml;

const LEFT: usize = 380;
const TOP: usize = 74;
const CELL: usize = 13;
const ROW: usize = 18;
const INK: &str = "#1f2933";
/// The interval of labelled weeks.
const NAMED: usize = 4;

/// The findings about one subject, by week.
pub(super) struct Line {
    pub(super) title: String,
    pub(super) marks: Vec<Option<Severity>>,
}

impl Line {
    pub(super) fn first(&self) -> Option<usize> {
        self.marks.iter().position(Option::is_some)
    }
}

/// A row for each line, a column for each week. `head` is a title and a subtitle.
pub(super) fn timeline(head: (&str, &str), weeks: &[String], lines: &[Line]) -> String {
    let bottom = TOP + lines.len() * ROW;
    let (width, height) = (LEFT + weeks.len() * CELL + 70, bottom + 46);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"{INK}\">\
         <title>{title}: findings by week</title>\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\
         <text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"600\">{title}: findings by week\
         </text>",
        title = escape_xml(head.0),
    );
    text(&mut svg, (16, 44), "start", head.1);
    for (place, severity) in Severity::ALL.into_iter().enumerate() {
        let x = 16 + 80 * place;
        square(&mut svg, (x, 53), severity);
        text(&mut svg, (x + 15, 62), "start", severity.as_str());
    }
    for (row, line) in lines.iter().enumerate() {
        let y = TOP + row * ROW;
        text(&mut svg, (LEFT - 8, y + 11), "end", &line.title);
        rule(&mut svg, (LEFT, y + ROW - 1), (LEFT + weeks.len() * CELL, y + ROW - 1), "#e4e7eb");
        for (week, mark) in line.marks.iter().enumerate() {
            if let Some(severity) = mark {
                square(&mut svg, (LEFT + week * CELL + 1, y + 3), *severity);
            }
        }
    }
    rule(&mut svg, (LEFT, bottom), (LEFT + weeks.len() * CELL, bottom), INK);
    for (place, week) in weeks.iter().enumerate().step_by(NAMED) {
        let x = LEFT + place * CELL + CELL / 2;
        rule(&mut svg, (x, bottom), (x, bottom + 4), INK);
        // Without the year, which is in the title.
        text(&mut svg, (x, bottom + 18), "middle", &week[5..]);
    }
    text(&mut svg, (LEFT + weeks.len() * CELL / 2, bottom + 36), "middle", "week that ends on");
    svg.push_str("</svg>\n");
    svg
}

fn square(svg: &mut String, (x, y): (usize, usize), severity: Severity) {
    let colour = match severity {
        Severity::Notice => "#f3c27c",
        Severity::Warning => "#e8772e",
        Severity::Critical => "#a61b1b",
    };
    let side = CELL - 2;
    let _ =
        write!(svg, r#"<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{colour}"/>"#);
}

fn rule(svg: &mut String, from: (usize, usize), to: (usize, usize), colour: &str) {
    let _ = write!(
        svg,
        r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{colour}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, (x, y): (usize, usize), anchor: &str, words: &str) {
    let _ =
        write!(svg, r#"<text x="{x}" y="{y}" text-anchor="{anchor}">{}</text>"#, escape_xml(words));
}
