//! Features of commerce as a shop uses them: Segment's spec, new properties, currencies.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::support::{TestApp, ndjson};

const SEGMENT: (&str, &str) = ("features.built_in", "segment-ecommerce");

static NEXT_MESSAGE: AtomicU64 = AtomicU64::new(0);

fn track(customer: &str, name: &str, properties: &Value) -> Value {
    json!({ "type": "track", "name": name, "customer_id": customer, "properties": properties,
            "message_id": format!("m{}", NEXT_MESSAGE.fetch_add(1, Relaxed)) })
}

async fn features(app: &TestApp, customer: &str) -> Value {
    let (status, body) = app.get(&format!("/v1/customers/{customer}/features")).await;
    assert_eq!(status, 200, "{body}");
    body["features"].clone()
}

/// Writes a features file; returns the setting that names it.
fn file(directory: &Path, name: &str, tables: &str, features: &[(&str, &str)]) -> String {
    let mut toml = String::from(tables);
    let always = ("always", "fold = \"count\"");
    for (name, source) in features.iter().chain([&always]) {
        write!(
            toml,
            "\n[[feature]]\nname = \"{name}\"\ntitle = \"{name}\"\nunit = \"1\"\n\
             owner = \"qa@example.com\"\nsensitivity = \"internal\"\n{source}\n"
        )
        .unwrap();
    }
    let scored = "{ feature = \"always\", cuts = [1, 2, 3, 4] }";
    write!(toml, "[rfm]\nrecency = {scored}\nfrequency = {scored}\nmonetary = {scored}\n").unwrap();
    let path = directory.join(name);
    std::fs::write(&path, toml).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_the_spec_count_until_they_are_taken_back() {
    let app = TestApp::start_with(&[SEGMENT]).await;
    let products = json!([
        { "product_id": "p1", "category": "Games", "price": 19, "quantity": 1, "image_url": "https://x" },
        { "product_id": "p2", "category": "Books", "price": 3.5, "quantity": 2 },
    ]);
    let order = |customer: &str, id: &str, total: f64| {
        let properties = json!({ "order_id": id, "total": total, "revenue": total - 3.0, "discount": 2,
            "coupon": "WELCOME", "currency": "USD", "products": products, "checkout_id": "x" });
        track(customer, "Order Completed", &properties)
    };
    let events = [
        order("keeps", "1", 26.0),
        order("keeps", "2", 10.5),
        order("returns", "3", 26.0),
        track(
            "returns",
            "Order Refunded",
            &json!({ "order_id": "3", "total": 26, "currency": "USD" }),
        ),
        order("cancels", "4", 26.0),
        track("cancels", "Order Cancelled", &json!({ "order_id": "4" })),
        // The return arrives before its order.
        track("early", "Order Refunded", &json!({ "order_id": "5", "total": 6 })),
        order("early", "5", 26.0),
    ];
    for event in &events {
        let (status, body) = app.post("/v1/events", event.to_string()).await;
        assert_eq!(status, 200, "{body}");
    }
    let keeps = features(&app, "keeps").await;
    for (name, expected) in [
        ("orders", 2.0),
        ("repeat_orders", 1.0),
        ("spend_365d", 36.5),
        ("order_value", 18.25),
        ("basket_lines", 2.0),
        ("items_365d", 6.0),
        ("categories_365d", 2.0),
        ("products_365d", 2.0),
        ("coupon_share", 1.0),
        ("discount_365d", 4.0),
    ] {
        assert_eq!(keeps[name], json!(expected), "{name}: {keeps}");
    }
    for customer in ["returns", "cancels"] {
        let none = features(&app, customer).await;
        assert_eq!((&none["orders"], &none["spend_365d"]), (&json!(0.0), &json!(0.0)), "{none}");
        assert_eq!((&none["recency_days"], &none["order_value"]), (&Value::Null, &Value::Null));
    }
    let early = features(&app, "early").await;
    assert_eq!((&early["orders"], &early["spend_365d"]), (&json!(1.0), &json!(20.0)), "{early}");
    // Only declared fields of elements are stored, and a replay gives the same.
    let now = app.app.ingestion.now();
    let (_, replayed) = app.get(&format!("/v1/customers/keeps/features?known_by={now}")).await;
    assert_eq!(replayed["features"]["items_365d"], json!(6.0), "{replayed}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_property_is_missing_for_customers_from_before() {
    let files = tempfile::tempdir().unwrap();
    let orders = ("orders", "fold = \"count\"\nfrom = { name = \"Buy\" }");
    let tax = ("tax", "fold = \"sum\"\nproperty = \"tax\"\nfrom = { name = \"Buy\" }");
    let eur = (
        "eur_orders",
        "fold = \"count\"\nfrom = { name = \"Buy\" }\nwhere = [{ property = \"currency\", equals = \"EUR\" }]",
    );
    let before = file(files.path(), "before.toml", "", &[orders]);
    let after = file(files.path(), "after.toml", "", &[orders, tax, eur]);
    let buy = |customer: &str, n: u32| {
        track(customer, "Buy", &json!({ "tax": 20, "currency": "EUR", "n": n }))
    };

    let first = TestApp::start_with(&[("features.file", &before)]).await;
    first.post("/v1/events/bulk", ndjson(&[buy("old", 1), buy("old", 2), buy("both", 3)])).await;
    let app = first.replica_with(&[("features.file", &after)]).await;
    app.post("/v1/events/bulk", ndjson(&[buy("both", 4), buy("new", 5)])).await;
    let (ok, output) = app.command(&["--set", &format!("features.file={after}"), "backfill"]).await;
    assert!(ok, "{output}");
    for (customer, orders, known) in
        [("old", 2.0, None), ("both", 2.0, None), ("new", 1.0, Some(20.0))]
    {
        let found = features(&app, customer).await;
        assert_eq!(found["orders"], json!(orders), "{customer}: {found}");
        assert_eq!(found["tax"], json!(known), "{customer}: {found}");
        assert_eq!(found["eur_orders"], json!(known.map(|_| 1.0)), "{customer}: {found}");
    }
    // A restart with the same set changes nothing, and the stored states equal a replay.
    let again = app.replica_with(&[("features.file", &after)]).await;
    assert_eq!(features(&again, "new").await["tax"], json!(20.0));
    let now = again.app.ingestion.now();
    let (_, replayed) = again.get(&format!("/v1/customers/old/features?known_by={now}")).await;
    assert_eq!(replayed["features"]["tax"], Value::Null, "{replayed}");
    again.stop().await;
    app.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_are_converted_by_the_rate_of_their_day() {
    let files = tempfile::tempdir().unwrap();
    let money = "[money]\ncurrency = \"EUR\"\nproperty = \"currency\"\nproperties = [\"total\"]\n\
                 rates = \"rates.csv\"\n";
    let spend = ("spend", "fold = \"sum\"\nproperty = \"total\"\nfrom = { name = \"Buy\" }");
    let setting = file(files.path(), "features.toml", money, &[spend]);
    let rates = files.path().join("rates.csv");
    std::fs::write(&rates, "date,currency,rate\n2020-01-01,USD,0.5\n2020-02-01,USD,zero\n")
        .unwrap();
    let app = TestApp::start().await;
    let check = ["--set", &format!("features.file={setting}"), "check", "config"];
    let (ok, output) = app.command(&check).await;
    assert!(!ok && output.contains("line 3: rates: rate must be a number"), "{output}");
    std::fs::write(&rates, "date,currency,rate\n2020-01-01,USD,0.5\n2020-02-01,USD,0.8\n").unwrap();
    let (ok, output) = app.command(&check).await;
    assert!(ok, "{output}");
    app.stop().await;

    let app = TestApp::start_with(&[("features.file", &setting)]).await;
    let buy = |time: &str, currency: Option<&str>| {
        let mut event =
            track("c", "Buy", &json!({ "total": 10, "currency": currency, "at": time }));
        event["timestamp"] = json!(time);
        event
    };
    let events = [
        buy("2020-01-31T12:00:00Z", Some("USD")),
        buy("2020-02-01T12:00:00Z", Some("usd")),
        buy("2020-02-01T12:00:00Z", Some("EUR")),
        buy("2020-02-01T12:00:00Z", None),
        buy("2020-02-01T12:00:00Z", Some("CHF")),
    ];
    app.post("/v1/events/bulk", ndjson(&events)).await;
    assert_eq!(features(&app, "c").await["spend"], json!(5.0 + 8.0 + 10.0 + 10.0));
    // Later rates change no amount that was accepted.
    std::fs::write(&rates, "date,currency,rate\n2020-01-01,USD,0.9\n2020-01-01,CHF,0.9\n").unwrap();
    let again = app.replica_with(&[("features.file", &setting)]).await;
    let now = again.app.ingestion.now();
    let (_, replayed) = again.get(&format!("/v1/customers/c/features?known_by={now}")).await;
    assert_eq!(replayed["features"]["spend"], json!(33.0), "{replayed}");
    again.stop().await;
    app.stop().await;
}
