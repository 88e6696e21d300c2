//! `/v1/keys`: create, list, rotate and revoke API keys, as an administrator and as the
//! application that sends the key.

use segmentd::domain::access::AccessScope;
use segmentd::domain::access::api_key::ApiKeyRequest;
use segmentd::domain::time::Timestamp;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::TestApp;

const MINUTE_MILLIS: i64 = 60_000;

/// Creates a key; returns its properties with the secret.
async fn created(app: &TestApp, request: Value) -> Value {
    let (status, key) = app.post("/v1/keys", request.to_string()).await;
    assert_eq!(status, 201, "{key}");
    key
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap()
}

/// Status of a read with this key.
async fn read(app: &TestApp, key: &str) -> u16 {
    app.get_as(key, "/v1/segments").await.0
}

/// The fields of the faults of a refused request.
async fn faulty_fields(app: &TestApp, path: &str, body: Value) -> Vec<String> {
    let (status, problem) = app.post(path, body.to_string()).await;
    assert_eq!(status, 422, "{problem}");
    let errors = problem["errors"].as_array().unwrap().iter();
    errors.map(|error| text(error, "field").to_owned()).collect()
}

/// A clock that the test moves, and the app that reads it.
async fn app_with_clock() -> (TestApp, Timestamp, impl Fn(i64)) {
    let start = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
    let (clock, handle) = TimeSource::manual(start);
    let app = TestApp::start_at(clock, &[]).await;
    let set = move |millis: i64| {
        handle.store(start.plus_millis(millis).millis(), std::sync::atomic::Ordering::Relaxed);
    };
    (app, start, set)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_created_listed_used_and_revoked() {
    let app = TestApp::start().await;
    let key = created(&app, json!({ "name": "dashboards", "scopes": ["read"] })).await;
    let (secret, id) = (text(&key, "key"), text(&key, "key_id"));
    assert!(secret.starts_with(&format!("sgm_{id}_")), "{key}");
    assert_eq!(read(&app, secret).await, 200);
    assert_eq!(app.get_as(secret, "/v1/keys").await.0, 403, "the scope is `admin`");

    let path = format!("/v1/keys/{id}");
    let (_, one) = app.get(&path).await;
    assert_eq!((&one["name"], &one["status"]), (&json!("dashboards"), &json!("valid")));
    assert_eq!((&one["scopes"], &one["is_public"]), (&json!(["read"]), &json!(false)));
    assert_eq!(one["expires_at"], Value::Null);
    let (_, listed) = app.get("/v1/keys").await;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(secret), "the secret is returned once");

    assert_eq!(app.delete(&path).await.0, 204);
    assert_eq!(read(&app, secret).await, 401);
    assert_eq!(app.delete(&path).await.0, 404);
    assert_eq!(app.get("/v1/keys").await.1["keys"].as_array().unwrap().len(), 1);
    let (_, all) = app.get("/v1/keys?revoked=true").await;
    assert_eq!(all["keys"][0]["status"], "revoked", "the newest first: {all}");
    assert_eq!(app.get("/v1/keys/unknown").await.0, 404);
    app.stop().await;
}

