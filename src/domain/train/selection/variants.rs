//! Settings that distinguish candidates of the same algorithm.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::domain::train::clustering::algorithm::ClusteringAlgorithm;

/// For each algorithm, the settings in which it differs from others of the same name, such as
/// `min_cluster_share = 0.05`; `None` if it is the only one of its name.
pub(crate) fn distinguishing_settings(algorithms: &[ClusteringAlgorithm]) -> Vec<Option<Box<str>>> {
    let settings: Vec<Map<String, Value>> = algorithms.iter().map(settings_of).collect();
    let mut distinguishing = Vec::with_capacity(algorithms.len());
    for (own, algorithm) in settings.iter().zip(algorithms) {
        let others = settings
            .iter()
            .zip(algorithms)
            .filter(|(_, other)| other.name() == algorithm.name())
            .map(|(settings, _)| settings);
        // Settings without a value are left out of the serialised form of some of them.
        let differing: BTreeSet<&String> = others
            .flat_map(|other| {
                let names = own.keys().chain(other.keys());
                names.filter(|name| own.get(*name) != other.get(*name))
            })
            .collect();
        let named: Vec<String> = differing
            .into_iter()
            .map(|name| format!("{name} = {}", own.get(name).unwrap_or(&Value::Null)))
            .collect();
        distinguishing.push((!named.is_empty()).then(|| named.join(", ").into()));
    }
    distinguishing
}

fn settings_of(algorithm: &ClusteringAlgorithm) -> Map<String, Value> {
    match serde_json::to_value(algorithm) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    }
}
