//! The report of a training run, as it is stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::models::backtest::BacktestBody;
use crate::api::models::leaderboard::LeaderboardBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::domain::time::Timestamp;
use crate::domain::train::lineage::LineageEvent;

/// Figures of a training run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::api) struct TrainingReportBody {
    /// The instant that the training rows describe.
    as_of: Timestamp,
    data: TrainingDataBody,
    /// Training rows, fitted and held out.
    #[schema(example = 5000)]
    rows: u64,
    /// Rows that the model is fitted to.
    #[schema(example = 4000)]
    fitted_rows: u64,
    /// Rows kept out of the fit, to calibrate outlier limits.
    #[schema(example = 1000)]
    held_out_rows: u64,
    /// Columns of the encoded rows.
    #[schema(example = 24)]
    columns: u64,
    /// Dimensions in which rows are compared: the columns, or the principal components.
    #[schema(example = 24)]
    axes: u64,
    /// Features with an encoding that are not used: without a value in any fitted row, or, of more
    /// than 1,024 columns, those that are most often the same.
    #[schema(example = json!(["loyalty_tier"]))]
    left_out: Vec<String>,
    /// Transform and clipping bounds of each numeric feature.
    numbers: Vec<FittedNumberBody>,
    /// Training rows in each segment, in the order of the segments.
    #[schema(example = json!([1800, 1700, 1500]))]
    sizes: Vec<u64>,
    /// For a hierarchical clustering: the merges that lead to fewer segments, in order. Left out
    /// for other algorithms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joins: Vec<DendrogramMergeBody>,
    /// Training rows in no segment.
    #[schema(example = 0)]
    unassigned: u64,
    /// Sum of the squared distances of the fitted rows to their prototypes, in encoded units.
    #[schema(example = 8120.5)]
    inertia: f64,
    /// For k-means: iterations of the best start. Left out for other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 17)]
    iterations: Option<u64>,
    /// For k-means: number of the best start, from 0. Left out for other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 4)]
    start: Option<u64>,
    /// For k-means: the inertia of each start. Left out for other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!([8302.1, 8120.5]))]
    inertia_by_start: Option<Vec<f64>>,
    /// Mean simplified silhouette of the fitted rows, from -1 to 1; null with one segment.
    #[schema(minimum = -1, maximum = 1, example = 0.31)]
    silhouette: Option<f64>,
    outliers: OutlierReportBody,
    split: SplitBalanceBody,
    leaderboard: LeaderboardBody,
    /// Whether the segments of earlier models predicted what customers then did. Left out without
    /// `backtest_horizons_days`, and for rows from tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backtest: Option<BacktestBody>,
    /// Why there is no model of customer value. Left out if there is one, and for rows from tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "the orders span 120 days; 270 are needed")]
    value_gap: Option<String>,
    /// Which segments kept their ids. Left out for a model that is not compared with another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<SegmentLineageBody>,
}

/// Transform and clipping bounds of a numeric feature, as fitted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct FittedNumberBody {
    /// Name of the feature.
    #[schema(example = "spend_365d")]
    feature: String,
    /// `none`, `log1p`, or `yeo-johnson`.
    #[schema(example = "yeo-johnson")]
    transform: String,
    /// Parameter of Yeo-Johnson. Left out for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.12)]
    lambda: Option<f64>,
    /// Bounds that values are clipped at, in the feature's unit. Left out if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!([0.0, 52000.0]))]
    clipped: Option<[f64; 2]>,
}

/// Selection of the training rows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct TrainingDataBody {
    /// Customers read.
    #[schema(example = 6000)]
    seen: u64,
    /// Customers that pass every filter.
    #[schema(example = 5000)]
    admitted: u64,
    /// Customers used for training.
    #[schema(example = 5000)]
    kept: u64,
    /// Whether fewer customers were sampled than admitted.
    sampled: bool,
    /// Seed of the sample.
    #[schema(example = 0)]
    seed: u64,
}

/// A merge of two nodes of a dendrogram. Node 0 is the first segment; the number of segments plus
/// i is the result of merge i.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct DendrogramMergeBody {
    /// The first merged node.
    #[schema(example = 0)]
    a: u32,
    /// The second merged node.
    #[schema(example = 2)]
    b: u32,
    /// Ward distance of the nodes, in encoded units.
    #[schema(example = 41.7)]
    height: f64,
    /// Rows below the merged node.
    #[schema(example = 3300.0)]
    size: f64,
}