/// Keys of one instant are neither skipped nor repeated at the border of a page.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_page_by_page() {
    let (app, ..) = app_with_clock().await;
    let mut expected = vec![app.key.split('_').nth(1).unwrap().to_owned()];
    for number in 0..5 {
        let name = format!("key {number}");
        let key = created(&app, json!({ "name": name, "scopes": ["read"] })).await;
        expected.push(text(&key, "key_id").to_owned());
    }
    let (mut found, mut path) = (Vec::new(), "/v1/keys?limit=2".to_owned());
    loop {
        let (status, page) = app.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let keys = page["keys"].as_array().unwrap();
        found.extend(keys.iter().map(|key| text(key, "key_id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/keys?limit=2&cursor={cursor}");
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);

    for (query, field, problem) in [
        ("limit=0", "limit", "must be from 1 to 1000"),
        ("limit=many", "limit", "must be a whole number"),
        ("cursor=s1", "cursor", "must be the `next_cursor` of a page of this list"),
        ("revoked=maybe", "revoked", "must be true or false"),
        ("limit=1&limit=2", "limit", "is given twice"),
        ("status=valid", "status", "unknown field; the fields are `revoked`, `limit`, `cursor`"),
    ] {
        let (status, refusal) = app.get(&format!("/v1/keys?{query}")).await;
        assert_eq!(status, 422, "{query}: {refusal}");
        assert_eq!(refusal["errors"], json!([{ "field": field, "problem": problem }]), "{query}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_request_is_named_with_its_field() {
    let app = TestApp::start().await;
    for (request, fields) in [
        (json!({}), vec!["name"]),
        (json!({ "name": "x", "scopes": "read" }), vec!["scopes"]),
        (json!({ "name": "x", "scopes": ["read"], "expiry": 1 }), vec!["expiry"]),
        (json!({ "name": "x", "scopes": ["read"], "expires_at": "soon" }), vec!["expires_at"]),
        (
            json!({ "name": "x", "scopes": ["read"], "limits": { "events_per_second": -1 } }),
            vec!["limits.events_per_second"],
        ),
        (
            json!({
                "name": "", "scopes": ["reed"], "expires_at": "2020-01-01T00:00:00Z",
                "allowed_origins": ["shop.example/path"],
                "limits": { "requests_per_second": 4_000_000_000_u32 },
            }),
            vec![
                "name",
                "scopes[0]",
                "expires_at",
                "allowed_origins[0]",
                "limits.requests_per_second",
            ],
        ),
        (json!({ "name": "x", "scopes": ["track", "read"] }), vec!["scopes"]),
        (json!({ "name": "x", "scopes": [] }), vec!["scopes"]),
    ] {
        assert_eq!(faulty_fields(&app, "/v1/keys", request.clone()).await, fields, "{request}");
    }
    let values_only = json!(["an array", ["read"], null, [], {}]);
    assert_eq!(faulty_fields(&app, "/v1/keys", values_only).await, ["body"]);
    let values_only = json!({ "name": "x", "scopes": ["read"], "limits": [1, 2, 3] });
    assert_eq!(faulty_fields(&app, "/v1/keys", values_only).await, ["limits"]);
    let key = created(&app, json!({ "name": "x", "scopes": ["read"] })).await;
    let rotate = format!("/v1/keys/{}/rotate", text(&key, "key_id"));
    for wrong in [json!({ "overlap_seconds": 1_000_000_000 }), json!({ "overlap_seconds": "day" })]
    {
        assert_eq!(faulty_fields(&app, &rotate, wrong).await, ["overlap_seconds"]);
    }
    assert_eq!(app.post("/v1/keys/unknown/rotate", "").await.0, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_are_accepted_during_the_overlap_of_a_rotation() {
    let (app, start, set_clock) = app_with_clock().await;
    let key = created(&app, json!({ "name": "shop", "scopes": ["read"] })).await;
    let (first, id) = (text(&key, "key").to_owned(), text(&key, "key_id"));
    let rotate = format!("/v1/keys/{id}/rotate");
    let (status, rotated) = app.post(&rotate, r#"{"overlap_seconds": 600}"#).await;
    assert_eq!(status, 200, "{rotated}");
    let second = text(&rotated, "key").to_owned();
    let ends_at = start.plus_millis(10 * MINUTE_MILLIS).to_string();
    assert_eq!(text(&rotated, "previous_secret_ends_at"), ends_at);
    assert_eq!((read(&app, &first).await, read(&app, &second).await), (200, 200));

    set_clock(10 * MINUTE_MILLIS);
    assert_eq!((read(&app, &first).await, read(&app, &second).await), (401, 200));
    let (_, problem) = app.get_as(&first, "/v1/segments").await;
    assert!(text(&problem, "detail").contains(&ends_at), "{problem}");

    // By default a day. Without an overlap, the secret before is refused at once.
    let (_, rotated) = app.post(&rotate, "").await;
    let third = text(&rotated, "key").to_owned();
    let day = start.plus_millis((10 + 24 * 60) * MINUTE_MILLIS).to_string();
    assert_eq!(text(&rotated, "previous_secret_ends_at"), day);
    let (_, rotated) = app.post(&rotate, r#"{"overlap_seconds": 0}"#).await;
    let fourth = text(&rotated, "key");
    assert_eq!(rotated["previous_secret_ends_at"], Value::Null);
    for old in [&first, &second, &third] {
        assert_eq!(read(&app, old).await, 401);
    }
    assert_eq!(read(&app, fourth).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_refused() {
    let (app, start, set_clock) = app_with_clock().await;
    let ends_at = start.plus_millis(MINUTE_MILLIS);
    let key =
        created(&app, json!({ "name": "x", "scopes": ["read"], "expires_at": ends_at })).await;
    assert_eq!(read(&app, text(&key, "key")).await, 200);
    set_clock(MINUTE_MILLIS);
    let (status, problem) = app.get_as(text(&key, "key"), "/v1/segments").await;
    assert_eq!(status, 401);
    assert!(text(&problem, "detail").contains(&ends_at.to_string()), "{problem}");
    let (_, one) = app.get(&format!("/v1/keys/{}", text(&key, "key_id"))).await;
    assert_eq!(one["status"], "expired");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_key_works_only_from_its_origins() {
    let app = TestApp::start().await;
    let request = json!({
        "name": "web", "scopes": ["track"], "allowed_origins": ["https://Shop.example:443"],
    });
    let key = created(&app, request).await;
    assert_eq!(key["allowed_origins"], json!(["https://shop.example"]));
    let any = created(&app, json!({ "name": "any", "scopes": ["track"] })).await;
    let client = reqwest::Client::new();
    let send = async |key: &str, origin: Option<&str>, is_key_in_body: bool| {
        let mut message = json!({ "event": "Product Viewed", "anonymousId": "a" });
        let mut request = client.post(format!("{}/v1/track", app.url));
        if is_key_in_body {
            message["writeKey"] = key.into();
        } else {
            request = request.basic_auth(key, Some(""));
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(message.to_string()).send().await.unwrap()
    };
    for is_key_in_body in [false, true] {
        let secret = text(&key, "key");
        let allowed = send(secret, Some("https://shop.example"), is_key_in_body).await;
        assert_eq!(allowed.status(), 200);
        for origin in [Some("https://evil.example"), Some("null"), None] {
            let refused = send(secret, origin, is_key_in_body).await;
            assert_eq!(refused.status(), 403, "{origin:?}");
            // A page on another origin may read why.
            let may_read = refused.headers().contains_key("access-control-allow-origin");
            assert!(may_read, "{origin:?}");
        }
        let elsewhere = send(text(&any, "key"), Some("https://evil.example"), is_key_in_body).await;
        assert_eq!(elsewhere.status(), 200);
    }
    let server = json!({
        "name": "x", "scopes": ["ingest"], "allowed_origins": ["https://shop.example"],
    });
    assert_eq!(faulty_fields(&app, "/v1/keys", server).await, ["allowed_origins"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_key_cannot_be_revoked_by_a_request() {
    let (app, start, set_clock) = app_with_clock().await;
    let own = format!("/v1/keys/{}", app.key.split('_').nth(1).unwrap());
    // Another key that has expired does not help.
    let soon = start.plus_millis(MINUTE_MILLIS);
    created(&app, json!({ "name": "x", "scopes": ["admin"], "expires_at": soon })).await;
    set_clock(MINUTE_MILLIS);
    let (status, problem) = app.delete(&own).await;
    assert_eq!(status, 409, "{problem}");
    assert!(text(&problem, "detail").contains("last valid key"), "{problem}");

    let other = created(&app, json!({ "name": "other", "scopes": ["admin"] })).await;
    assert_eq!(app.delete(&own).await.0, 204);
    assert_eq!(app.get("/v1/keys").await.0, 401);
    assert_eq!(app.get_as(text(&other, "key"), "/v1/keys").await.0, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_stored() {
    let (app, start, set_clock) = app_with_clock().await;
    let key = created(&app, json!({ "name": "x", "scopes": ["read"] })).await;
    assert_eq!(key["last_used_at"], Value::Null);
    set_clock(MINUTE_MILLIS);
    assert_eq!(read(&app, text(&key, "key")).await, 200);
    let state = &app.app;
    let next = state.key_registry.store_uses(&state.api_keys, start).await.unwrap();
    let path = format!("/v1/keys/{}", text(&key, "key_id"));
    let (_, one) = app.get(&path).await;
    assert_eq!(text(&one, "last_used_at"), start.plus_millis(MINUTE_MILLIS).to_string());
    // A key that was not used since is not written again.
    set_clock(2 * MINUTE_MILLIS);
    state.key_registry.store_uses(&state.api_keys, next).await.unwrap();
    assert_eq!(app.get(&path).await.1["last_used_at"], one["last_used_at"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_keys_is_limited() {
    let app = TestApp::start().await;
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    let fill = "insert into api_key
            (workspace_id, key_id, name, secret_hash, scopes, allowed_origins, created_at)
        select 1, 'k' || n, 'filler', sha256(n::text::bytea), '{read}', '{}', now()
        from generate_series(1, 999) n";
    sqlx::raw_sql(fill).execute(&mut connection).await.unwrap();
    let request = json!({ "name": "x", "scopes": ["read"] }).to_string();
    let (status, problem) = app.post("/v1/keys", request.clone()).await;
    assert_eq!(status, 409, "{problem}");
    assert!(text(&problem, "detail").contains("1000 keys"), "{problem}");
    assert_eq!(app.delete("/v1/keys/k1").await.0, 204);
    assert_eq!(app.post("/v1/keys", request).await.0, 201);
    app.stop().await;
}

/// Each answer about a change names the key that made it, also after its revocation.
#[tokio::test(flavor = "multi_thread")]
async fn changes_show_the_name_of_their_key() {
    let app = TestApp::start().await;
    let request = ApiKeyRequest::with_scopes("night watch", &AccessScope::ALL[1..]);
    let key = app.app.key_registry.create_key(request, "test").await.unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let secret = key.key.expose();
    let author = format!("key {}", secret.split('_').nth(1).unwrap());
    let until = TimeSource::System.now().plus_millis(MINUTE_MILLIS);
    let silence = json!({ "until": until, "reason": "a move" }).to_string();
    let (status, made) = app.post_as(Some(secret), "/v1/silences", &silence).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        (text(&made, "created_by"), text(&made, "created_by_name")),
        (&*author, "night watch")
    );
    let (_, run) = app.post_as(Some(secret), "/v1/training-runs", r#"{"segments": 3}"#).await;
    assert_eq!((text(&run, "trigger"), text(&run, "trigger_name")), (&*author, "night watch"));

    let id = secret.split('_').nth(1).unwrap();
    assert_eq!(app.delete(&format!("/v1/keys/{id}")).await.0, 204);
    let (_, listed) = app.get("/v1/silences").await;
    assert_eq!(listed["silences"][0]["created_by_name"], "night watch");
    app.stop().await;
}

/// Ten keys that another process creates, each used at once: the notification may be later.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_accepted_at_once() {
    let app = TestApp::start().await;
    for number in 0..10 {
        let request = ApiKeyRequest::with_scopes(&format!("new {number}"), &[AccessScope::Read]);
        let key = app.app.key_registry.create_key(request, "test").await.unwrap();
        assert_eq!(read(&app, key.key.expose()).await, 200, "{number}");
    }
    assert_eq!(read(&app, "sgm_000000000000_0").await, 401);
    app.stop().await;
}
