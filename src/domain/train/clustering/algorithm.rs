//! The clustering algorithms, by their public names.

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::model::MAX_PROTOTYPES;
use crate::domain::train::clustering::consensus::ConsensusSettings;
use crate::domain::train::clustering::density::{DbscanSettings, HdbscanSettings};
use crate::domain::train::clustering::gaussian_mixture::GaussianMixtureSettings;
use crate::domain::train::clustering::gaussian_mixture::em::ComponentCovariances;
use crate::domain::train::clustering::kmeans::bisecting::BisectingKmeansSettings;
use crate::domain::train::clustering::kmeans::kmedians::KmediansSettings;
use crate::domain::train::clustering::kmeans::minibatch::MiniBatchKmeansSettings;
use crate::domain::train::clustering::kmeans::{KmeansSettings, bisecting, kmedians, minibatch};
use crate::domain::train::clustering::prototype_approximation::ApproximationSettings;
use crate::domain::train::clustering::ward::{MergeTree, WardSettings};
use crate::domain::train::clustering::{
    consensus, density, gaussian_mixture, kmeans, prototype_approximation, sample, ward,
};
use crate::domain::train::evaluation::internal_indices;
use crate::domain::train::{
    EncodedDataset, KmeansDiagnostics, PrototypeClusters, TrainingError, TrainingProgress,
};

/// Covariance floor of mixtures that compete with many components: without it, components
/// collapse on equal rows.
const MIXTURE_FLOOR: f64 = 1e-4;
/// Smallest segments of the competing HDBSCANs, as shares of the rows.
const SMALLEST_SHARES: [f64; 4] = [0.005, 0.01, 0.02, 0.05];

/// A clustering algorithm with its settings. Serialised as `"ward"`, or with settings as
/// `{"name": "ward", "max_rows": 5000}`; omitted settings have their defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum ClusteringAlgorithm {
    Kmeans(KmeansSettings),
    MiniBatchKmeans(MiniBatchKmeansSettings),
    BisectingKmeans(BisectingKmeansSettings),
    /// By Manhattan distance.
    Kmedians(KmediansSettings),
    GaussianMixture(GaussianMixtureSettings),
    Ward(WardSettings),
    Consensus(ConsensusSettings),
    Dbscan(DbscanSettings),
    Hdbscan(HdbscanSettings),
}

/// Result of a clustering algorithm.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusteringOutcome {
    pub clusters: PrototypeClusters,
    /// Share of rows with the same served segment as the algorithm's own label; 1 where the
    /// served form is exact.
    pub fidelity: f64,
    /// For a mixture.
    pub likelihood: Option<MixtureLikelihood>,
    /// For a hierarchy: the merges above the cut.
    pub tree: Option<MergeTree>,
    /// For k-means.
    pub search: Option<KmeansDiagnostics>,
}

/// Goodness of fit of a mixture, with information criteria.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MixtureLikelihood {
    /// Natural logarithm of the density of all rows.
    pub log_likelihood: f64,
    pub parameters: usize,
    /// Bayesian information criterion (Schwarz 1978); less is better.
    pub bic: f64,
    /// Akaike information criterion (Akaike 1974); less is better.
    pub aic: f64,
}

impl ClusteringAlgorithm {
    /// The algorithms that compete unless others are named: one for round segments, one for
    /// elongated ones, and one for dense regions of any shape, with several sizes of the smallest
    /// segment.
    pub(crate) fn automatic(kmeans: KmeansSettings) -> Vec<Self> {
        let mixture = GaussianMixtureSettings { floor: MIXTURE_FLOOR, ..Default::default() };
        let mut competing = vec![Self::Kmeans(kmeans), Self::GaussianMixture(mixture)];
        for min_cluster_share in SMALLEST_SHARES {
            competing
                .push(Self::Hdbscan(HdbscanSettings { min_cluster_share, ..Default::default() }));
        }
        competing
    }

    /// All algorithms with default settings.
    pub fn all() -> [Self; 9] {
        [
            Self::Kmeans(KmeansSettings::default()),
            Self::MiniBatchKmeans(MiniBatchKmeansSettings::default()),
            Self::BisectingKmeans(BisectingKmeansSettings::default()),
            Self::Kmedians(KmediansSettings::default()),
            Self::GaussianMixture(GaussianMixtureSettings::default()),
            Self::Ward(WardSettings::default()),
            Self::Consensus(ConsensusSettings::default()),
            Self::Dbscan(DbscanSettings::default()),
            Self::Hdbscan(HdbscanSettings::default()),
        ]
    }

