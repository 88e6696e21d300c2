//! Limits of drift detection: the significance and size from which a difference is a
//! finding, and its severity.

use serde::{Deserialize, Serialize};

/// Conditions under which a difference is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftLimits {
    /// Rows needed for findings. With fewer, figures are reported and nothing is tested.
    pub minimum_rows: u64,
    /// Level of the Benjamini-Hochberg correction: the false discovery rate, and the
    /// probability of any finding while nothing changes.
    pub significance_level: f64,
    /// The outlier rate that scoring promises; configured with scoring, not stored here.
    #[serde(skip, default = "promised")]
    pub alpha: f64,
    /// Limits of the stability index in excess of chance.
    pub psi: SeverityThresholds,
    /// Limits of the change of a share: missing or rare values, the unassigned, a segment.
    pub share: SeverityThresholds,
    /// Limits of the share of values that training never had, in excess of the expected share.
    /// Stored policies of earlier versions lack this field.
    #[serde(default = "new_values")]
    pub unseen: SeverityThresholds,
    /// Limits of the outlier rate, as a multiple of the promised rate.
    pub outliers: SeverityThresholds,
    /// Limits of a shift within a segment, in standard deviations of the segment. Stored
    /// policies of earlier versions lack this field.
    #[serde(default = "small_to_large")]
    pub movement: SeverityThresholds,
}

/// Least size of a difference for each severity. A smaller one is no finding, however
/// significant: with a million rows every difference is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeverityThresholds {
    pub notice: f64,
    pub warning: f64,
    pub critical: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Notice,
    Warning,
    Critical,
}

impl Default for DriftLimits {
    /// A shift of a number by 0.15, 0.33 and 0.52 standard deviations has a PSI of 0.02,
    /// 0.1 and 0.25; the last two are the customary bounds.
    fn default() -> Self {
        Self {
            minimum_rows: 200,
            significance_level: 0.01,
            alpha: promised(),
            psi: SeverityThresholds { notice: 0.02, warning: 0.1, critical: 0.25 },
            share: SeverityThresholds { notice: 0.02, warning: 0.05, critical: 0.1 },
            unseen: new_values(),
            outliers: SeverityThresholds { notice: 1.5, warning: 2.0, critical: 5.0 },
            movement: small_to_large(),
        }
    }
}

/// Small, medium and large effects by Cohen (1988), *Statistical Power Analysis*.
fn small_to_large() -> SeverityThresholds {
    SeverityThresholds { notice: 0.2, warning: 0.5, critical: 0.8 }
}

fn new_values() -> SeverityThresholds {
    SeverityThresholds { notice: 0.01, warning: 0.05, critical: 0.1 }
}

fn promised() -> f64 {
    0.01
}

impl SeverityThresholds {
    pub(crate) fn severity(&self, size: f64) -> Option<Severity> {
        match size {
            _ if size >= self.critical => Some(Severity::Critical),
            _ if size >= self.warning => Some(Severity::Warning),
            _ if size >= self.notice => Some(Severity::Notice),
            _ => None,
        }
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Notice, Self::Warning, Self::Critical];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
