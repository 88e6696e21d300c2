//! The leaderboard in the report of a training run, as it is stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The candidates of a training run, best first; refused candidates are last.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct LeaderboardBody {
    /// The RFM segmentation that candidates are compared with; null: none.
    baseline: Option<LeaderboardBaselineBody>,
    entries: Vec<LeaderboardEntryBody>,
    /// Whether the rows form groups at all; null: not tested.
    structure: Option<StructureTestBody>,
    /// What a reader should know about the choice, in sentences.
    #[schema(example = json!([
        "one other candidate is equally good, within one standard error of the score: kmeans with \
         5 segments"
    ]))]
    notes: Vec<String>,
    /// Candidates that could not be fitted. Left out if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<FailedCandidateBody>,
}

/// Test for structure: the chosen candidate beside the same algorithm on rows without groups.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct StructureTestBody {
    verdict: StructureVerdictBody,
    /// Score of the chosen candidate on the tested rows.
    #[schema(maximum = 1, example = 0.74)]
    score: f64,
    /// Largest score on rows without groups.
    #[schema(maximum = 1, example = 0.41)]
    reference_score: f64,
    /// Share of the sets of rows without groups that reach the score of the candidate.
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    p_value: f64,
    /// Sets of rows without groups, of each of two kinds: Gaussian clouds and uniform boxes.
    #[schema(example = 19)]
    references: u64,
    /// Rows of each set.
    #[schema(example = 1000)]
    rows: u64,
}

/// What the segments are. `groups`: rows without groups never give such segments; `slices`: parts
/// of one cloud, which other rows reproduce, with arbitrary borders; `no_structure`: neither.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StructureVerdictBody {
    Groups,
    Slices,
    NoStructure,
}

/// The criteria that the score of a candidate is made of, each alike for segments of any shape.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SelectionCriteriaBody {
    reproducibility: SampleEstimateBody,
    /// Modularity of the segments in the graph of nearest neighbours: 0 by chance, near 1 if
    /// neighbours share their segment and there are many segments.
    #[schema(maximum = 1, example = 0.75)]
    modularity: f64,
    /// Density-based validation (DBCV): above 0 if segments are denser than the space between
    /// them; null with one segment.
    #[schema(minimum = -1, maximum = 1, example = 0.12)]
    density_validation: Option<f64>,
    /// Mean share of the variance of the `outcomes` that the segments explain (epsilon squared), of
    /// customers with a number; customers in no segment are not explained. Left out without outcomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcomes: Option<SampleEstimateBody>,
}

/// The RFM segmentation that candidates are compared with.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct LeaderboardBaselineBody {
    /// Segments with rows, best first.
    segments: Vec<BaselineSegmentBody>,
    figures: PartitionFiguresBody,
}

/// A segment of the RFM segmentation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct BaselineSegmentBody {
    /// Key of the segment.
    #[schema(example = "champions")]
    segment: String,
    /// Rows in the segment.
    #[schema(example = 410)]
    rows: u64,
}

/// A candidate: one fitted model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct LeaderboardEntryBody {
    /// Name of the clustering algorithm.
    #[schema(example = "kmeans")]
    algorithm: String,
    /// Settings in which the algorithm differs from others of the same name among the candidates.
    /// Left out if it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "min_cluster_share = 0.05")]
    variant: Option<String>,
    /// Position in the `algorithms` of the spec, from 0.
    #[schema(example = 0)]
    listed: u64,
    /// Number of segments: requested, or found by the algorithm.
    #[schema(example = 5)]
    segments: u64,
    figures: PartitionFiguresBody,
    /// Null: not measured.
    criteria: Option<SelectionCriteriaBody>,
    /// Weighted mean of the criteria, which ranks the candidates; null: not measured.
    score: Option<SampleEstimateBody>,
    /// Whether the score is within one standard error of the best.
    is_equally_good: bool,
    /// For a Gaussian mixture. Left out for other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    likelihood: Option<MixtureLikelihoodBody>,
    /// Share of the rows that scoring assigns as the algorithm did.
    #[schema(minimum = 0, maximum = 1, example = 1.0)]
    fidelity: f64,
    /// Segments that were dissolved because they were smaller than the gate `smallest_share`.
    #[schema(example = 0)]
    dissolved: u64,
    /// Results of the gates of the spec.
    gates: Vec<CandidateGateResultBody>,
    /// Difference from the baseline; null without one.
    over_baseline: Option<BaselineMarginBody>,
    /// Reason of the rank.
    #[schema(
        example = "first: score 0.741 ± 0.012 of reproducibility 0.95, modularity 0.75 and density \
                   validation 0.12"
    )]
    reason: String,
    cost: ResourceCostBody,
}

