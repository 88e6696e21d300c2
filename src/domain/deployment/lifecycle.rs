//! Model life cycle: a state machine of stages, with quality gates on its transitions.
//!
//! candidate → shadow → canary → active → retired. Intermediate stages may be
//! skipped. A gate that refuses explains itself: the required figure and the measured one.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::drift::RowCount;
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{Model, UNASSIGNED};
use crate::domain::train::backtest::BacktestReport;

/// The life-cycle stage of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelStage {
    /// Trained, not deployed.
    Candidate,
    /// Scores live traffic; its scores are recorded, never returned.
    Shadow,
    /// Answers for a share of the customers.
    Canary,
    /// Answers for all other customers.
    Active,
    /// Taken out of deployment, or rejected.
    Retired,
}

/// A requested transition between stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageTransition {
    Shadow,
    Canary,
    Promote,
    Retire,
    Reject,
}

/// The reason for which a transition was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum TransitionRefusal {
    /// The life cycle has no such transition from this stage.
    NoSuchTransition(String),
    /// The gates that refuse.
    Gates(Vec<GateResult>),
}

impl ModelStage {
    pub const ALL: [Self; 5] =
        [Self::Candidate, Self::Shadow, Self::Canary, Self::Active, Self::Retired];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// The stage after a transition, if all gates pass.
    pub fn apply_transition(
        self,
        step: StageTransition,
        gates: &[GateResult],
    ) -> Result<Self, TransitionRefusal> {
        let next = self.apply_ungated(step)?;
        let refusing: Vec<GateResult> = gates.iter().filter(|gate| !gate.passed).cloned().collect();
        if refusing.is_empty() { Ok(next) } else { Err(TransitionRefusal::Gates(refusing)) }
    }

    /// The stage after a transition, whatever the gates say.
    pub(crate) fn apply_ungated(self, step: StageTransition) -> Result<Self, TransitionRefusal> {
        match (self, step) {
            (Self::Candidate | Self::Shadow | Self::Retired, StageTransition::Shadow) => {
                Ok(Self::Shadow)
            }
            (
                Self::Candidate | Self::Shadow | Self::Canary | Self::Retired,
                StageTransition::Canary,
            ) => Ok(Self::Canary),
            (_, StageTransition::Promote) => Ok(Self::Active),
            (
                Self::Candidate | Self::Shadow | Self::Canary,
                StageTransition::Retire | StageTransition::Reject,
            ) => Ok(Self::Retired),
            (Self::Canary, StageTransition::Shadow) => Err(TransitionRefusal::NoSuchTransition(
                "the model is a canary: retire it first, then deploy it as shadow".into(),
            )),
            (Self::Active, _) => Err(TransitionRefusal::NoSuchTransition(
                "the model is active, and requests need an active model: promote another one or \
                 roll back"
                    .into(),
            )),
            (Self::Retired, StageTransition::Retire | StageTransition::Reject) => {
                Err(TransitionRefusal::NoSuchTransition("the model is already retired".into()))
            }
        }
    }
}

impl StageTransition {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Promote => "promote",
            Self::Retire => "retire",
            Self::Reject => "reject",
        }
    }

    /// Whether the model answers for customers after the transition. Only such
    /// transitions have gates.
    pub const fn is_gated(self) -> bool {
        matches!(self, Self::Canary | Self::Promote)
    }
}

impl fmt::Display for ModelStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for StageTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of one quality gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateResult {
    pub gate: &'static str,
    /// The threshold of the gate.
    pub asked: f64,
    /// The measured figure; `None`: not measured.
    pub found: Option<f64>,
    pub passed: bool,
    /// The result as a sentence.
    pub why: String,
}

/// Measurements of a model, the input of its quality gates. `None`: not measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GateEvidence {
    /// Agreement between halves of the rows that are clustered separately.
    pub reproducibility: Option<f64>,
    /// Selection score.
    pub score: Option<f64>,
    /// Mean bootstrap Jaccard similarity of the segments.
    pub jaccard: Option<f64>,
    /// Share of the training rows in the smallest segment.
    pub smallest_share: Option<f64>,
    /// Tested training rows flagged as outliers at the alpha in use.
    pub outliers: Option<RowCount>,
    /// Lift of the best segment in the back-test of earlier models: see
    /// [`BacktestReport::best_segment_lift`].
    pub backtest_lift: Option<f64>,
    /// Selection score of the active model.
    pub active_score: Option<f64>,
    /// Share of the customers who would change their segment.
    pub relabelled_share: Option<f64>,
    /// Customers scored by both the shadow model and the active model.
    pub shadow_customers: u64,
    /// Share of these customers with the same segment by both models.
    pub shadow_agreement: Option<f64>,
}

