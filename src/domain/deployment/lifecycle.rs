//! The life of a model: which stages follow which, and the gates between them.
//!
//! candidate → shadow → canary → active → retired. Stages between may be left
//! out; a gate refuses in words, with what it asked and what it found.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{Model, UNASSIGNED};

/// Where a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Trained, and nothing else.
    Candidate,
    /// Scores live traffic and answers nobody.
    Shadow,
    /// Answers a share of the customers.
    Canary,
    /// Answers everybody else.
    Active,
    /// Has been one of these, or was turned down.
    Retired,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    Shadow,
    Canary,
    Promote,
    Retire,
    Reject,
}

/// Why a move was not made.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// No such move from this stage.
    Illegal(String),
    /// These gates refuse.
    Gates(Vec<Gate>),
}

impl Stage {
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

    /// The stage after a move that all gates let pass.
    pub fn after(self, step: Move, gates: &[Gate]) -> Result<Self, Refusal> {
        let next = self.after_any(step)?;
        let refusing: Vec<Gate> = gates.iter().filter(|gate| !gate.passed).cloned().collect();
        if refusing.is_empty() { Ok(next) } else { Err(Refusal::Gates(refusing)) }
    }

    /// The stage after a move, whatever the gates say.
    pub fn after_any(self, step: Move) -> Result<Self, Refusal> {
        match (self, step) {
            (Self::Candidate | Self::Shadow | Self::Retired, Move::Shadow) => Ok(Self::Shadow),
            (Self::Candidate | Self::Shadow | Self::Canary | Self::Retired, Move::Canary) => {
                Ok(Self::Canary)
            }
            (_, Move::Promote) => Ok(Self::Active),
            (Self::Candidate | Self::Shadow | Self::Canary, Move::Retire | Move::Reject) => {
                Ok(Self::Retired)
            }
            (Self::Canary, Move::Shadow) => Err(Refusal::Illegal(
                "the model is in canary: retire it first, then put it in shadow".into(),
            )),
            (Self::Active, _) => Err(Refusal::Illegal(
                "the model is active and something must answer: promote another, or roll back"
                    .into(),
            )),
            (Self::Retired, Move::Retire | Move::Reject) => {
                Err(Refusal::Illegal("the model is retired already".into()))
            }
        }
    }
}

impl Move {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Promote => "promote",
            Self::Retire => "retire",
            Self::Reject => "reject",
        }
    }

    /// Whether customers are answered by the model after it: only then are there
    /// gates.
    pub const fn is_gated(self) -> bool {
        matches!(self, Self::Canary | Self::Promote)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One condition, and how it came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    pub gate: &'static str,
    /// The figure at which it begins to refuse.
    pub asked: f64,
    /// `None`: nobody has measured it.
    pub found: Option<f64>,
    pub passed: bool,
    /// The same in words.
    pub why: String,
}

/// What is known of a model when it is to answer somebody. What nobody has
/// measured is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Mean simplified silhouette of the fitted rows.
    pub silhouette: Option<f64>,
    /// Mean bootstrap Jaccard similarity of the segments.
    pub jaccard: Option<f64>,
    /// Share of the training rows in the smallest segment.
    pub smallest_share: Option<f64>,
    /// Held-out rows judged, and how many were flagged, at the alpha in use.
    pub outliers: Option<(u64, u64)>,
    /// Of the model that answers now.
    pub active_silhouette: Option<f64>,
    /// Share of the customers who would be in another segment.
    pub relabelled: Option<f64>,
    /// Customers scored in shadow beside what answers now.
    pub shadow_customers: u64,
    /// Share of them in the same segment both times.
    pub shadow_agreement: Option<f64>,
}

impl Evidence {
    /// The part that the report of a training run has.
    pub fn from_report(report: &Value, alpha: f64) -> Self {
        let sizes: Vec<f64> = report["sizes"]
            .as_array()
            .map(|sizes| sizes.iter().filter_map(Value::as_f64).collect())
            .unwrap_or_default();
        let rows = sizes.iter().sum::<f64>() + report["unassigned"].as_f64().unwrap_or(0.0);
        let smallest = sizes.iter().copied().reduce(f64::min).filter(|_| rows > 0.0);
        let checks = report["outliers"].as_array().into_iter().flatten();
        // The same number, written and read back.
        let at_alpha = |check: &&Value| {
            check["alpha"].as_f64().is_some_and(|of| (of - alpha).abs() <= alpha * 1e-9)
        };
        let check = checks.into_iter().find(at_alpha);
        Self {
            silhouette: report["silhouette"].as_f64(),
            jaccard: report["leaderboard"]["entries"][0]["figures"]["stability"]["mean_jaccard"]
                .as_f64(),
            smallest_share: smallest.map(|smallest| smallest / rows),
            outliers: check
                .and_then(|check| Some((check["rows"].as_u64()?, check["flagged"].as_u64()?))),
            ..Self::default()
        }
    }
}

/// From where on the gates refuse.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    pub silhouette: f64,
    /// Less than the active model's by this much.
    pub silhouette_loss: f64,
    pub jaccard: f64,
    pub smallest_share: f64,
    /// Of the flag rate from its alpha, in standard deviations.
    pub outlier_deviations: f64,
    pub relabelled: f64,
    pub shadow_customers: u64,
    pub shadow_agreement: f64,
    /// Whether a gate without a figure refuses.
    pub require_figures: bool,
}

