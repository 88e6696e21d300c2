//! Public (browser) keys: a key copied from a web page can neither read nor take over a
//! customer, and suppresses no event of a server.

use std::fmt::Write as _;

use segmentd::api::openapi_document;
use segmentd::domain::access::AccessScope;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::TestApp;

const REPLAY: &str = "/v1/events/failed/replay";

async fn key(app: &TestApp, scope: AccessScope) -> String {
    let key = api_keys::create_key(&app.db, &TimeSource::System, "k", &[scope]).await.unwrap();
    app.app.api_keys.refresh().await.unwrap();
    key
}

/// The public id of a key.
fn key_id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn order(message_id: &str, who: &Value) -> Value {
    let mut message = json!({
        "type": "track", "event": "Order Completed", "messageId": message_id,
        "properties": { "sales_value": 5 },
    });
    message.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
    message
}

fn identify(anonymous: &str, user: &str) -> Value {
    json!({ "type": "identify", "anonymousId": anonymous, "userId": user })
}

fn alias(previous: &str, user: &str) -> Value {
    json!({ "type": "alias", "previousId": previous, "userId": user })
}

/// Sends messages in one batch; returns the numbers of accepted, duplicate and rejected
/// ones.
async fn send(app: &TestApp, key: &str, messages: &[Value]) -> [u64; 3] {
    let body = json!({ "batch": messages }).to_string();
    let (status, answer) = app.post_as(Some(key), "/v1/batch", &body).await;
    assert_eq!(status, 200, "{answer}");
    ["accepted", "duplicate", "rejected"].map(|count| answer[count].as_u64().unwrap())
}

/// Sends a message that must be rejected; returns the field of the error.
async fn refused(app: &TestApp, key: &str, message: Value) -> String {
    let body = json!({ "batch": [message] }).to_string();
    let (_, answer) = app.post_as(Some(key), "/v1/batch", &body).await;
    assert_eq!(answer["rejected"], 1, "{answer}");
    let error = &answer["rejections"][0]["errors"][0];
    assert!(error.to_string().contains("that this key introduced"), "{error}");
    error["field"].as_str().unwrap().to_owned()
}

/// The canonical id of the customer, and the number of orders.
async fn customer(app: &TestApp, id: &str) -> (String, f64) {
    let (status, customer) = app.get(&format!("/v1/customers/{id}")).await;
    assert_eq!(status, 200, "{customer}");
    let orders = customer["features"]["orders"].as_f64().unwrap();
    (customer["customer_id"].as_str().unwrap().to_owned(), orders)
}

