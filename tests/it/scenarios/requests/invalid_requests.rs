//! Each kind of invalid request gets its documented status and a problem that names the
//! error; the process keeps running.

use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_invalid_request_gets_its_documented_problem() {
    let app = TestApp::start_with(&[("http.max_body_bytes", "150000")]).await;
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let nested = format!("{}1{}", "{\"a\":".repeat(30), "}".repeat(30));
    let huge = format!(r#"{{"features": {{"recency_days": {}}}}}"#, " ".repeat(900_000));
    let track = |extra: &str| {
        format!(r#"{{"type":"track","name":"Order Completed","customer_id":"c1"{extra}}}"#)
    };
    let promote_unknown = format!("/v1/models/{}/promote", "a".repeat(64));
    let table: [(&str, &str, String, u16, &str); 24] = [
        ("malformed", "/v1/score", "{".into(), 400, "ends before its JSON is complete"),
        (
            "not a number",
            "/v1/score",
            r#"{"features": {"recency_days": NaN}}"#.into(),
            400,
            "not valid JSON, at line 1 column 31",
        ),
        ("deep", "/v1/score", deep, 422, "unknown field"),
        (
            "wrong type",
            "/v1/score",
            r#"{"features": {"recency_days": "x"}}"#.into(),
            422,
            "recency_days",
        ),
        (
            "unknown feature",
            "/v1/score",
            r#"{"features": {"recncy": 1}}"#.into(),
            422,
            "unknown feature `recncy`",
        ),
        ("unknown field", "/v1/score", r#"{"fetures": {}}"#.into(), 422, "fetures: unknown field"),
        ("no rows", "/v1/score", "{}".into(), 422, "features"),
        ("oversize", "/v1/score", huge, 413, "larger than 150000 bytes"),
        ("no customer", "/v1/events", r#"{"type":"track","name":"x"}"#.into(), 422, "customer_id"),
        ("no type", "/v1/events", r#"{"customer_id":"c1"}"#.into(), 422, "must be one of"),
        ("unknown event field", "/v1/events", track(r#","foo":1"#), 422, "unknown field"),
        ("future", "/v1/events", track(r#","timestamp":"2999-01-01T00:00:00Z""#), 422, "future"),
        ("no instant", "/v1/events", track(r#","timestamp":"yesterday""#), 422, "RFC 3339"),
        (
            "nested",
            "/v1/events",
            track(&format!(r#","properties":{{"unread":{nested}}}"#)),
            200,
            "accepted",
        ),
        (
            "property type",
            "/v1/events",
            track(r#","properties":{"sales_value":"ten"}"#),
            200,
            "properties.sales_value",
        ),
        (
            "property beyond the limit",
            "/v1/events",
            track(r#","properties":{"sales_value":1e13}"#),
            422,
            "properties.sales_value",
        ),
        ("not JSON", "/v1/events", "hello".into(), 400, "a value is expected at byte 0"),
        ("unknown model", &promote_unknown, String::new(), 404, "there is no model"),
        ("bad model id", "/v1/models/xyz/promote", String::new(), 404, "64 hexadecimal digits"),
        (
            "nothing to roll back",
            "/v1/deployment/rollback",
            String::new(),
            409,
            "no previous model",
        ),
        ("bad spec", "/v1/training-runs", r#"{"segments": 0}"#.into(), 422, "segments"),
        ("unknown spec", "/v1/training-runs", r#"{"k": 3}"#.into(), 422, "unknown field"),
        ("unknown route", "/v1/nothing", String::new(), 404, "there is no route"),
        ("wrong method", "/v1/segments", String::new(), 405, "does not support POST"),
    ];
    for (name, path, body, status, text) in table {
        let (got, problem) = app.post(path, body).await;
        assert_eq!(got, status, "{name}: {problem}");
        assert!(problem.to_string().contains(text), "{name}: {problem}");
    }
    for (path, status) in [
        ("/v1/customers/nobody", 404),
        ("/v1/customers/nobody/history", 404),
        ("/v1/training-runs/none", 404),
        ("/v1/models?limit=0", 422),
        ("/v1/models?befor=x", 422),
    ] {
        let (got, problem) = app.get(path).await;
        assert_eq!(got, status, "{path}: {problem}");
        assert_eq!(problem["status"], status, "{problem}");
    }

    assert_eq!(app.admin("/readyz").await.0, 200);
    app.stop().await;
}
