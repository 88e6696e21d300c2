//! The built-in set for Segment's e-commerce spec reads the events of the spec as they are.

use segmentd::domain::feature::{FeatureEncoding, FeatureSet, FeatureValue, NumberTransform};
use serde_json::{Value, json};

use crate::feature::commerce::accepted;
use crate::feature::normal_form::as_toml;
use crate::feature::support::{RETAIL, at, state_of};

const SEGMENT: &str = include_str!("../../../config/features.segment-ecommerce.toml");

/// An event in the form of the spec's examples.
fn sent(name: &str, time: &str, properties: &Value) -> Value {
    json!({ "type": "track", "customer_id": "c", "name": name, "timestamp": time,
            "message_id": format!("{name} {time}"), "properties": properties })
}

/// The example of `Order Completed` in the spec, with another id.
fn order_completed(order_id: &str, time: &str) -> Value {
    let properties = json!({
        "checkout_id": "fksdjfsdjfisjf9sdfjsd9f",
        "order_id": order_id,
        "affiliation": "Google Store",
        "total": 27.5,
        "subtotal": 22.5,
        "revenue": 25,
        "shipping": 3,
        "tax": 2,
        "discount": 2.5,
        "coupon": "hasbros",
        "currency": "USD",
        "products": [
            { "product_id": "507f1f77bcf86cd799439011", "sku": "45790-32", "name": "Monopoly: 3rd Edition",
              "price": 19, "quantity": 1, "category": "Games" },
            { "product_id": "505bd76785ebb509fc183733", "sku": "46493-32", "name": "Uno Card Game",
              "price": 3, "quantity": 2, "category": "Games" },
        ],
    });
    sent("Order Completed", time, &properties)
}

#[test]
fn the_spec_is_read_as_it_is() {
    let set = FeatureSet::parse(SEGMENT).unwrap();
    let events = [
        order_completed("50314b8e9bcf000000000000", "2024-05-01T10:00:00Z"),
        order_completed("50314b8e9bcf000000000001", "2024-05-03T10:00:00Z"),
        // The same order again, with another message id.
        order_completed("50314b8e9bcf000000000001", "2024-05-03T10:05:00Z"),
        sent(
            "Order Refunded",
            "2024-05-04T10:00:00Z",
            &json!({
                "order_id": "50314b8e9bcf000000000001", "total": 10, "currency": "USD",
                "products": [{ "product_id": "505bd76785ebb509fc183733", "quantity": 2, "price": 3 }],
            }),
        ),
        order_completed("50314b8e9bcf000000000002", "2024-05-05T10:00:00Z"),
        sent(
            "Order Cancelled",
            "2024-05-05T11:00:00Z",
            &json!({
                "order_id": "50314b8e9bcf000000000002", "total": 27.5, "revenue": 25, "currency": "USD",
            }),
        ),
        sent("Product Added", "2024-05-06T10:00:00Z", &json!({ "product_id": "1", "price": 3 })),
        sent("Product Removed", "2024-05-06T10:01:00Z", &json!({ "product_id": "1" })),
        sent("Product Viewed", "2024-05-06T10:02:00Z", &json!({ "product_id": "1" })),
    ];
    let events = events.map(|event| accepted(&set, &event));
    let row = state_of(&set, &events).feature_row(&set, at("2024-05-07T10:00:00Z"));
    let value = |name: &str| row.0[set.index_of(name).unwrap()].clone();
    for (name, expected) in [
        ("orders", 2.0),
        ("repeat_orders", 1.0),
        ("orders_28d", 2.0),
        ("recency_days", 4.0),
        ("tenure_days", 6.0),
        ("gap_days", 2.0),
        ("spend_365d", 45.0),
        ("order_value", 22.5),
        ("order_largest", 27.5),
        ("returned_365d", 10.0),
        ("gross_spend_365d", 110.0),
        ("basket_lines", 2.0),
        ("items_365d", 12.0),
        ("item_price", 11.0),
        ("products_365d", 2.0),
        ("categories_365d", 1.0),
        ("discount_365d", 10.0),
        ("discount_share", 10.0 / 120.0),
        ("coupon_share", 1.0),
        ("product_views_28d", 1.0),
        ("cart_additions_28d", 0.0),
        ("visits_28d", 6.0),
    ] {
        assert_eq!(value(name), FeatureValue::Number(expected), "{name}");
    }
}

#[test]
fn the_segment_set_is_fit_for_models() {
    let set = FeatureSet::parse(SEGMENT).unwrap();
    assert_eq!(FeatureSet::parse(&as_toml(set.normal_form())).unwrap(), set);
    let encoded: Vec<&FeatureEncoding> =
        set.features().iter().filter_map(|feature| feature.encoding.as_ref()).collect();
    assert!((12..=20).contains(&encoded.len()), "{}", encoded.len());
    let logarithms = encoded.iter().filter(|encoding| {
        matches!(encoding, FeatureEncoding::Number { transform: NumberTransform::Log1p, .. })
    });
    assert!(logarithms.count() > 10);
}

/// The default set reads the amounts of the spec too, and takes orders back.
#[test]
fn the_retail_set_reads_orders_of_the_spec() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let order = accepted(&set, &order_completed("1", "2024-05-01T10:00:00Z"));
    let back =
        sent("Order Refunded", "2024-05-04T10:00:00Z", &json!({ "order_id": "1", "total": 27.5 }));
    let back = accepted(&set, &back);
    let now = at("2024-05-07T10:00:00Z");
    let value = |events: &[_], name: &str| {
        state_of(&set, events).feature_row(&set, now).0[set.index_of(name).unwrap()].clone()
    };
    let placed = [order.clone()];
    assert_eq!(value(&placed, "spend_365d"), FeatureValue::Number(27.5));
    assert_eq!(value(&placed, "orders"), FeatureValue::Number(1.0));
    let returned = [order, back];
    assert_eq!(value(&returned, "spend_365d"), FeatureValue::Number(0.0));
    assert_eq!(value(&returned, "orders"), FeatureValue::Number(0.0));
    assert_eq!(value(&returned, "recency_days"), FeatureValue::Missing);
}