impl GateEvidence {
    /// The measurements contained in the report of a training run.
    pub fn from_report(report: &Value, alpha: f64) -> Self {
        let sizes: Vec<f64> = report["sizes"]
            .as_array()
            .map(|sizes| sizes.iter().filter_map(Value::as_f64).collect())
            .unwrap_or_default();
        let rows = sizes.iter().sum::<f64>() + report["unassigned"].as_f64().unwrap_or(0.0);
        let smallest = sizes.iter().copied().reduce(f64::min).filter(|_| rows > 0.0);
        // The report stores alpha as decimal text: compare with a tolerance, not bit by bit.
        let mut checks = report["outliers"]["checks"].as_array().into_iter().flatten();
        let check = checks.find(|check| {
            check["alpha"].as_f64().is_some_and(|known| (known - alpha).abs() <= alpha * 1e-9)
        });
        let chosen = &report["leaderboard"]["entries"][0];
        let backtest = BacktestReport::deserialize(&report["backtest"]).ok();
        Self {
            backtest_lift: backtest.and_then(|backtest| backtest.best_segment_lift()),
            reproducibility: chosen["criteria"]["reproducibility"]["value"].as_f64(),
            score: chosen["score"]["value"].as_f64(),
            jaccard: chosen["figures"]["stability"]["mean_jaccard"].as_f64(),
            smallest_share: smallest.map(|smallest| smallest / rows),
            outliers: check.and_then(|check| {
                let (counted, all) = (check["flagged"].as_u64()?, check["rows"].as_u64()?);
                Some(RowCount { counted, all })
            }),
            ..Self::default()
        }
    }
}

/// Thresholds of the quality gates.
#[derive(Debug, Clone, PartialEq)]
pub struct GateThresholds {
    pub reproducibility: f64,
    /// The largest allowed decrease of the selection score below the active model's.
    pub score_loss: f64,
    pub jaccard: f64,
    pub smallest_share: f64,
    /// The largest allowed deviation of the outlier rate from alpha, in standard deviations.
    pub outlier_deviations: f64,
    pub relabelled: f64,
    /// The smallest lift of the best segment in the back-test of earlier models; 0: no gate.
    pub backtest_lift: f64,
    pub shadow_customers: u64,
    pub shadow_agreement: f64,
    /// Whether a gate without a measurement refuses.
    pub require_figures: bool,
}

impl GateThresholds {
    /// Evaluates every gate, in a fixed order.
    pub fn gates(&self, evidence: &GateEvidence, alpha: f64) -> Vec<GateResult> {
        let loss = evidence.active_score.zip(evidence.score).map(|(a, b)| a - b);
        let mut gates = vec![
            self.at_least(
                "reproducibility",
                "agreement between halves of the rows",
                self.reproducibility,
                evidence.reproducibility,
            ),
            self.at_most(
                "score_loss",
                "selection score lost against the active model",
                self.score_loss,
                loss,
                evidence.active_score.is_some(),
            ),
            self.at_least("jaccard", "mean bootstrap Jaccard", self.jaccard, evidence.jaccard),
            self.at_least(
                "smallest_share",
                "share of the smallest segment",
                self.smallest_share,
                evidence.smallest_share,
            ),
            self.outlier_rate(evidence.outliers, alpha),
            self.at_most(
                "relabelled",
                "share of customers who would change their segment",
                self.relabelled,
                evidence.relabelled_share,
                false,
            ),
        ];
        if self.backtest_lift > 0.0 {
            gates.push(self.backtest(evidence.backtest_lift));
        }
        if self.shadow_customers > 0 {
            gates.push(shadow_customers(self.shadow_customers, evidence.shadow_customers));
            gates.push(self.at_least(
                "shadow_agreement",
                "share of customers whose segment is the same in shadow",
                self.shadow_agreement,
                evidence.shadow_agreement,
            ));
        }
        gates
    }

    fn at_least(
        &self,
        gate: &'static str,
        what: &str,
        asked: f64,
        found: Option<f64>,
    ) -> GateResult {
        let passed = found.map_or(!self.require_figures, |found| found >= asked);
        let why = match found {
            Some(found) => format!("{what} is {found:.4}; at least {asked} is required"),
            None => unmeasured(what, passed),
        };
        GateResult { gate, asked, found, passed, why }
    }

    /// A figure that depends on another model is not always measurable; then its gate
    /// passes even with `require_figures`.
    fn at_most(
        &self,
        gate: &'static str,
        what: &str,
        asked: f64,
        found: Option<f64>,
        is_measurable: bool,
    ) -> GateResult {
        let needed = self.require_figures && is_measurable;
        let passed = found.map_or(!needed, |found| found <= asked);
        let why = match found {
            Some(found) => format!("{what} is {found:.4}; at most {asked} is allowed"),
            None => unmeasured(what, passed),
        };
        GateResult { gate, asked, found, passed, why }
    }