    /// Public name, as in the serialised form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kmeans(_) => "kmeans",
            Self::MiniBatchKmeans(_) => "mini_batch_kmeans",
            Self::BisectingKmeans(_) => "bisecting_kmeans",
            Self::Kmedians(_) => "kmedians",
            Self::GaussianMixture(_) => "gaussian_mixture",
            Self::Ward(_) => "ward",
            Self::Consensus(_) => "consensus",
            Self::Dbscan(_) => "dbscan",
            Self::Hdbscan(_) => "hdbscan",
        }
    }

    /// Whether the algorithm finds the number of segments itself and ignores the requested one.
    pub fn finds_segment_count(&self) -> bool {
        matches!(self, Self::Dbscan(_) | Self::Hdbscan(_))
    }

    /// Largest number of segments that is worth a trial with these rows.
    pub(crate) fn most_segments(&self, rows: usize, columns: usize) -> usize {
        match self {
            Self::GaussianMixture(it) => it.most_components(rows, columns),
            _ => usize::MAX,
        }
    }

    /// Clusterings that one fit computes: random starts, or the runs of a consensus.
    pub(crate) fn starts(&self) -> usize {
        match self {
            Self::Kmeans(it) => it.starts(),
            Self::BisectingKmeans(it) => it.starts,
            Self::Kmedians(it) => it.starts,
            Self::Consensus(it) => it.runs,
            Self::MiniBatchKmeans(_)
            | Self::GaussianMixture(_)
            | Self::Ward(_)
            | Self::Dbscan(_)
            | Self::Hdbscan(_) => 1,
        }
    }

    /// The same algorithm with at most `starts` random starts, for repeated fits.
    #[must_use]
    pub(crate) fn with_at_most(self, starts: usize) -> Self {
        match self {
            Self::Kmeans(it) => {
                Self::Kmeans(KmeansSettings { starts: Some(it.starts().min(starts)), ..it })
            }
            Self::BisectingKmeans(it) => {
                Self::BisectingKmeans(BisectingKmeansSettings { starts: it.starts.min(starts) })
            }
            Self::Kmedians(it) => {
                Self::Kmedians(KmediansSettings { starts: it.starts.min(starts), ..it })
            }
            other => other,
        }
    }

    /// Adds a fault for every setting out of range; `path` is the position in the spec.
    pub fn check(&self, path: &str, faults: &mut ValidationFaults) {
        let mut check = SettingsCheck { path, faults };
        match self {
            Self::Kmeans(it) => {
                check.count("starts", it.starts(), 1, 1000);
                check.count("max_iterations", it.max_iterations(), 1, 10_000);
                check.number("tolerance", it.tolerance(), 0.0, 1.0);
            }
            Self::MiniBatchKmeans(it) => {
                check.count("starts", it.starts, 1, 1000);
                check.count("batch_size", it.batch_size, 1, 10_000_000);
                check.count("max_iterations", it.max_iterations, 1, 10_000);
                check.count("max_no_improvement", it.max_no_improvement, 1, 1_000_000);
                check.number("reassignment_ratio", it.reassignment_ratio, 0.0, 1.0);
            }
            Self::BisectingKmeans(it) => check.count("starts", it.starts, 1, 1000),
            Self::Kmedians(it) => {
                check.count("starts", it.starts, 1, 1000);
                check.count("max_iterations", it.max_iterations, 1, 10_000);
            }
            Self::GaussianMixture(it) => {
                check.number("floor", it.floor, 1e-12, 1e6);
                check.number("tolerance", it.tolerance, 0.0, 1e6);
                check.count("max_iterations", it.max_iterations, 1, 10_000);
                check.cover(&it.cover);
            }
            Self::Ward(it) => {
                check.count("max_rows", it.max_rows, 2, 100_000);
                check.count("cells", it.cells, 2, 100_000);
            }
            Self::Consensus(it) => {
                check.count("runs", it.runs, 2, 1000);
                check.count("max_rows", it.max_rows, 100, 1_000_000);
            }
            Self::Dbscan(it) => {
                if let Some(eps) = it.eps {
                    check.number("eps", eps, f64::MIN_POSITIVE, 1e9);
                }
                if let Some(samples) = it.min_samples {
                    check.count("min_samples", samples, 1, 100_000);
                }
                check.number("min_cluster_share", it.min_cluster_share, 0.0, 0.5);
                check.count("max_rows", it.max_rows, 100, 10_000_000);
            }
            Self::Hdbscan(it) => {
                check.number("min_cluster_share", it.min_cluster_share, 1e-6, 0.5);
                if let Some(size) = it.min_cluster_size {
                    check.count("min_cluster_size", size, 2, 1_000_000);
                }
                if let Some(samples) = it.min_samples {
                    check.count("min_samples", samples, 1, 100_000);
                }
                check.count("max_rows", it.max_rows, 100, 10_000_000);
            }
        }
    }

    /// Divides the rows into `segments` segments, or into the number that the algorithm finds.
    ///
    /// Uses the current rayon pool; the result does not depend on its size. Rows with NaN or
    /// infinity are refused, for all algorithms.
    pub fn fit(
        &self,
        data: &EncodedDataset,
        segments: usize,
        seed: u64,
        progress: &dyn TrainingProgress,
    ) -> Result<PrototypeClusters, TrainingError> {
        Ok(self.fit_with_diagnostics(data, segments, seed, progress)?.clusters)
    }

    /// As [`Self::fit`], with fidelity and diagnostics.
    pub fn fit_with_diagnostics(
        &self,
        data: &EncodedDataset,
        segments: usize,
        seed: u64,
        progress: &dyn TrainingProgress,
    ) -> Result<ClusteringOutcome, TrainingError> {
        refuse_not_finite(data)?;
        match self {
            Self::Kmeans(it) => {
                let best = kmeans::fit_best_start(data, segments, it, seed, progress)?;
                let found = ClusteringOutcome::exact(best.partition.into());
                Ok(ClusteringOutcome { search: Some(best.search), ..found })
            }
            Self::MiniBatchKmeans(it) => {
                let partition = minibatch::fit(data, segments, it, seed, progress)?;
                Ok(ClusteringOutcome::exact(partition.into()))
            }
            Self::Kmedians(it) => {
                kmedians::fit(data, segments, it, seed, progress).map(ClusteringOutcome::exact)
            }
            Self::BisectingKmeans(it) => {
                let labels = bisecting::fit(data, segments, it, seed, progress)?;
                approximate(
                    data,
                    &all_assigned(&labels),
                    &ApproximationSettings::default(),
                    seed,
                    progress,
                )
            }
            Self::GaussianMixture(it) => fit_mixture(data, segments, it, seed, progress),
            Self::Ward(it) => {
                let found = ward::fit(data, segments, it, seed, progress)?;
                let labels = all_assigned(&found.labels);
                let outcome =
                    approximate(data, &labels, &ApproximationSettings::default(), seed, progress)?;
                // The clusters are numbered by their first rows, the parts of the cut are not.
                let mut names = vec![0; segments];
                for (part, cluster) in found.labels.iter().zip(sample::renumbered(&labels)) {
                    names[*part as usize] = cluster.unwrap_or_default();
                }
                Ok(ClusteringOutcome {
                    tree: Some(found.tree.above_cut(segments, &names)),
                    ..outcome
                })
            }
            Self::Consensus(it) => {
                let labels = consensus::fit(data, segments, it, seed, progress)?;
                approximate(data, &labels, &ApproximationSettings::default(), seed, progress)
            }
            Self::Dbscan(it) => {
                let labels = density::dbscan(data, it, seed, progress)?;
                density::refuse_all_noise(
                    &labels,
                    "lower `min_samples` or `min_cluster_share`, or raise `eps`",
                )?;
                approximate(data, &labels, &ApproximationSettings::default(), seed, progress)
            }
            Self::Hdbscan(it) => {
                let labels = density::hdbscan(data, it, seed, progress)?;
                density::refuse_all_noise(
                    &labels,
                    "lower `min_cluster_share` (or `min_cluster_size`) or `min_samples`",
                )?;
                approximate(data, &labels, &ApproximationSettings::default(), seed, progress)
            }
        }
    }
}

