//! Audiences: the language of rules, their evaluation, and their references to each other.

mod evaluation;
mod language;

use std::sync::{Arc, LazyLock};

use segmentd::domain::audience::{AudienceDefinition, AudienceSet};
use segmentd::domain::feature::FeatureSet;

const FEATURES: &str = r#"
[[feature]]
name = "orders"
title = "Orders"
unit = "orders"
owner = "crm@example.com"
sensitivity = "internal"
fold = "count"
from = { kind = "track", name = "Order Completed" }

[[feature]]
name = "recency_days"
title = "Days since the last order"
unit = "days"
owner = "crm@example.com"
sensitivity = "internal"
fold = "recency"
from = { kind = "track", name = "Order Completed" }

[[feature]]
name = "spend"
title = "Spend"
unit = "USD"
owner = "crm@example.com"
sensitivity = "internal"
fold = "sum"
from = { kind = "track", name = "Order Completed" }
property = "sales_value"

[[feature]]
name = "tier"
title = "Loyalty tier"
unit = "tier"
owner = "crm@example.com"
sensitivity = "internal"
trait = "loyalty_tier"

[[feature]]
name = "age"
title = "Age"
unit = "years"
owner = "crm@example.com"
sensitivity = "sensitive"
trait = "age"

[[trait]]
name = "loyalty_tier"
title = "Loyalty tier"
owner = "crm@example.com"
sensitivity = "internal"
kind = "text"

[[trait]]
name = "age"
title = "Age"
owner = "crm@example.com"
sensitivity = "sensitive"
kind = "number"

[rfm]
recency = { feature = "recency_days", cuts = [20, 60, 120, 240] }
frequency = { feature = "orders", cuts = [1, 3, 6, 12] }
monetary = { feature = "spend", cuts = [50, 150, 400, 1000] }
"#;

static SET: LazyLock<FeatureSet> = LazyLock::new(|| FeatureSet::parse(FEATURES).unwrap());

fn define(rules: &[(&str, &str)]) -> Arc<AudienceSet> {
    let mut definitions = Vec::new();
    for (id, (name, expression)) in (1..).zip(rules) {
        definitions.push(AudienceDefinition {
            id,
            name: (*name).into(),
            expression: (*expression).to_owned(),
        });
    }
    AudienceSet::compile(7, &definitions, &SET)
}
