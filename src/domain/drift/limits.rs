//! From when on a difference is told, and how loudly.

use serde::{Deserialize, Serialize};

/// What is asked of a difference before it is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Rows needed: of fewer, figures are shown and nothing is found.
    pub minimum_rows: u64,
    /// The share of false ones among the findings, and the chance of any while
    /// nothing changes: the level of Benjamini and Hochberg.
    pub level: f64,
    /// The share of outliers that scoring promises; set where scoring is.
    #[serde(skip, default = "promised")]
    pub alpha: f64,
    /// Of the stability index beyond what chance explains.
    pub psi: Steps,
    /// Of a share: missing values, the unassigned, a segment.
    pub share: Steps,
    /// Of the outliers, in times the promised share.
    pub outliers: Steps,
    /// Of a feature within a segment, in spreads within it. Policies that were stored
    /// before it was there have none.
    #[serde(default = "small_to_large")]
    pub movement: Steps,
}

/// Sizes from which a difference is of each severity. Below the first it is no
/// finding, however certain: with a million rows everything is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
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

impl Default for Limits {
    /// A shift of a number by 0.15, 0.33 and 0.52 standard deviations has the index
    /// 0.02, 0.1 and 0.25; the last two are the customary bounds.
    fn default() -> Self {
        Self {
            minimum_rows: 200,
            level: 0.01,
            alpha: promised(),
            psi: Steps { notice: 0.02, warning: 0.1, critical: 0.25 },
            share: Steps { notice: 0.02, warning: 0.05, critical: 0.1 },
            outliers: Steps { notice: 1.5, warning: 2.0, critical: 5.0 },
            movement: small_to_large(),
        }
    }
}

/// What Cohen (1988) calls small, medium and large.
fn small_to_large() -> Steps {
    Steps { notice: 0.2, warning: 0.5, critical: 0.8 }
}

fn promised() -> f64 {
    0.01
}

impl Steps {
    pub fn severity(&self, size: f64) -> Option<Severity> {
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
        Self::ALL.into_iter().find(|severity| severity.name() == text)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