/// Figures of a division of the rows into segments.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct PartitionFiguresBody {
    /// Rows that the figures are measured on: a sample for candidates that are not among the best.
    #[schema(example = 3000)]
    rows: u64,
    /// Number of segments with rows.
    #[schema(example = 5)]
    segments: u64,
    /// Mean silhouette of a sample of the rows; null with one segment.
    silhouette: Option<SampleEstimateBody>,
    /// Mean silhouette by the distances to centroids, from -1 to 1; null with one segment.
    #[schema(minimum = -1, maximum = 1, example = 0.33)]
    simplified_silhouette: Option<f64>,
    /// As `simplified_silhouette`, over the validation rows.
    #[schema(minimum = -1, maximum = 1, example = 0.32)]
    validation_silhouette: Option<f64>,
    /// Davies-Bouldin index: small is good; null with one segment.
    #[schema(minimum = 0, example = 1.1)]
    davies_bouldin: Option<f64>,
    /// Calinski-Harabasz index: large is good; null with one segment.
    #[schema(minimum = 0, example = 1930.0)]
    calinski_harabasz: Option<f64>,
    /// Sum of the squared distances of the rows to the centres of their segments, in encoded
    /// units.
    #[schema(example = 6400.2)]
    inertia: f64,
    /// Share of the rows in the smallest segment.
    #[schema(minimum = 0, maximum = 1, example = 0.08)]
    smallest_share: f64,
    /// Balance of the sizes: 1 if all segments are equally large.
    #[schema(minimum = 0, maximum = 1, example = 0.94)]
    balance: f64,
    /// Share of the rows in no segment.
    #[schema(minimum = 0, maximum = 1, example = 0.0)]
    noise_share: f64,
    /// Null: not measured, because other candidates are ahead.
    stability: Option<StabilityReportBody>,
}

/// An estimate from a sample of the rows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SampleEstimateBody {
    /// The estimate.
    #[schema(example = 0.31)]
    value: f64,
    /// Its standard error.
    #[schema(example = 0.008)]
    error: f64,
    /// Rows in the sample.
    #[schema(example = 2000)]
    rows: u64,
}

/// Results of the stability trials.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct StabilityReportBody {
    /// Each segment of the candidate; empty without bootstraps.
    segments: Vec<SegmentStabilityBody>,
    /// Mean bootstrap Jaccard index of the segments; null without bootstraps.
    #[schema(minimum = 0, maximum = 1, example = 0.87)]
    mean_jaccard: Option<f64>,
    /// Agreement of runs from other seeds; null without such runs.
    seeds: Option<RandAgreementBody>,
    /// Agreement of slices that were clustered separately.
    slices: Vec<SliceStabilityBody>,
    /// Share of the rows that keep their segment under noise; null without noise.
    #[schema(minimum = 0, maximum = 1, example = 0.97)]
    kept_under_noise: Option<f64>,
    /// Rows in the trials.
    #[schema(example = 3200)]
    rows: u64,
}

