//! Presentation of findings: named figures, number formatting, an SVG chart.

pub(crate) mod alert_facts;
pub(crate) mod number_format;
pub(crate) mod picture;
