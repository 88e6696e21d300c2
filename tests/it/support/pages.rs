//! Lists, read page by page.

use serde_json::Value;

use crate::support::TestApp;

/// The elements of every page of at most `limit` elements of a list, such as `models` of
/// `/v1/models`.
pub(crate) async fn all_pages(app: &TestApp, path: &str, list: &str, limit: usize) -> Vec<Value> {
    let mut elements = Vec::new();
    let mut next = format!("{path}?limit={limit}");
    loop {
        let (status, page) = app.get(&next).await;
        assert_eq!(status, 200, "{page}");
        let found = page[list].as_array().unwrap();
        assert!(found.len() <= limit, "{page}");
        elements.extend(found.iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return elements };
        next = format!("{path}?limit={limit}&cursor={cursor}");
    }
}
