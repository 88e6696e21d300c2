//! The clustering algorithms, by their public names.

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::fault::{Fault, Faults};
use crate::domain::model::MAX_PROTOTYPES;
use crate::domain::train::clustering::consensus::Consensus;
use crate::domain::train::clustering::density::{Dbscan, Hdbscan};
use crate::domain::train::clustering::gaussian_mixture::Gmm;
use crate::domain::train::clustering::gaussian_mixture::em::Spread;
use crate::domain::train::clustering::kmeans::bisecting::Bisecting;
use crate::domain::train::clustering::kmeans::kmedians::Medians;
use crate::domain::train::clustering::kmeans::{Kmeans, bisecting, kmedians};
use crate::domain::train::clustering::prototype_approximation::Cover;
use crate::domain::train::clustering::ward::{Tree, Ward};
use crate::domain::train::clustering::{
    consensus, density, gaussian_mixture, kmeans, prototype_approximation, sample, ward,
};
use crate::domain::train::{Clusters, Dataset, FitError, Progress, Search};

/// A clustering algorithm with its settings. Serialised as `"ward"`, or with settings as
/// `{"name": "ward", "max_rows": 5000}`; omitted settings have their defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Algorithm {
    Kmeans(Kmeans),
    BisectingKmeans(Bisecting),
    /// By Manhattan distance.
    Kmedians(Medians),
    GaussianMixture(Gmm),
    Ward(Ward),
    Consensus(Consensus),
    Dbscan(Dbscan),
    Hdbscan(Hdbscan),
}

/// Result of a clustering algorithm.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub clusters: Clusters,
    /// Share of rows with the same served segment as the algorithm's own label; 1 where the
    /// served form is exact.
    pub fidelity: f64,
    /// For a mixture.
    pub likelihood: Option<Likelihood>,
    /// For a hierarchy: the merges above the cut.
    pub tree: Option<Tree>,
    /// For k-means.
    pub search: Option<Search>,
}

/// Goodness of fit of a mixture, with information criteria.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Likelihood {
    /// Natural logarithm of the density of all rows.
    pub log_likelihood: f64,
    pub parameters: usize,
    /// Bayesian information criterion (Schwarz 1978); less is better.
    pub bic: f64,
    /// Akaike information criterion (Akaike 1974); less is better.
    pub aic: f64,
}