impl Thresholds {
    /// Every gate, in one order.
    pub fn gates(&self, evidence: &Evidence, alpha: f64) -> Vec<Gate> {
        let loss = evidence.active_silhouette.zip(evidence.silhouette).map(|(a, b)| a - b);
        let mut gates = vec![
            self.at_least("silhouette", "mean silhouette", self.silhouette, evidence.silhouette),
            self.at_most(
                "silhouette_loss",
                "silhouette lost against the active model",
                self.silhouette_loss,
                loss,
                evidence.active_silhouette.is_some(),
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
                "share of customers who would be in another segment",
                self.relabelled,
                evidence.relabelled,
                false,
            ),
        ];
        if self.shadow_customers > 0 {
            gates.push(shadow_customers(self.shadow_customers, evidence.shadow_customers));
            gates.push(self.at_least(
                "shadow_agreement",
                "share of customers in the same segment in shadow",
                self.shadow_agreement,
                evidence.shadow_agreement,
            ));
        }
        gates
    }

    fn at_least(&self, gate: &'static str, what: &str, asked: f64, found: Option<f64>) -> Gate {
        let passed = found.map_or(!self.require_figures, |found| found >= asked);
        let why = match found {
            Some(found) => format!("{what} is {found:.4}; at least {asked} is asked"),
            None => unmeasured(what, passed),
        };
        Gate { gate, asked, found, passed, why }
    }

    /// What depends on another model cannot always be measured.
    fn at_most(
        &self,
        gate: &'static str,
        what: &str,
        asked: f64,
        found: Option<f64>,
        is_measurable: bool,
    ) -> Gate {
        let needed = self.require_figures && is_measurable;
        let passed = found.map_or(!needed, |found| found <= asked);
        let why = match found {
            Some(found) => format!("{what} is {found:.4}; at most {asked} is asked"),
            None => unmeasured(what, passed),
        };
        Gate { gate, asked, found, passed, why }
    }

    /// The limit and the rate are both of samples, of about one size: twice the
    /// variance of a binomial share, and one row more or less is no difference.
    fn outlier_rate(&self, found: Option<(u64, u64)>, alpha: f64) -> Gate {
        let gate = "outlier_rate";
        let Some((rows, flagged)) = found.filter(|(rows, _)| *rows > 0) else {
            let passed = !self.require_figures;
            let why = unmeasured("share of held-out customers flagged as outliers", passed);
            return Gate { gate, asked: alpha, found: None, passed, why };
        };
        let rate = flagged as f64 / rows as f64;
        let deviation = (2.0 * alpha * (1.0 - alpha) / rows as f64).sqrt();
        let band = self.outlier_deviations * deviation + 1.0 / rows as f64;
        let passed = (rate - alpha).abs() <= band;
        let why = format!(
            "share of held-out customers flagged as outliers is {rate:.4}; {alpha} ± {band:.4} \
             is asked, with {rows} of them"
        );
        Gate { gate, asked: alpha, found: Some(rate), passed, why }
    }
}

fn unmeasured(what: &str, passed: bool) -> String {
    let end = if passed { "not asked for" } else { "and gates.require_figures asks for it" };
    format!("{what} has not been measured, {end}")
}

fn shadow_customers(asked: u64, found: u64) -> Gate {
    Gate {
        gate: "shadow_customers",
        asked: asked as f64,
        found: Some(found as f64),
        passed: found >= asked,
        why: format!(
            "{found} customers were scored in shadow beside what answers now; at least {asked} \
             are asked"
        ),
    }
}

/// Whether a canary of this share answers this customer: the first eight bytes of
/// the SHA-256 of `<model id>/<customer id>`, as a fraction of all there are, are
/// below the share. So a customer stays in it, whoever asks and while the share
/// grows; and each canary tries other customers.
pub fn is_in_canary(model: &ModelId, share: f64, customer: &CustomerKey) -> bool {
    let digest = Sha256::new()
        .chain_update(model.as_str())
        .chain_update("/")
        .chain_update(customer.as_str())
        .finalize();
    let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    share >= 1.0 || (first as f64) < share * 2_f64.powi(64)
}

/// Picks so many of those who come, evenly.
#[derive(Debug, Clone, Copy)]
pub struct Picker {
    per_million: u64,
}

impl Picker {
    pub fn new(share: f64) -> Self {
        Self { per_million: (share.clamp(0.0, 1.0) * 1e6).round() as u64 }
    }

    /// Whether the one who came as number `turn` is among them.
    pub fn picks(self, turn: u64) -> bool {
        const MILLION: u64 = 1_000_000;
        let picked_by = |turn: u64| turn * self.per_million / MILLION;
        let turn = turn % MILLION;
        picked_by(turn + 1) > picked_by(turn)
    }
}

/// Two models' segments, the same where they have one id.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'m> {
    live: &'m Model,
    other: &'m Model,
    have_common: bool,
}

impl<'m> Beside<'m> {
    pub fn new(live: &'m Model, other: &'m Model) -> Self {
        let is_known = |id: &str| live.segments().iter().any(|segment| *segment.id == *id);
        let have_common = other.segments().iter().any(|segment| is_known(&segment.id));
        Self { live, other, have_common }
    }

    /// The segment of `other` that the live one of this key goes on as.
    pub fn in_other(&self, live_key: &str) -> Option<usize> {
        let live = self.live.segments().iter().find(|segment| *segment.key == *live_key)?;
        self.other.segment_of_id(&live.id)
    }

    /// Whether a customer is in the same segment by both, or in none; `None` where
    /// no segment of one is the other's.
    pub fn is_same(&self, live_key: &str, other: Option<usize>) -> Option<bool> {
        if !self.have_common {
            return None;
        }
        let live = self.live.segments().iter().find(|segment| *segment.key == *live_key);
        let other = other.map(|index| &self.other.segments()[index]);
        Some(match (live, other) {
            (Some(live), Some(other)) => live.id == other.id,
            (None, None) => live_key == UNASSIGNED,
            _ => false,
        })
    }
}