/// Served form of a labelling, by prototypes; at least one row has a label.
fn approximate(
    data: &EncodedDataset,
    labels: &[Option<u32>],
    settings: &ApproximationSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<ClusteringOutcome, TrainingError> {
    let labels = sample::renumbered(labels);
    let covered = prototype_approximation::approximate(data, &labels, settings, seed, progress)?;
    Ok(ClusteringOutcome {
        fidelity: covered.fidelity,
        ..ClusteringOutcome::exact(covered.clusters)
    })
}

impl ClusteringOutcome {
    fn exact(clusters: PrototypeClusters) -> Self {
        Self { clusters, fidelity: 1.0, likelihood: None, tree: None, search: None }
    }
}

impl<'de> Deserialize<'de> for ClusteringAlgorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The long form of the serialisation.
        #[derive(Deserialize)]
        #[serde(tag = "name", rename_all = "snake_case")]
        enum TaggedAlgorithm {
            Kmeans(KmeansSettings),
            MiniBatchKmeans(MiniBatchKmeansSettings),
            BisectingKmeans(BisectingKmeansSettings),
            Kmedians(KmediansSettings),
            GaussianMixture(GaussianMixtureSettings),
            Ward(WardSettings),
            Consensus(ConsensusSettings),
            Dbscan(DbscanSettings),
            Hdbscan(HdbscanSettings),
        }
        struct NameOrSettings;
        impl<'de> Visitor<'de> for NameOrSettings {
            type Value = TaggedAlgorithm;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of an algorithm, or {\"name\": …} with its settings")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<TaggedAlgorithm, E> {
                let only_name = std::iter::once(("name", name.to_owned()));
                TaggedAlgorithm::deserialize(
                    de::value::MapDeserializer::new(only_name).into_deserializer(),
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TaggedAlgorithm, A::Error> {
                TaggedAlgorithm::deserialize(MapAccessDeserializer::new(map))
            }
        }
        Ok(match deserializer.deserialize_any(NameOrSettings)? {
            TaggedAlgorithm::Kmeans(it) => Self::Kmeans(it),
            TaggedAlgorithm::MiniBatchKmeans(it) => Self::MiniBatchKmeans(it),
            TaggedAlgorithm::BisectingKmeans(it) => Self::BisectingKmeans(it),
            TaggedAlgorithm::Kmedians(it) => Self::Kmedians(it),
            TaggedAlgorithm::GaussianMixture(it) => Self::GaussianMixture(it),
            TaggedAlgorithm::Ward(it) => Self::Ward(it),
            TaggedAlgorithm::Consensus(it) => Self::Consensus(it),
            TaggedAlgorithm::Dbscan(it) => Self::Dbscan(it),
            TaggedAlgorithm::Hdbscan(it) => Self::Hdbscan(it),
        })
    }
}

struct SettingsCheck<'a> {
    path: &'a str,
    faults: &'a mut ValidationFaults,
}

