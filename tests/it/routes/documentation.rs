//! `/docs` and `/openapi.json`: the documentation needs no key, and loads nothing from elsewhere.

use segmentd::api::openapi_document;

use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_describes_every_operation_and_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let client = reqwest::Client::new();
    let get = async |path: &str| {
        let answer = client.get(format!("{}{path}", app.url)).send().await.unwrap();
        let policy = answer.headers().get("content-security-policy").cloned();
        let policy = policy.map(|policy| policy.to_str().unwrap().to_owned()).unwrap_or_default();
        (answer.status().as_u16(), policy, answer.text().await.unwrap())
    };
    let (status, policy, page) = get("/docs").await;
    assert_eq!(status, 200);
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for item in openapi_document()["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = format!("id=\"{}\"", operation["operationId"].as_str().unwrap());
            assert!(page.contains(&id), "{id}");
        }
    }
    let mut guides = 0;
    for link in page.split("href=").skip(1).chain(page.split("src=").skip(1)) {
        let link = link.trim_start_matches('"').split(['"', '>', ' ']).next().unwrap();
        assert!(link.starts_with('/') || link.starts_with('#'), "{link}");
        if link.starts_with("/docs/") {
            let (status, _, text) = get(link).await;
            assert_eq!(status, 200, "{link}");
            assert!(!text.contains("src=\"http"), "{link}");
            guides += usize::from(link.starts_with("/docs/guides/"));
        }
    }
    assert!(guides >= 10, "{guides}");
    assert_eq!(get("/docs/guides/none").await.0, 404);
    let (status, _, settings) = get("/docs/files/config/default.toml").await;
    assert_eq!(status, 200);
    assert!(settings.contains("[http]"), "{settings}");
    assert_eq!(get("/docs/files/config/secret.toml").await.0, 404);
    app.stop().await;
}
