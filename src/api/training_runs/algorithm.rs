//! Clustering algorithms in a training spec: by name, or with settings.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::domain::fault::{ValidationFault, ValidationFaults};

/// An algorithm by its name, or with settings; absent settings have their defaults.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum AlgorithmBody {
    Name(AlgorithmName),
    Settings(Box<AlgorithmSettingsBody>),
}

/// A clustering algorithm. `dbscan` and `hdbscan` find the number of segments themselves;
/// `kmedians` always uses the Manhattan distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AlgorithmName {
    Kmeans,
    MiniBatchKmeans,
    BisectingKmeans,
    Kmedians,
    GaussianMixture,
    Ward,
    Consensus,
    Dbscan,
    Hdbscan,
}

/// An algorithm with its settings. Each setting names the algorithms that have it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlgorithmSettingsBody {
    name: AlgorithmName,
    /// `kmeans`, `mini_batch_kmeans`, `bisecting_kmeans` and `kmedians`: independent starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000, example = 10)]
    starts: Option<u64>,
    /// `kmeans`, `mini_batch_kmeans`, `kmedians` and `gaussian_mixture`: most iterations.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000, example = 300)]
    max_iterations: Option<u64>,
    /// `kmeans`: convergence if the squared movement of all centres is at most this share of the
    /// mean variance of the columns, at most 1. `gaussian_mixture`: convergence if the mean
    /// log-likelihood per row changes by less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000, example = 0.0001)]
    tolerance: Option<f64>,
    /// `mini_batch_kmeans`: rows per step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000_000, example = 1024)]
    batch_size: Option<u64>,
    /// `mini_batch_kmeans`: steps without improvement after which the search stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000, example = 10)]
    max_no_improvement: Option<u64>,
    /// `mini_batch_kmeans`: a centre with a smaller share of the rows of the largest is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.01)]
    reassignment_ratio: Option<f64>,
    /// `gaussian_mixture`: form of the covariances; default `automatic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    covariance: Option<CovarianceForm>,
    /// `gaussian_mixture`: added to every variance, in encoded units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1e-12, maximum = 1_000_000, example = 0.000_001)]
    floor: Option<f64>,
    /// `gaussian_mixture`: how full covariances are approximated for scoring.
    #[serde(skip_serializing_if = "Option::is_none")]
    cover: Option<PrototypeApproximationBody>,
    /// `ward`: with more rows, k-means cells of rows are merged, at most 100,000. `consensus`,
    /// `dbscan` and `hdbscan`: with more rows, a sample is clustered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2, maximum = 10_000_000, example = 10_000)]
    max_rows: Option<u64>,
    /// `ward`: number of cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2, maximum = 100_000, example = 1000)]
    cells: Option<u64>,
    /// `consensus`: clusterings that are combined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2, maximum = 1000, example = 20)]
    runs: Option<u64>,
    /// `dbscan`: radius of a neighbourhood in encoded units; default from the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1_000_000_000, example = 0.5)]
    eps: Option<f64>,
    /// `dbscan` and `hdbscan`: rows in the neighbourhood of a core row, itself included; default
    /// of `dbscan`: twice the number of columns, at least twice the logarithm of the number of rows; of
    /// `hdbscan`: the fewest rows in a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000, example = 5)]
    min_samples: Option<u64>,
    /// `hdbscan`: fewest rows in a segment; default by `min_cluster_share`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2, maximum = 1_000_000, example = 50)]
    min_cluster_size: Option<u64>,
    /// `dbscan` and `hdbscan`: fewest rows in a segment as a share of all rows; default 0.005 of
    /// `dbscan`; 0.01 of `hdbscan`, where it is above 0 and never means fewer than five rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 0.5, example = 0.01)]
    min_cluster_share: Option<f64>,
}

/// Covariances of a Gaussian mixture: one variance per column, a full matrix, or the full matrix
/// with at most 32 columns.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CovarianceForm {
    Automatic,
    Diagonal,
    Full,
}

/// Approximation of a clustering by prototypes, for scoring.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PrototypeApproximationBody {
    /// Required share of rows with the label of the clustering.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.99)]
    agreement: Option<f64>,
    /// Most prototypes of all segments together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4096, example = 512)]
    max_prototypes: Option<u64>,
}