impl SettingsCheck<'_> {
    fn count(&mut self, name: &str, value: usize, least: usize, most: usize) {
        if !(least..=most).contains(&value) {
            self.add(name, format!("must be from {least} to {most}, is {value}"));
        }
    }

    fn number(&mut self, name: &str, value: f64, least: f64, most: f64) {
        // NaN is in no range.
        if !(least..=most).contains(&value) {
            self.add(name, format!("must be from {least:e} to {most:e}, is {value}"));
        }
    }

    fn cover(&mut self, cover: &ApproximationSettings) {
        self.number("cover.agreement", cover.agreement, 0.0, 1.0);
        self.count("cover.max_prototypes", cover.max_prototypes, 1, MAX_PROTOTYPES);
    }

    fn add(&mut self, name: &str, problem: String) {
        self.faults.push(ValidationFault::new(format!("{}.{name}", self.path), problem));
    }
}

fn refuse_not_finite(data: &EncodedDataset) -> Result<(), TrainingError> {
    let found = (0..data.rows()).find_map(|row| {
        let column = data.row(row).iter().position(|x| !x.is_finite())?;
        Some(TrainingError::NotFinite { row, column })
    });
    found.map_or(Ok(()), Err)
}

fn all_assigned(labels: &[u32]) -> Vec<Option<u32>> {
    labels.iter().copied().map(Some).collect()
}

fn fit_mixture(
    data: &EncodedDataset,
    segments: usize,
    settings: &GaussianMixtureSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<ClusteringOutcome, TrainingError> {
    let found = gaussian_mixture::fit(data, segments, settings, seed, progress)?;
    let (log_likelihood, parameters) = (found.log_likelihood, found.parameters());
    let likelihood = Some(MixtureLikelihood {
        log_likelihood,
        parameters,
        bic: internal_indices::bic(log_likelihood, parameters, data.rows() as u64),
        aic: internal_indices::aic(log_likelihood, parameters),
    });
    let outcome = match &found.mixture.covariances {
        ComponentCovariances::Diagonal(variances) => {
            ClusteringOutcome::exact(found.serve_diagonal(variances))
        }
        ComponentCovariances::Full(_) => {
            approximate(data, &all_assigned(&found.labels), &settings.cover, seed, progress)?
        }
    };
    Ok(ClusteringOutcome { likelihood, ..outcome })
}
