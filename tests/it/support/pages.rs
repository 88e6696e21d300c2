//! Lists that are read page by page.

use serde_json::Value;

use crate::support::TestApp;

/// Every item of the list `items` at `path`, such as `models` of `/v1/models`, read in pages of
/// at most `limit`. The path may have a query.
pub(crate) async fn all_pages(app: &TestApp, path: &str, items: &str, limit: usize) -> Vec<Value> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = app.get(&format!("{path}{separator}limit={limit}{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let found = page[items].as_array().unwrap();
        assert!(found.len() <= limit, "{page}");
        all.extend(found.iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}