impl Algorithm {
    /// All algorithms with default settings.
    pub fn all() -> [Self; 8] {
        [
            Self::Kmeans(Kmeans::default()),
            Self::BisectingKmeans(Bisecting::default()),
            Self::Kmedians(Medians::default()),
            Self::GaussianMixture(Gmm::default()),
            Self::Ward(Ward::default()),
            Self::Consensus(Consensus::default()),
            Self::Dbscan(Dbscan::default()),
            Self::Hdbscan(Hdbscan::default()),
        ]
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Kmeans(_) => "kmeans",
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
    pub fn finds_number(&self) -> bool {
        matches!(self, Self::Dbscan(_) | Self::Hdbscan(_))
    }

    /// Clusterings that one fit computes: random starts, or the runs of a consensus.
    pub fn starts(&self) -> usize {
        match self {
            Self::Kmeans(it) => it.starts(),
            Self::BisectingKmeans(it) => it.starts,
            Self::Kmedians(it) => it.starts,
            Self::Consensus(it) => it.runs,
            Self::GaussianMixture(_) | Self::Ward(_) | Self::Dbscan(_) | Self::Hdbscan(_) => 1,
        }
    }

    /// The same algorithm with at most `starts` random starts, for repeated fits.
    #[must_use]
    pub(crate) fn with_at_most(self, starts: usize) -> Self {
        match self {
            Self::Kmeans(it) => {
                Self::Kmeans(Kmeans { starts: Some(it.starts().min(starts)), ..it })
            }
            Self::BisectingKmeans(it) => {
                Self::BisectingKmeans(Bisecting { starts: it.starts.min(starts) })
            }
            Self::Kmedians(it) => Self::Kmedians(Medians { starts: it.starts.min(starts), ..it }),
            other => other,
        }
    }

    /// Adds a fault for every setting out of range; `path` is the position in the spec.
    pub fn check(&self, path: &str, faults: &mut Faults) {
        let mut check = Check { path, faults };
        match self {
            Self::Kmeans(it) => {
                check.count("starts", it.starts(), 1, 1000);
                check.count("max_iterations", it.max_iterations(), 1, 10_000);
                check.number("tolerance", it.tolerance(), 0.0, 1.0);
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
                check.count("min_samples", it.min_samples, 1, 100_000);
                check.count("max_rows", it.max_rows, 100, 10_000_000);
            }
            Self::Hdbscan(it) => {
                check.count("min_cluster_size", it.min_cluster_size, 2, 1_000_000);
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
        data: &Dataset,
        segments: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Clusters, FitError> {
        Ok(self.find(data, segments, seed, progress)?.clusters)
    }

    /// As [`Self::fit`], with fidelity and diagnostics.
    pub fn find(
        &self,
        data: &Dataset,
        segments: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Outcome, FitError> {
        refuse_not_finite(data)?;
        let covered = |labels: &[Option<u32>]| {
            let labels = sample::numbered(labels);
            if labels.iter().all(Option::is_none) {
                return Err(FitError::AllNoise { rows: data.rows() });
            }
            let covered =
                prototype_approximation::cover(data, &labels, &Cover::default(), seed, progress)?;
            Ok(Outcome { fidelity: covered.fidelity, ..Outcome::exact(covered.clusters) })
        };
        match self {
            Self::Kmeans(it) => {
                let best = kmeans::best_of(data, segments, it, seed, progress)?;
                let found = Outcome::exact(best.partition.into());
                Ok(Outcome { search: Some(best.search), ..found })
            }
            Self::Kmedians(it) => {
                kmedians::fit(data, segments, it, seed, progress).map(Outcome::exact)
            }
            Self::BisectingKmeans(it) => {
                covered(&all_in(&bisecting::fit(data, segments, it, seed, progress)?))
            }
            Self::GaussianMixture(it) => mixture(data, segments, it, seed, progress),
            Self::Ward(it) => {
                let found = ward::fit(data, segments, it, seed, progress)?;
                let outcome = covered(&all_in(&found.labels))?;
                // The clusters are numbered by their first rows, the parts of the cut are not.
                let mut names = vec![0; segments];
                for (part, cluster) in
                    found.labels.iter().zip(sample::numbered(&all_in(&found.labels)))
                {
                    names[*part as usize] = cluster.unwrap_or_default();
                }
                Ok(Outcome { tree: Some(found.tree.above(segments, &names)), ..outcome })
            }
            Self::Consensus(it) => covered(&consensus::fit(data, segments, it, seed, progress)?),
            Self::Dbscan(it) => covered(&density::dbscan(data, it, seed, progress)?),
            Self::Hdbscan(it) => covered(&density::hdbscan(data, it, seed, progress)?),
        }
    }
}

impl Outcome {
    fn exact(clusters: Clusters) -> Self {
        Self { clusters, fidelity: 1.0, likelihood: None, tree: None, search: None }
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The long form of the serialisation.
        #[derive(Deserialize)]
        #[serde(tag = "name", rename_all = "snake_case")]
        enum Written {
            Kmeans(Kmeans),
            BisectingKmeans(Bisecting),
            Kmedians(Medians),
            GaussianMixture(Gmm),
            Ward(Ward),
            Consensus(Consensus),
            Dbscan(Dbscan),
            Hdbscan(Hdbscan),
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Written;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of an algorithm, or {\"name\": …} with its settings")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Written, E> {
                let only_name = std::iter::once(("name", name.to_owned()));
                Written::deserialize(de::value::MapDeserializer::new(only_name).into_deserializer())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                Written::deserialize(MapAccessDeserializer::new(map))
            }
        }
        Ok(match deserializer.deserialize_any(Either)? {
            Written::Kmeans(it) => Self::Kmeans(it),
            Written::BisectingKmeans(it) => Self::BisectingKmeans(it),
            Written::Kmedians(it) => Self::Kmedians(it),
            Written::GaussianMixture(it) => Self::GaussianMixture(it),
            Written::Ward(it) => Self::Ward(it),
            Written::Consensus(it) => Self::Consensus(it),
            Written::Dbscan(it) => Self::Dbscan(it),
            Written::Hdbscan(it) => Self::Hdbscan(it),
        })
    }
}

struct Check<'a> {
    path: &'a str,
    faults: &'a mut Faults,
}

impl Check<'_> {
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

    fn cover(&mut self, cover: &Cover) {
        self.number("cover.agreement", cover.agreement, 0.0, 1.0);
        self.count("cover.max_prototypes", cover.max_prototypes, 1, MAX_PROTOTYPES);
    }

    fn add(&mut self, name: &str, problem: String) {
        self.faults.push(Fault::new(format!("{}.{name}", self.path), problem));
    }
}

fn refuse_not_finite(data: &Dataset) -> Result<(), FitError> {
    let found = (0..data.rows()).find_map(|row| {
        let column = data.row(row).iter().position(|x| !x.is_finite())?;
        Some(FitError::NotFinite { row, column })
    });
    found.map_or(Ok(()), Err)
}

fn all_in(labels: &[u32]) -> Vec<Option<u32>> {
    labels.iter().copied().map(Some).collect()
}

fn mixture(
    data: &Dataset,
    segments: usize,
    settings: &Gmm,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Outcome, FitError> {
    let found = gaussian_mixture::fit(data, segments, settings, seed, progress)?;
    let parameters = found.parameters();
    let (price, deviance) = (parameters as f64, -2.0 * found.log_likelihood);
    let likelihood = Some(Likelihood {
        log_likelihood: found.log_likelihood,
        parameters,
        bic: deviance + price * (data.rows() as f64).ln(),
        aic: deviance + 2.0 * price,
    });
    let outcome = match &found.mixture.spread {
        Spread::Diagonal(variances) => Outcome::exact(found.serve_diagonal(variances)),
        Spread::Full(_) => {
            let labels = sample::numbered(&all_in(&found.labels));
            let covered =
                prototype_approximation::cover(data, &labels, &settings.cover, seed, progress)?;
            Outcome { fidelity: covered.fidelity, ..Outcome::exact(covered.clusters) }
        }
    };
    Ok(Outcome { likelihood, ..outcome })
}