fn is(id: &str, orders: f64) -> (String, f64) {
    (id.to_owned(), orders)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_opens_the_tracking_api_and_nothing_else() {
    let app = TestApp::start().await;
    let public = key(&app, AccessScope::Track).await;
    let server = key(&app, AccessScope::Ingest).await;
    let client = reqwest::Client::new();
    let mut tried = 0;
    for (path, methods) in openapi_document()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(scope) = operation["security"][0]["key"][0].as_str() else { continue };
            let path: Vec<&str> = path
                .split('/')
                .map(|part| if part.starts_with('{') { "1" } else { part })
                .collect();
            let url = format!("{}{}", app.url, path.join("/"));
            let status = async |key: &str| {
                let method = method.to_uppercase().parse().unwrap();
                let request = client.request(method, &url).bearer_auth(key).body("{}");
                request.send().await.unwrap().status().as_u16()
            };
            assert_eq!(status(&public).await != 403, scope == "track", "{method} {url}");
            let is_servers = ["track", "ingest"].contains(&scope);
            assert_eq!(status(&server).await != 403, is_servers, "{method} {url}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
    assert_eq!(app.get_as(&public, &format!("/v1/projects/{public}/settings")).await.0, 200);

    // The response to a public key contains counts only, nothing of the customer.
    app.post("/v1/events", json!({ "type": "page", "customer_id": "1510" }).to_string()).await;
    for message in [order("m1", &json!({ "userId": "1510" })), identify("a1", "1510")] {
        let body = json!({ "batch": [message] }).to_string();
        let (_, answer) = app.post_as(Some(&public), "/v1/batch", &body).await;
        let counts =
            json!({ "success": true, "accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 0 });
        assert_eq!(answer, counts);
    }
    app.stop().await;
}

/// A key cannot be public and have the read scope.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_gets_the_track_scope_by_default() {
    let app = TestApp::start().await;
    let (done, made) = app.command(&["keys", "create", "shop window"]).await;
    assert!(done, "{made}");
    let made = made.lines().find(|line| line.starts_with("sgm_")).unwrap();
    app.app.api_keys.refresh().await.unwrap();
    assert_eq!(send(&app, made, &[order("m1", &json!({ "anonymousId": "a1" }))]).await, [1, 0, 0]);
    for path in ["/v1/customers/a1", "/v1/segments", "/v1/events/failed"] {
        assert_eq!(app.get_as(made, path).await.0, 403, "{path}");
    }
    assert_eq!(app.post_as(Some(made), "/v1/events", "{}").await.0, 403);
    let (_, list) = app.command(&["keys", "list"]).await;
    let line = |id: &str| list.lines().find(|line| line.contains(id)).unwrap().to_owned();
    let shown: Vec<String> = line(key_id(made)).split('\t').map(str::to_owned).collect();
    let expected = ["public", "never expires", "never used", "track", "shop window"];
    assert_eq!([&shown[2], &shown[4], &shown[5], &shown[6], &shown[7]], expected);
    assert!(line(key_id(&app.key)).contains("\tsecret\t"), "{list}");

    let (done, output) = app.command(&["keys", "create", "both", "--scopes", "track,read"]).await;
    assert!(!done && output.contains("is public"), "{output}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_public_key_can_use_up_a_message_id_of_another_key() {
    let app = TestApp::start().await;
    let (one, other) = (key(&app, AccessScope::Track).await, key(&app, AccessScope::Track).await);
    let (server, second) =
        (key(&app, AccessScope::Ingest).await, key(&app, AccessScope::Ingest).await);
    let shops = |id: &str| order(id, &json!({ "userId": "shop" }));
    let strangers = |id: &str| order(id, &json!({ "userId": "stranger" }));

    // The public key sends first.
    assert_eq!(send(&app, &one, &[strangers("order-777")]).await, [1, 0, 0]);
    assert_eq!(send(&app, &server, &[shops("order-777")]).await, [1, 0, 0]);
    // The server sends first.
    assert_eq!(send(&app, &server, &[shops("order-778")]).await, [1, 0, 0]);
    assert_eq!(send(&app, &one, &[strangers("order-778")]).await, [1, 0, 0]);
    // Two public keys.
    assert_eq!(send(&app, &other, &[strangers("order-777")]).await, [1, 0, 0]);
    // A strict request.
    assert_eq!(send(&app, &one, &[strangers("order-779")]).await, [1, 0, 0]);
    let strict = json!({
        "type": "track", "name": "Order Completed", "message_id": "order-779",
        "customer_id": "shop", "properties": { "sales_value": 5 },
    });
    let (_, answer) =
        app.post_as(Some(&server), "/v1/events?strict=true", &strict.to_string()).await;
    assert_eq!(answer["accepted"], 1, "{answer}");

    // Each repetition is a duplicate, also through another secret key.
    for (key, messages) in [
        (&one, vec![strangers("order-777"), strangers("order-778"), strangers("order-777")]),
        (&other, vec![strangers("order-777")]),
        (&server, vec![shops("order-777"), shops("order-778"), shops("order-779")]),
        (&second, vec![shops("order-777"), shops("order-778"), shops("order-779")]),
    ] {
        assert_eq!(send(&app, key, &messages).await, [0, messages.len() as u64, 0]);
    }
    assert_eq!(customer(&app, "shop").await, is("shop", 3.0));
    assert_eq!(customer(&app, "stranger").await, is("stranger", 4.0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_links_only_ids_that_it_introduced() {
    let app = TestApp::start().await;
    let (web, other) = (key(&app, AccessScope::Track).await, key(&app, AccessScope::Track).await);
    let server = key(&app, AccessScope::Ingest).await;
    let anonymous = |id: &str| json!({ "anonymousId": id });

    // A browser before and after the login, and repeated with every page.
    send(&app, &web, &[order("m1", &anonymous("a1")), order("m2", &anonymous("a1"))]).await;
    assert_eq!(send(&app, &web, &[identify("a1", "u1")]).await, [1, 0, 0]);
    assert_eq!(send(&app, &web, &[identify("a1", "u1"), identify("a1", "u1")]).await, [2, 0, 0]);
    assert_eq!(customer(&app, "a1").await, is("u1", 2.0));
    // All in one request, and an id without events.
    let at_once = [order("m3", &anonymous("a2")), identify("a2", "u2"), alias("a3", "u2")];
    assert_eq!(send(&app, &web, &at_once).await, [3, 0, 0]);
    assert_eq!(customer(&app, "a2").await, is("u2", 1.0));

    // A customer of the server, an id of another key, a user id that the key itself sent,
    // and one that it sends in the same request.
    send(&app, &server, &[order("m4", &json!({ "userId": "1467" }))]).await;
    send(&app, &other, &[order("m5", &anonymous("a4"))]).await;
    assert_eq!(refused(&app, &web, alias("1467", "evil")).await, "previousId");
    assert_eq!(refused(&app, &web, identify("1467", "evil")).await, "anonymousId");
    assert_eq!(refused(&app, &web, identify("a4", "evil")).await, "anonymousId");
    assert_eq!(refused(&app, &web, alias("u1", "evil")).await, "previousId");
    let both = [order("m6", &json!({ "userId": "u6" })), alias("u6", "evil")];
    assert_eq!(send(&app, &web, &both).await, [1, 0, 1]);
    assert_eq!(customer(&app, "1467").await, is("1467", 1.0));
    assert_eq!(customer(&app, "a4").await, is("a4", 1.0));
    assert_eq!(customer(&app, "u1").await, is("u1", 2.0));
    assert_eq!(app.get("/v1/customers/evil").await.0, 404);
    let (_, failed) = app.get("/v1/events/failed?raw=true").await;
    let kept = failed["failed_events"].as_array().unwrap();
    assert_eq!(kept.len(), 5, "{failed}");
    assert!(
        kept.iter().all(|event| event["key_id"] == key_id(&web) && event["is_complete"] == true)
    );
    let refusals = "segmentd_identity_links_total{outcome=\"refused\"}";
    assert_eq!(app.metric(refusals).await, 5);

    // An id introduced by a server belongs to the server, but repeating an existing link is
    // allowed. A server links any ids.
    send(&app, &server, &[order("m7", &anonymous("a5")), identify("a6", "u6")]).await;
    assert_eq!(refused(&app, &web, identify("a5", "u5")).await, "anonymousId");
    assert_eq!(send(&app, &web, &[identify("a6", "u6")]).await, [1, 0, 0]);
    assert_eq!(send(&app, &server, &[identify("a5", "u5"), alias("1467", "u7")]).await, [2, 0, 0]);
    assert_eq!(customer(&app, "1467").await, is("u7", 1.0));
    app.stop().await;
}

/// A public key that links the id of a future customer gains nothing, in either order.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_customer_id_is_never_an_anonymous_id() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let (web, server) = (key(&app, AccessScope::Track).await, key(&app, AccessScope::Ingest).await);
    replica.app.api_keys.refresh().await.unwrap();
    let squat = async |id: &str| {
        send(&app, &web, &[order(&format!("s-{id}"), &json!({ "anonymousId": id }))]).await;
        assert_eq!(send(&app, &web, &[alias(id, "evil")]).await, [1, 0, 0]);
        assert_eq!(customer(&app, id).await.0, "evil");
    };
    let user = |id: &str| order(&format!("o-{id}"), &json!({ "userId": id }));

    // Through this process, another one, a strict request, and a browser.
    for id in ["2001", "2002", "2003", "2004"] {
        squat(id).await;
    }
    assert_eq!(customer(&app, "evil").await, is("evil", 4.0));
    send(&app, &server, &[user("2001")]).await;
    send(&replica, &server, &[user("2002")]).await;
    let strict = json!({ "type": "page", "customer_id": "2003" }).to_string();
    assert_eq!(app.post("/v1/events?strict=true", strict).await.0, 200);
    send(&app, &web, &[user("2004")]).await;
    for (id, orders) in [("2001", 2.0), ("2002", 2.0), ("2003", 1.0), ("2004", 2.0)] {
        assert_eq!(customer(&app, id).await, is(id, orders));
        assert_eq!(refused(&app, &web, alias(id, "evil")).await, "previousId");
    }
    assert_eq!(customer(&app, "evil").await, is("evil", 0.0));
    let ended = "segmentd_identity_links_total{outcome=\"ended\"}";
    assert_eq!(app.metric(ended).await + replica.metric(ended).await, 4);

    // The customer appears between the introduction and the link.
    send(&app, &web, &[order("s-2005", &json!({ "anonymousId": "2005" }))]).await;
    send(&replica, &server, &[user("2005")]).await;
    assert_eq!(refused(&app, &web, alias("2005", "evil")).await, "previousId");
    assert_eq!(customer(&app, "2005").await, is("2005", 2.0));
    // A server that forwards an anonymous id leaves it with the public key.
    send(&app, &web, &[order("s-a1", &json!({ "anonymousId": "a1" }))]).await;
    send(&app, &server, &[order("o-a1", &json!({ "anonymousId": "a1" }))]).await;
    assert_eq!(send(&app, &web, &[identify("a1", "u1")]).await, [1, 0, 0]);
    send(&app, &server, &[order("o2-a1", &json!({ "anonymousId": "a1" }))]).await;
    assert_eq!(customer(&app, "a1").await, is("u1", 3.0));
    replica.stop().await;
    app.stop().await;
}

/// The sender chooses the timestamps, so a timestamp cannot make the link of a public key
/// the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_servers_link_comes_before_a_public_one_of_any_date() {
    let app = TestApp::start().await;
    let (web, server) = (key(&app, AccessScope::Track).await, key(&app, AccessScope::Ingest).await);
    let dated = |mut message: Value, day: u32| {
        message["timestamp"] = json!(format!("2024-01-{day:02}T00:00:00Z"));
        message
    };
    for (id, is_first) in [("a1", true), ("a2", false)] {
        send(&app, &web, &[order(id, &json!({ "anonymousId": id }))]).await;
        let public = async || send(&app, &web, &[dated(alias(id, "evil"), 1)]).await;
        if is_first {
            public().await;
        }
        send(&app, &server, &[dated(identify(id, "u1"), 3)]).await;
        if !is_first {
            public().await;
        }
    }
    assert_eq!(customer(&app, "a1").await, is("u1", 2.0));
    assert_eq!(customer(&app, "a2").await, is("u1", 2.0));
    assert_eq!(customer(&app, "evil").await, is("evil", 0.0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_needs_its_own_scope_and_keeps_the_key_of_the_sender() {
    let app = TestApp::start().await;
    let (web, server) = (key(&app, AccessScope::Track).await, key(&app, AccessScope::Ingest).await);
    let replaying = key(&app, AccessScope::Replay).await;
    send(&app, &server, &[order("m1", &json!({ "userId": "1467" }))]).await;
    // A forbidden link, and an event that is invalid until it is corrected below.
    let wrong = json!({
        "type": "track", "event": "Order Completed", "messageId": "m1", "userId": "u1",
        "properties": { "sales_value": 7e13 },
    });
    assert_eq!(send(&app, &web, &[alias("1467", "evil"), wrong]).await, [0, 0, 2]);
    for key in [&web, &server] {
        assert_eq!(app.post_as(Some(key), REPLAY, "{}").await.0, 403);
        assert_eq!(app.get_as(key, "/v1/events/failed").await.0, 403);
    }
    assert_eq!(app.get_as(&replaying, "/v1/customers/1467").await.0, 403);
    let (_, replayed) = app.post_as(Some(&replaying), REPLAY, "{}").await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(0), &json!(2)));
    assert_eq!(customer(&app, "1467").await, is("1467", 1.0));

    // Corrects the stored event. Message ids are per key, so the event is no duplicate of
    // the one that the server sent.
    let mut database = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql("update failed_event set raw = replace(raw, '70000000000000.0', '5')")
        .execute(&mut database)
        .await
        .unwrap();
    let (_, replayed) = app.post_as(Some(&replaying), REPLAY, "{}").await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(customer(&app, "u1").await, is("u1", 1.0));
    let wrong = order("m1", &json!({ "userId": "u1" }));
    assert_eq!(send(&app, &web, &[wrong]).await, [0, 1, 0]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_key_is_stored_in_no_form() {
    let app = TestApp::start().await;
    let public = key(&app, AccessScope::Track).await;
    let secret = public.rsplit('_').next().unwrap();
    let mut escaped = String::new();
    for byte in public.bytes() {
        write!(escaped, "\\u{byte:04X}").unwrap();
    }
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let batch = [
        format!(r#"{{"writeKey": "{public}", "type": "track", "x": {deep}}}"#),
        format!(r#"{{"writeKey": "{public}", "type": "track", "event": "\ud800"}}"#),
        format!(r#"{{"write\u004bey": "{escaped}", "event": "\ud800"}}"#),
        format!(r#"{{"writeKey": "another service's", "x": {deep}}}"#),
        format!(r#"{{"write_key": "{public}", "type": "nothing"}}"#),
        format!(r#"{{"type": "nothing", "properties": {{"Authorization": "Bearer {public}"}}}}"#),
        format!(r#"{{"type": "nothing", "properties": {{"{public}": 1}}}}"#),
    ];
    let body = format!(r#"{{"writeKey": "{public}", "batch": [{}]}}"#, batch.join(","));
    let (status, answer) = app.post_as(None, "/v1/batch", &body).await;
    assert_eq!((status, &answer["rejected"]), (200, &json!(batch.len())), "{answer}");
    // In the native format: whole, truncated, and as the name of a field.
    let long = format!(r#"{{"writeKey": "{public}", "x": "{}"}}"#, "x".repeat(140_000));
    let lines = [
        format!(r#"{{"writeKey": "{public}"}}"#),
        format!(r#"{{"writeKey": "{public}"#),
        long,
        format!(r#"{{"{public}": 1}}"#),
        format!("{{\"x\": \"{}{public}", "x".repeat(990)),
    ];
    app.post("/v1/events/bulk", lines.join("\n")).await;

    let mut database = PgConnection::connect(app.database_url()).await.unwrap();
    let stored: Vec<(String, String, String)> =
        sqlx::query_as("select raw, reason, faults from failed_event order by failed_event_id")
            .fetch_all(&mut database)
            .await
            .unwrap();
    assert_eq!(stored.len(), batch.len() + lines.len());
    for (raw, reason, faults) in &stored {
        for text in [raw, reason, faults] {
            assert!(!text.contains(secret) && !text.contains(&*escaped), "{text}");
            assert!(!text.contains("another service"), "{text}");
        }
    }
    // Other text is unchanged.
    assert!(stored[1].0.contains(r#""event":"\ud800""#), "{}", stored[1].0);
    assert!(stored[5].0.contains(key_id(&public)), "{}", stored[5].0);
    app.stop().await;
}

/// The names of stored events, sorted.
async fn names(app: &TestApp) -> Vec<String> {
    let mut database = PgConnection::connect(app.database_url()).await.unwrap();
    let sql = "select name from event order by name";
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut database).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_feature_reads_is_not_stored() {
    for (setting, stored) in [
        ("declared", vec!["", "", "Order Completed"]),
        ("Viewed recipe, Viewed page", vec!["", "Order Completed", "Viewed recipe"]),
        ("all", vec!["Order Completed", "Viewed diagnosis HIV", "Viewed recipe"]),
    ] {
        let app = TestApp::start_with(&[("ingestion.stored_event_names", setting)]).await;
        let event = |name: &str| json!({ "type": "track", "name": name, "customer_id": "c1" });
        for name in ["Order Completed", "Viewed diagnosis HIV", "Viewed recipe"] {
            // The event counts, and has its verdict.
            let (status, answer) = app.post("/v1/events", event(name).to_string()).await;
            assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
            assert_eq!(answer["outcomes"][0]["customer_id"], "c1");
        }
        assert_eq!(names(&app).await, stored, "{setting}");
        assert_eq!(customer(&app, "c1").await, is("c1", 1.0));
        app.stop().await;
    }
}
