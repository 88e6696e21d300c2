//! Built-in mappings of known table formats, by name.

/// A mapping that is part of the binary.
struct BuiltinMapping {
    name: &'static str,
    text: &'static str,
}

const MAPPINGS: [BuiltinMapping; 12] = [
    BuiltinMapping {
        name: "online-retail",
        text: include_str!("../../../config/mappings/online-retail.toml"),
    },
    BuiltinMapping { name: "olist", text: include_str!("../../../config/mappings/olist.toml") },
    BuiltinMapping { name: "rees46", text: include_str!("../../../config/mappings/rees46.toml") },
    BuiltinMapping {
        name: "retailrocket",
        text: include_str!("../../../config/mappings/retailrocket.toml"),
    },
    BuiltinMapping { name: "taobao", text: include_str!("../../../config/mappings/taobao.toml") },
    BuiltinMapping {
        name: "shopify-orders",
        text: include_str!("../../../config/mappings/shopify-orders.toml"),
    },
    BuiltinMapping {
        name: "stripe-charges",
        text: include_str!("../../../config/mappings/stripe-charges.toml"),
    },
    BuiltinMapping {
        name: "woocommerce",
        text: include_str!("../../../config/mappings/woocommerce.toml"),
    },
    BuiltinMapping {
        name: "ga4-bigquery",
        text: include_str!("../../../config/mappings/ga4-bigquery.toml"),
    },
    BuiltinMapping {
        name: "segment-warehouse",
        text: include_str!("../../../config/mappings/segment-warehouse.toml"),
    },
    BuiltinMapping {
        name: "snowflake",
        text: include_str!("../../../config/mappings/snowflake.toml"),
    },
    BuiltinMapping {
        name: "postgres-copy",
        text: include_str!("../../../config/mappings/postgres-copy.toml"),
    },
];

/// The text of a built-in mapping.
pub(super) fn text_of(name: &str) -> Option<&'static str> {
    MAPPINGS.iter().find(|mapping| mapping.name == name).map(|mapping| mapping.text)
}

pub(super) fn names() -> Vec<&'static str> {
    MAPPINGS.iter().map(|mapping| mapping.name).collect()
}