/// Stability of one segment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SegmentStabilityBody {
    /// Mean bootstrap Jaccard index (Hennig 2007).
    #[schema(minimum = 0, maximum = 1, example = 0.91)]
    jaccard: f64,
    #[serde(alias = "reading")]
    rating: StabilityRatingBody,
}

/// Rating of a mean bootstrap Jaccard index: `unstable` below 0.60, `doubtful` below 0.75,
/// `stable` below 0.85, otherwise `highly_stable`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StabilityRatingBody {
    Unstable,
    Doubtful,
    Stable,
    HighlyStable,
}

/// Adjusted Rand index over several runs: 1 if they give the same segments.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct RandAgreementBody {
    /// Mean over the runs.
    #[schema(maximum = 1, example = 0.95)]
    mean: f64,
    /// Smallest over the runs.
    #[schema(maximum = 1, example = 0.92)]
    least: f64,
}

/// Agreement of a slice that was clustered separately with the clustering of all rows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SliceStabilityBody {
    /// Name of the feature that defines the slice.
    #[schema(example = "country")]
    feature: String,
    /// Value of the feature.
    #[schema(example = "FR")]
    value: String,
    /// Rows in the slice.
    #[schema(example = 640)]
    rows: u64,
    /// Adjusted Rand index; 1: the same segments.
    #[schema(maximum = 1, example = 0.88)]
    adjusted_rand: f64,
}

/// Goodness of fit of a Gaussian mixture.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct MixtureLikelihoodBody {
    /// Natural logarithm of the density of all rows.
    #[schema(example = -20120.4)]
    log_likelihood: f64,
    /// Number of fitted parameters.
    #[schema(example = 120)]
    parameters: u64,
    /// Bayesian information criterion; less is better.
    #[schema(example = 41200.1)]
    bic: f64,
    /// Akaike information criterion; less is better.
    #[schema(example = 40480.8)]
    aic: f64,
}

/// The result of a gate of the spec for one candidate.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct CandidateGateResultBody {
    /// Name of the gate.
    #[schema(example = "smallest_share")]
    gate: String,
    /// Threshold of the gate.
    #[serde(alias = "asked")]
    #[schema(example = 0.005)]
    threshold: f64,
    /// Measured value.
    #[serde(alias = "found")]
    #[schema(example = 0.08)]
    measured: f64,
    /// Whether the candidate meets the condition.
    passed: bool,
}

/// Figures of a candidate minus those of the baseline; positive: the candidate is better.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct BaselineMarginBody {
    /// Difference of the silhouettes; null if one is unknown.
    #[schema(example = 0.12)]
    silhouette: Option<f64>,
    /// Difference of the Davies-Bouldin indices; null if one is unknown.
    #[schema(example = 0.4)]
    davies_bouldin: Option<f64>,
    /// Difference of the Calinski-Harabasz indices; null if one is unknown.
    #[schema(example = 700.0)]
    calinski_harabasz: Option<f64>,
}

/// Resources that a candidate took.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct ResourceCostBody {
    /// Time in seconds.
    #[schema(example = 1.4)]
    seconds: f64,
    /// Peak memory of the process meanwhile, in bytes; null: not reported by the system.
    #[schema(example = 150_000_000)]
    peak_bytes: Option<u64>,
}

/// A candidate that could not be fitted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct FailedCandidateBody {
    /// Name of the clustering algorithm.
    #[schema(example = "dbscan")]
    algorithm: String,
    /// Settings in which the algorithm differs from others of the same name among the candidates.
    /// Left out if it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "min_cluster_share = 0.05")]
    variant: Option<String>,
    /// Position in the `algorithms` of the spec, from 0.
    #[schema(example = 1)]
    listed: u64,
    /// Requested number of segments; null if the algorithm finds it.
    #[schema(example = 40)]
    segments: Option<u64>,
    /// Reason of the failure.
    #[schema(example = "40 segments need at least 40 distinct rows, but there are 31")]
    reason: String,
}
