//! A sample notification, shared with the tests in `tests/it`.

use segmentd::domain::alert::Notification;

/// A file of `tests/data/alerts`.
pub(crate) fn data(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/alerts").join(name)
}

/// A feature that drifted.
pub(crate) fn drifted() -> Notification {
    serde_json::from_slice(&std::fs::read(data("notice.json")).unwrap()).unwrap()
}
