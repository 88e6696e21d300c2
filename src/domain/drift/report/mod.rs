//! Presentation of a finding: figures with names, numbers for people, a picture.

pub(crate) mod alert_facts;
pub(crate) mod number_format;
pub(crate) mod picture;
