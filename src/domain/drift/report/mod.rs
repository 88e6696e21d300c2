//! Presentation of findings: sentences, named figures, number formatting, an SVG chart.

pub(crate) mod alert_facts;
pub(crate) mod alert_text;
pub(in crate::domain::drift) mod finding_text;
pub(crate) mod picture;
