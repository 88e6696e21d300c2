//! A notice as it is sent, for the tests of each receiver; the tests of the program
//! use it too.

use segmentd::domain::alert::Notice;

/// Data of the tests about alerts.
pub(crate) fn data(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/alerts").join(name)
}

/// A feature that drifted.
pub(crate) fn drifted() -> Notice {
    serde_json::from_slice(&std::fs::read(data("notice.json")).unwrap()).unwrap()
}
