//! Charts as SVG.

mod bar_chart;
mod xml;

pub(in crate::domain) use bar_chart::{
    BarChart, ChartHead, ChartPoint, LABELS, LEFT, LabelledBar, RIGHT,
};
pub use xml::escape_xml;