    /// A shop without earlier models or orders has no back-test; then the gate passes even with
    /// `require_figures`.
    fn backtest(&self, found: Option<f64>) -> GateResult {
        let (gate, asked) = ("backtest_lift", self.backtest_lift);
        let passed = found.is_none_or(|found| found >= asked);
        let why = match found {
            Some(found) => format!(
                "customers of the best segment of earlier models then ordered on at least \
                 {found:.4} times as many days as the average customer (95 % confidence); at \
                 least {asked} is required"
            ),
            None => unmeasured("lift of the segments of earlier models", passed),
        };
        GateResult { gate, asked, found, passed, why }
    }

    /// Compares the outlier rate with alpha. The calibrated limit and the rate both come
    /// from samples of about the same size, so the variance is twice that of a binomial
    /// share. One row more or less counts as no difference.
    fn outlier_rate(&self, found: Option<RowCount>, alpha: f64) -> GateResult {
        let gate = "outlier_rate";
        let Some(RowCount { counted, all: rows }) = found.filter(|found| found.all > 0) else {
            let passed = !self.require_figures;
            let why = unmeasured("share of training customers flagged as outliers", passed);
            return GateResult { gate, asked: alpha, found: None, passed, why };
        };
        let rate = counted as f64 / rows as f64;
        let deviation = (2.0 * alpha * (1.0 - alpha) / rows as f64).sqrt();
        let band = self.outlier_deviations * deviation + 1.0 / rows as f64;
        let passed = (rate - alpha).abs() <= band;
        let why = format!(
            "share of training customers flagged as outliers is {rate:.4}; {alpha} ± {band:.4} \
             is required, with {rows} customers tested"
        );
        GateResult { gate, asked: alpha, found: Some(rate), passed, why }
    }
}

fn unmeasured(what: &str, passed: bool) -> String {
    let end = if passed { "which is optional" } else { "and gates.require_figures requires it" };
    format!("{what} has not been measured, {end}")
}

fn shadow_customers(asked: u64, found: u64) -> GateResult {
    GateResult {
        gate: "shadow_customers",
        asked: asked as f64,
        found: Some(found as f64),
        passed: found >= asked,
        why: format!(
            "{found} customers were scored by both the shadow and the active model; at least \
             {asked} are required"
        ),
    }
}

/// Whether a customer belongs to the canary group of a model: deterministic hash bucketing.
///
/// The first eight bytes of the SHA-256 of `<model id>/<customer id>`, read as a fraction
/// of 2⁶⁴, are below `share`. So a customer stays in the group on every replica and while
/// the share grows, and each canary model draws a different group.
pub fn is_in_canary(model: &ModelId, share: f64, customer: &CustomerKey) -> bool {
    let digest = Sha256::new()
        .chain_update(model.as_str())
        .chain_update("/")
        .chain_update(customer.as_str())
        .finalize();
    let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    share >= 1.0 || (first as f64) < share * 2_f64.powi(64)
}

const MILLION: u64 = 1_000_000;

/// Systematic sampler: picks a fixed share of a numbered stream at even intervals.
#[derive(Debug, Clone, Copy)]
pub struct SystematicSampler {
    per_million: u64,
}

impl SystematicSampler {
    pub fn new(share: f64) -> Self {
        Self { per_million: (share.clamp(0.0, 1.0) * 1e6).round() as u64 }
    }

    /// Whether item number `turn` is picked.
    pub fn picks(self, turn: u64) -> bool {
        // Bresenham's rule: item n is picked if the rounded-down number of picks grows. The
        // remainder avoids an overflow of the product.
        let turn = turn % MILLION;
        self.picked_before(turn + 1) > self.picked_before(turn)
    }

    /// Number of picks among the first `turns` items.
    fn picked_before(self, turns: u64) -> u64 {
        turns * self.per_million / MILLION
    }
}

/// Segment correspondence between the active model and another one, by segment id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentCorrespondence<'m> {
    other: &'m Model,
    have_common: bool,
}

impl<'m> SegmentCorrespondence<'m> {
    pub(crate) fn new(live: &'m Model, other: &'m Model) -> Self {
        let mut segments = other.segments().iter();
        let have_common = segments.any(|segment| live.segment_index(&segment.id).is_some());
        Self { other, have_common }
    }

    /// Whether the segment of `other` is the one with this id in the active model, or both are
    /// none. `None` if the models have no segment id in common.
    pub(crate) fn is_same_segment(&self, live_id: &str, other: Option<usize>) -> Option<bool> {
        if !self.have_common {
            return None;
        }
        let other_id = other.map_or(UNASSIGNED, |index| &self.other.segments()[index].id);
        Some(live_id == other_id)
    }
}
