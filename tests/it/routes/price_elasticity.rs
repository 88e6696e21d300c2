//! `GET /v1/segments/{segment_id}/price-elasticity`.

use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::{TestApp, ndjson};

const CUSTOMERS: i64 = 120;
const PRODUCTS: i64 = 12;
const WEEKS: i64 = 26;

/// Customers whose numbers are even order every week, and four times as much at half the price; the
/// others order every fourth week, at any price.
fn orders(today: i64) -> Vec<Value> {
    let mut orders = Vec::new();
    for customer in 0..CUSTOMERS {
        let is_frequent = customer % 2 == 0;
        for week in (0..WEEKS).filter(|week| is_frequent || week % 4 == 1) {
            let at = today - (WEEKS - week) * 7 * MILLIS_PER_DAY + MILLIS_PER_DAY;
            let products: Vec<Value> = (0..3)
                .map(|place| {
                    let product = (customer / 2 + 5 * place + week) % PRODUCTS;
                    let is_cheap = (product + week * week) % 3 == 0;
                    let noise = (customer * 7_919 + week * 104_729 + product * 31) / 8 % 3;
                    let units = if is_frequent && is_cheap { 16 } else { 4 } + noise;
                    json!({
                        "product_id": format!("p{product}"), "quantity": units,
                        "price": f64::from(i32::try_from(10 + product).unwrap()) * if is_cheap { 0.5 } else { 1.0 },
                    })
                })
                .collect();
            orders.push(order(customer, week, at, &json!(products)));
        }
    }
    // Not a list, a number that nobody pays, and no number.
    let at = today - MILLIS_PER_DAY;
    let item = json!({ "product_id": "p0", "price": 10, "quantity": 1 });
    orders.push(order(0, WEEKS, at, &item));
    for (customer, price) in [(2, json!(1e300)), (4, json!("ten"))] {
        let item = json!({ "product_id": "p0", "price": price, "quantity": 1e300 });
        orders.push(order(customer, WEEKS, at, &json!([item])));
    }
    orders
}

fn order(customer: i64, week: i64, at: i64, products: &Value) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "customer_id": format!("c{customer}"),
        "message_id": format!("order-{customer}-{week}"),
        "timestamp": Timestamp::from_millis(at).to_string(),
        "properties": {
            "order_id": format!("o-{customer}-{week}"), "total": 50, "products": products,
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_of_a_segment_go_with_prices_as_its_customers_buy() {
    let today = 19_700 * MILLIS_PER_DAY;
    let (clock, _) = TimeSource::manual(Timestamp::from_millis(today));
    let app = TestApp::start_at(clock, &[("features.built_in", "segment-ecommerce")]).await;
    assert_eq!(app.post("/v1/events/bulk", ndjson(&orders(today))).await.0, 200);
    app.train_with(r#"{"segments": 2, "algorithms": ["kmeans"], "starts": 2}"#).await;
    let mut found = Vec::new();
    for customer in ["c0", "c1"] {
        let (_, customer) = app.get(&format!("/v1/customers/{customer}")).await;
        let segment = customer["segment_id"].as_str().unwrap().to_owned();
        let (status, answer) = app.get(&format!("/v1/segments/{segment}/price-elasticity")).await;
        assert_eq!((status, &answer["segment"]["segment_id"]), (200, &json!(segment)), "{answer}");
        found.push(answer);
    }
    assert_ne!(found[0]["segment"], found[1]["segment"]);
    // Of frequent customers ln(17 / 5) / ln(1 / 2) = -1.77, of the others 0.
    for (answer, elasticity) in found.iter().zip([-1.77, 0.0]) {
        let own = &answer["segment_elasticity"];
        assert!(own.is_object(), "{answer}");
        assert!((own["value"].as_f64().unwrap() - elasticity).abs() < 0.1, "{answer}");
        let weeks = if elasticity < 0.0 { WEEKS } else { (WEEKS + 2) / 4 };
        assert_eq!(
            (&own["products"], &own["weeks"]),
            (&json!(PRODUCTS), &json!(weeks)),
            "{answer}"
        );
        let all = answer["overall_elasticity"]["value"].as_f64().unwrap();
        assert!((-1.75..-0.8).contains(&all), "{answer}");
    }
    let words = found[0]["description"].as_str().unwrap();
    assert!(
        words.starts_with("A price 10 % lower goes with 2") && words.contains("more"),
        "{words}"
    );
    refuses_what_it_cannot_measure(&app, found[0]["segment"]["segment_id"].as_str().unwrap()).await;
    app.stop().await;
}

async fn refuses_what_it_cannot_measure(app: &TestApp, segment: &str) {
    let path = format!("/v1/segments/{segment}/price-elasticity");
    for (query, field, words) in [
        ("product=products.sku", "product", "no feature reads `products.sku` of `Order Completed`"),
        ("price=total", "price", "must be in the same array as `products.product_id`"),
        ("quantity=products.category", "quantity", "must be a number"),
        ("event=Basket%20Paid", "event", "no feature reads events named `Basket Paid`"),
        ("days=5", "days", "must be from 28 to 730; it is 5"),
    ] {
        let (status, refused) = app.get(&format!("{path}?{query}")).await;
        let fault = &refused["errors"][0];
        assert_eq!((status, &fault["field"]), (422, &json!(field)), "{refused}");
        assert!(fault["problem"].to_string().contains(words), "{refused}");
    }
    // The weeks of the period, not those before.
    let (_, short) = app.get(&format!("{path}?days=28")).await;
    let weeks = short["segment_elasticity"]["weeks"].as_u64();
    assert!(weeks.is_none_or(|weeks| weeks <= 4), "{short}");
    assert_eq!(app.get("/v1/segments/seg_0/price-elasticity").await.0, 404);
}
