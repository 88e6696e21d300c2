//! Parser of the features file. It reports every fault at once, each with its line and what
//! would be right. The manual of the format is `config/features.retail.toml`.
//!
//! There are two passes. The first parses each table without regard to the others
//! (`declaration`, `source`); the second checks references between tables (`resolve`).

mod amount;
mod declaration;
mod document;
mod fields;
mod filter;
mod orders;
mod reach;
mod resolve;
mod settings;
mod source;
mod window;

use std::sync::Arc;

use crate::domain::fault::ValidationFaults;
use crate::domain::feature::define::{FeatureDefinition, TraitDefinition};
use crate::domain::feature::orders::rules::OrderRules;
use crate::domain::feature::reading::money::MoneyRules;
use crate::domain::feature::rfm::RfmRules;
use crate::domain::feature::source::{DerivedFeature, EventFeatureSource, FeatureSource};
use crate::domain::feature::zone::DayZone;
use declaration::{DraftFeature, DraftRfm, DraftTrait};
use document::{DocumentNode, NodeData};
use fields::{FaultSink, TableReader};

/// The declarations of a file without faults.
#[derive(Debug)]
pub(super) struct FeatureDeclarations {
    pub(super) traits: Vec<TraitDefinition>,
    pub(super) features: Vec<FeatureDefinition>,
    /// The source of each feature.
    pub(super) sources: Vec<FeatureSource>,
    pub(super) event_sources: Vec<EventFeatureSource>,
    /// In order of dependency: each after the derived features it is computed from.
    pub(super) derived: Vec<DerivedFeature>,
    pub(super) rfm: RfmRules,
    /// The rules of orders, if declared.
    pub(super) orders: Option<Arc<OrderRules>>,
    /// The time zone of days.
    pub(super) zone: DayZone,
    pub(super) money: Option<MoneyRules>,
}

/// The parsed tables of a file, each as far as it could be parsed.
struct DraftDeclarations {
    traits: Vec<DraftTrait>,
    features: Vec<DraftFeature>,
    rfm: Option<DraftRfm>,
    settings: SetSettings,
}

/// The parsed tables `[orders]`, `[time]` and `[money]`.
struct SetSettings {
    orders: OptionalTable<Arc<OrderRules>>,
    zone: OptionalTable<DayZone>,
    money: OptionalTable<MoneyRules>,
}

/// A table that need not be declared.
enum OptionalTable<T> {
    Absent,
    /// Its faults are recorded.
    Faulty,
    Read(T),
}

pub(super) fn from_toml(text: &str) -> Result<FeatureDeclarations, ValidationFaults> {
    let document = document::from_toml(text)?;
    let faults = FaultSink::default();
    let declared = root(&document, &faults);
    faults.into_faults().into_result(())?;
    // Unreachable: every part that cannot be read records a fault.
    declared.ok_or_else(|| ValidationFaults::single("features", "could not be read"))
}

fn root(document: &DocumentNode, faults: &FaultSink) -> Option<FeatureDeclarations> {
    let mut root = TableReader::open(document, String::new(), faults)?;
    let traits: Vec<_> =
        tables(&mut root, "trait", faults).into_iter().map(declaration::read_trait).collect();
    let features: Vec<_> =
        tables(&mut root, "feature", faults).into_iter().map(declaration::read_feature).collect();
    if features.is_empty() {
        root.fault(None, "feature", "is missing: declare at least one `[[feature]]`");
    }
    let rfm = root
        .need("rfm", "a table `[rfm]` with `recency`, `frequency` and `monetary`")
        .and_then(|node| root.table_of("rfm", node))
        .map(declaration::read_rfm);
    let orders = optional_table(&mut root, "orders", orders::read_orders);
    let zone = optional_table(&mut root, "time", settings::read_time);
    let money = optional_table(&mut root, "money", settings::read_money);
    root.finish("a features file");
    let orders = match orders {
        OptionalTable::Absent => OptionalTable::Absent,
        OptionalTable::Faulty => OptionalTable::Faulty,
        OptionalTable::Read(mut rules) => {
            if let OptionalTable::Read(money) = &money {
                money.mark_orders(&mut rules);
            }
            OptionalTable::Read(Arc::new(rules))
        }
    };
    let settings = SetSettings { orders, zone, money };
    resolve::resolve(DraftDeclarations { traits, features, rfm, settings }, faults)
}

fn optional_table<'d, 'f, T>(
    root: &mut TableReader<'d, 'f>,
    key: &'static str,
    read: impl FnOnce(TableReader<'d, 'f>) -> Option<T>,
) -> OptionalTable<T> {
    let Some(node) = root.get(key) else { return OptionalTable::Absent };
    root.table_of(key, node).and_then(read).map_or(OptionalTable::Faulty, OptionalTable::Read)
}

/// The tables of `[[key]]`, each with a path that names it: `feature.orders_28d`, or a number
/// if it has no usable name.
fn tables<'d, 'f>(
    root: &mut TableReader<'d, 'f>,
    key: &'static str,
    faults: &'f FaultSink,
) -> Vec<TableReader<'d, 'f>> {
    let Some(node) = root.get(key) else { return Vec::new() };
    let NodeData::List(items) = &node.data else {
        root.fault(node.line, key, format!("must be tables that begin with `[[{key}]]`"));
        return Vec::new();
    };
    let mut tables = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let named = match &item.data {
            NodeData::Table(entries) => entries.iter().find(|entry| &*entry.key == "name"),
            _ => None,
        };
        let path = match named.map(|entry| &entry.node.data) {
            Some(NodeData::Text(name)) if !name.trim().is_empty() => format!("{key}.{name}"),
            _ => format!("{key}[{}]", i + 1),
        };
        tables.extend(TableReader::open(item, path, faults));
    }
    tables
}
