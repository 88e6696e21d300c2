//! Presentation to people: charts as SVG, numbers and times in sentences.

mod bar_chart;
pub(crate) mod effect_plot;
pub(crate) mod forest_plot;
pub mod number_format;
mod xml;

pub(in crate::domain) use bar_chart::{
    BarChart, ChartHead, ChartPoint, LABELS, LEFT, LabelledBar, RIGHT, axis_end,
};
pub use xml::escape_xml;