impl AlgorithmName {
    /// The settings of the algorithm.
    const fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Kmeans => &["starts", "max_iterations", "tolerance"],
            Self::MiniBatchKmeans => &[
                "starts",
                "batch_size",
                "max_iterations",
                "max_no_improvement",
                "reassignment_ratio",
            ],
            Self::BisectingKmeans => &["starts"],
            Self::Kmedians => &["starts", "max_iterations"],
            Self::GaussianMixture => {
                &["covariance", "floor", "tolerance", "max_iterations", "cover"]
            }
            Self::Ward => &["max_rows", "cells"],
            Self::Consensus => &["runs", "max_rows"],
            Self::Dbscan => &["eps", "min_samples", "min_cluster_share", "max_rows"],
            Self::Hdbscan => &["min_cluster_share", "min_cluster_size", "min_samples", "max_rows"],
        }
    }
}

impl AlgorithmBody {
    /// Adds a fault for every setting that the algorithm does not have; `path` is the position
    /// in the spec.
    pub(super) fn check_settings(&self, path: &str, faults: &mut ValidationFaults) {
        let Self::Settings(settings) = self else { return };
        let known = settings.name.settings();
        let given = serde_json::to_value(settings).unwrap_or_default();
        for setting in given.as_object().into_iter().flat_map(|given| given.keys()) {
            if setting != "name" && !known.contains(&&**setting) {
                let problem = format!("this algorithm has the settings {}", known.join(", "));
                faults.push(ValidationFault::new(format!("{path}.{setting}"), problem));
            }
        }
    }
}

impl<'de> Deserialize<'de> for AlgorithmBody {
    /// Unlike the derived form of an untagged enum, errors have the path of the setting.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrSettings)
    }
}

struct NameOrSettings;

impl<'de> Visitor<'de> for NameOrSettings {
    type Value = AlgorithmBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an algorithm, or an object with `name` and settings")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<AlgorithmBody, E> {
        AlgorithmName::deserialize(StrDeserializer::new(name)).map(AlgorithmBody::Name)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AlgorithmBody, A::Error> {
        AlgorithmSettingsBody::deserialize(MapAccessDeserializer::new(map))
            .map(|settings| AlgorithmBody::Settings(Box::new(settings)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::train::ClusteringAlgorithm;

    #[test]
    fn every_algorithm_of_the_trainer_has_a_name_and_its_settings() {
        for algorithm in ClusteringAlgorithm::all() {
            let stored = serde_json::to_value(&algorithm).unwrap();
            let body: AlgorithmSettingsBody = serde_json::from_value(stored.clone()).unwrap();
            let known = body.name.settings();
            for name in stored.as_object().unwrap().keys() {
                assert!(name == "name" || known.contains(&&**name), "{stored}: {name}");
            }
            for setting in known {
                let value = match *setting {
                    "covariance" => json!("full"),
                    "cover" => json!({ "agreement": 1.0 }),
                    _ => json!(1),
                };
                let with = json!({ "name": algorithm.name(), *setting: value });
                let body: AlgorithmBody = serde_json::from_value(with.clone()).unwrap();
                let mut faults = ValidationFaults::default();
                body.check_settings("algorithms[0]", &mut faults);
                assert!(faults.is_empty(), "{faults}");
                let parsed = serde_json::from_value::<ClusteringAlgorithm>(with.clone());
                assert_eq!(parsed.unwrap().name(), algorithm.name(), "{with}");
            }
        }
    }

    #[test]
    fn a_setting_of_another_algorithm_is_a_fault() {
        let body: AlgorithmBody =
            serde_json::from_value(json!({ "name": "ward", "eps": 0.5 })).unwrap();
        let mut faults = ValidationFaults::default();
        body.check_settings("algorithms[2]", &mut faults);
        let expected = "algorithms[2].eps: this algorithm has the settings max_rows, cells";
        assert_eq!(faults.to_string(), expected);
        let name: AlgorithmBody = serde_json::from_value(Value::from("ward")).unwrap();
        assert!(matches!(name, AlgorithmBody::Name(AlgorithmName::Ward)));
    }
}