/// Calibration of the outlier flag.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct OutlierReportBody {
    method: CalibrationMethodBody,
    /// Rows that the p-values are ranks among.
    #[schema(example = 1000)]
    calibrating_rows: u64,
    /// Smallest p-value that the model gives, 1 / (`calibrating_rows` + 1). If it is above
    /// `scoring.outlier_alpha`, no customer can be flagged.
    #[schema(minimum = 0, maximum = 1, example = 0.001)]
    smallest_p_value: f64,
    /// Flagged shares of one half of the calibrating rows, with p-values from the other half.
    checks: Vec<OutlierCheckBody>,
}

/// The rows that calibrate the outlier flag. `held_out`: the held-out rows. `leave_one_out`: all rows,
/// each measured against the others, as fewer than 400 are held out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CalibrationMethodBody {
    HeldOut,
    LeaveOneOut,
}

/// Share of rows flagged as outliers at a significance level, among rows that the calibration
/// did not use.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct OutlierCheckBody {
    /// Significance level: the expected share of flagged rows.
    #[schema(example = 0.01)]
    alpha: f64,
    /// Tested rows.
    #[schema(example = 500)]
    rows: u64,
    /// Flagged rows.
    #[schema(example = 6)]
    flagged: u64,
}

/// Similarity of the parts into which the rows are split.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SplitBalanceBody {
    /// Rows that candidates are fitted to.
    #[schema(example = 3200)]
    train: u64,
    /// Rows on which candidates are compared.
    #[schema(example = 800)]
    validation: u64,
    /// Rows kept out of the fit, to calibrate outlier limits.
    #[schema(example = 1000)]
    held_out: u64,
    /// Largest standardised mean difference over all features; null without a numeric feature.
    #[schema(example = 0.04)]
    largest_mean_difference: Option<f64>,
    /// Largest difference of the distributions over all features; null without one.
    #[schema(minimum = 0, maximum = 1, example = 0.03)]
    largest_ks: Option<f64>,
    /// Each feature in each part.
    features: Vec<FeatureBalanceBody>,
}

/// One feature in one part, compared with the rows that the part was drawn from.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct FeatureBalanceBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    part: SplitPart,
    /// Standardised mean difference, in standard deviations; below 0.1 counts as balanced. Null
    /// for categories.
    #[schema(example = 0.02)]
    mean_difference: Option<f64>,
    /// Largest difference of the distributions: the two-sample Kolmogorov-Smirnov statistic for
    /// numbers, the largest difference of a category's share for categories.
    #[schema(minimum = 0, maximum = 1, example = 0.03)]
    ks: f64,
}

/// A part of the rows: `held_out`, compared with all other rows, or `validation`, compared with
/// the rows that candidates are fitted to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SplitPart {
    HeldOut,
    Validation,
}

/// Which segments of the model that was active kept their ids.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SegmentLineageBody {
    /// Id of the model that was active; null: none, and every segment is born.
    #[serde(alias = "predecessor")]
    #[schema(example = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")]
    predecessor_model_id: Option<String>,
    /// Whether the predecessor can score the rows; otherwise every segment is born.
    comparable: bool,
    /// Rows scored by both models.
    #[schema(example = 5000)]
    rows: u64,
    /// Rows in a segment of another id than before.
    #[schema(example = 120)]
    relabelled: u64,
    /// `relabelled` as a share of `rows`.
    #[schema(minimum = 0, maximum = 1, example = 0.024)]
    relabelled_share: f64,
    /// Share of the assigned rows that are in a segment with an inherited id.
    #[schema(minimum = 0, maximum = 1, example = 1.0)]
    matched_share: f64,
    /// New segments in their order, then deaths, then splits, merges and other flows.
    #[serde(alias = "lines")]
    events: Vec<LineageChangeBody>,
}

/// What became of a segment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct LineageChangeBody {
    event: LineageEvent,
    /// The segment before; null: the segment is born.
    old: Option<NamedSegmentBody>,
    /// The segment after; null: the segment died.
    new: Option<NamedSegmentBody>,
    /// Training rows in both segments; for a birth or a death, the rows of that segment.
    #[schema(example = 310)]
    members: u64,
    /// `members` as a share of the rows of the old segment; null for a birth.
    #[schema(minimum = 0, maximum = 1, example = 0.9)]
    share_of_old: Option<f64>,
    /// `members` as a share of the rows of the new segment; null for a death.
    #[schema(minimum = 0, maximum = 1, example = 0.95)]
    share_of_new: Option<f64>,
}
