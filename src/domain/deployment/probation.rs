//! Probation of a newly promoted model: decides whether its answers justify a rollback.

use crate::domain::deployment::policy::ProbationLimits;
use crate::domain::drift::{ApiKeyChecks, ApiKeyShare, DriftCheck, Severity};
use crate::domain::presentation::number_format::format_percent;

/// Significance level: a difference that chance alone makes more often is no reason.
///
/// It is no stricter, because the limits of the policy do the work. With 500 rows and a
/// well calibrated outlier limit, chance alone triples the outlier rate in two of ten
/// thousand looks. With few held-out rows the limit is uncertain, and that is a fault of
/// the model itself.
const CERTAIN: f64 = 0.01;

/// Stored customers needed for a verdict from a sample: a small shop may have fewer
/// customers than the number of scores in the policy.
pub(crate) const MINIMUM_STORED_CUSTOMERS: u64 = 100;

/// Observations of a model on probation.
#[derive(Debug)]
pub struct ProbationObservations<'a> {
    /// Check of all scores since the promotion.
    pub now: &'a DriftCheck,
    /// Check of the previous model's scores in its last hours.
    pub before: Option<&'a DriftCheck>,
    pub agreement: Option<SegmentAgreement>,
}

/// Agreement of two models on the segments of customers that both have scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentAgreement {
    pub customers: u64,
    /// Share of these customers with the same segment by both models.
    pub share: f64,
}

/// Evidence that a model answers badly.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbationEvidence {
    pub why: String,
    /// `None`: the evidence justifies a rollback.
    pub doubt: Option<EvidenceDoubt>,
}

/// Why bad answers do not justify a rollback.
#[derive(Debug, Clone, PartialEq)]
pub enum EvidenceDoubt {
    /// They come from one API key.
    OneKey(ApiKeyShare),
    /// The model answers well for this number of stored customers.
    StoredCustomers(u64),
    /// The rows themselves differ from the training rows, in these features (titles).
    DriftedRows(Vec<Box<str>>),
}

/// Verdict on the answers of a model.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbationVerdict {
    Good,
    /// Bad only because of one API key. If several keys qualify, the one with the most rows.
    BadBecauseOfOneKey {
        key: ApiKeyShare,
        why: String,
    },
    /// Bad whichever single key is left out.
    Bad {
        why: String,
    },
}

/// Judges a model's answers by leave-one-out, so that no single API key decides.
///
/// They are [`ProbationVerdict::Bad`] only if they are bad with all keys and without each one. The
/// answers of the model `before` are also taken without the key that would excuse most.
pub fn judge_answers(
    limits: &ProbationLimits,
    now: &ApiKeyChecks,
    before: Option<&ApiKeyChecks>,
) -> ProbationVerdict {
    let judge = AnswerJudge::new(limits, before);
    let all = judge.reason(&now.all);
    if let Some(why) = &all
        && now.keys.iter().all(|one| judge.reason(&one.without).is_some())
        && !now.keys.is_empty()
    {
        return ProbationVerdict::Bad { why: why.clone() };
    }
    for one in &now.keys {
        if let Some(why) = judge.reason(&one.alone) {
            return ProbationVerdict::BadBecauseOfOneKey { key: one.key.clone(), why };
        }
    }
    let decisive = now.keys.iter().find(|one| judge.reason(&one.without).is_none());
    match (all, decisive) {
        (Some(why), Some(one)) => {
            ProbationVerdict::BadBecauseOfOneKey { key: one.key.clone(), why }
        }
        _ => ProbationVerdict::Good,
    }
}

/// Weighs the verdict on the `answers` against a sample of stored customers.
///
/// Callers choose their rows and events, but not the stored customers, so a sufficient sample
/// decides: it confirms the evidence or refutes it. Without one, the answers to all callers
/// count, unless their rows have drifted: then the rows are unusual, and the answers may be
/// right.
///
/// `sample` is the new model, and the previous one, on stored customers. `None`: the verdict is
/// good.
pub fn weigh_verdict(
    limits: &ProbationLimits,
    verdict: ProbationVerdict,
    answers: &DriftCheck,
    sample: &ProbationObservations<'_>,
) -> Option<ProbationEvidence> {
    let (why, key) = match verdict {
        ProbationVerdict::Good => return None,
        ProbationVerdict::Bad { why } => (why, None),
        ProbationVerdict::BadBecauseOfOneKey { key, why } => (why, Some(key)),
    };
    let customers = sample.now.scored;
    if let Some(of_stored) = rollback_reason_in_sample(limits, sample) {
        let why = format!("{why}; of {customers} stored customers: {of_stored}");
        return Some(ProbationEvidence { why, doubt: None });
    }
    let drifted = drifted_features(answers);
    let doubt = if let Some(key) = key {
        Some(EvidenceDoubt::OneKey(key))
    } else if customers >= MINIMUM_STORED_CUSTOMERS {
        Some(EvidenceDoubt::StoredCustomers(customers))
    } else if !drifted.is_empty() {
        Some(EvidenceDoubt::DriftedRows(drifted))
    } else {
        None
    };
    Some(ProbationEvidence { why, doubt })
}

/// Titles of the features with a drift finding of at least a warning.
fn drifted_features(check: &DriftCheck) -> Vec<Box<str>> {
    let mut titles: Vec<Box<str>> = Vec::new();
    for finding in &check.findings {
        if finding.feature.is_some()
            && finding.severity >= Severity::Warning
            && !titles.contains(&finding.title)
        {
            titles.push(finding.title.clone());
        }
    }
    titles
}

/// Judges checks of a new model against all checks of the previous one.
struct AnswerJudge<'c> {
    limits: &'c ProbationLimits,
    /// Checks with enough rows: of all keys, and with each key left out.
    before: Vec<&'c DriftCheck>,
}

impl<'c> AnswerJudge<'c> {
    fn new(limits: &'c ProbationLimits, before: Option<&'c ApiKeyChecks>) -> Self {
        let mut checks = Vec::new();
        if let Some(before) = before {
            checks.push(&before.all);
            checks.extend(before.keys.iter().map(|one| &one.without));
            checks.retain(|check| enough(limits, Some(*check)).is_some());
        }
        Self { limits, before: checks }
    }

    /// The reason for a rollback. The answers are bad if they are bad against any of the
    /// previous model's checks: no single key of the previous model excuses them.
    fn reason(&self, now: &DriftCheck) -> Option<String> {
        if self.before.is_empty() {
            return rollback_reason(
                self.limits,
                &ProbationObservations { now, before: None, agreement: None },
            );
        }
        self.before.iter().find_map(|before| {
            rollback_reason(
                self.limits,
                &ProbationObservations { now, before: Some(*before), agreement: None },
            )
        })
    }
}

/// The reason for a rollback, from a sample of stored customers. The new model and the
/// previous one score the same customers, so an outlier to both is no argument against the
/// new model.
pub(crate) fn rollback_reason_in_sample(
    limits: &ProbationLimits,
    observed: &ProbationObservations<'_>,
) -> Option<String> {
    let minimum_rows = limits.minimum_rows.min(MINIMUM_STORED_CUSTOMERS);
    rollback_reason(&ProbationLimits { minimum_rows, ..*limits }, observed)
}

/// The reason for a rollback. `None`: the answers are good, or the data are too few.
pub fn rollback_reason(
    limits: &ProbationLimits,
    observed: &ProbationObservations<'_>,
) -> Option<String> {
    if observed.now.scored >= limits.minimum_rows {
        let found = outliers(limits, observed).or_else(|| unassigned(limits, observed));
        if found.is_some() {
            return found;
        }
    }
    disagreement_reason(limits, observed.agreement)
}

fn outliers(limits: &ProbationLimits, observed: &ProbationObservations<'_>) -> Option<String> {
    let found = observed.now.outliers?;
    let before = enough(limits, observed.before).and_then(|check| check.outliers);
    let usual = before.map_or(found.promised, |before| found.promised.max(before.now));
    (found.now >= limits.outliers * usual && found.p_value <= CERTAIN).then(|| {
        let of_before = before.map_or_else(String::new, |before| {
            format!("; the previous model's rate was {}", format_percent(before.now))
        });
        format!(
            "{} of its scores are outliers; the promised rate is {}{of_before}",
            format_percent(found.now),
            format_percent(found.promised)
        )
    })
}

fn unassigned(limits: &ProbationLimits, observed: &ProbationObservations<'_>) -> Option<String> {
    let found = observed.now.unassigned?;
    let before = enough(limits, observed.before).and_then(|check| check.unassigned);
    let usual = before.map_or(found.before, |before| found.before.max(before.now));
    (found.now >= usual + limits.unassigned && found.now > usual && found.p_value <= CERTAIN).then(
        || {
            format!(
                "{} of its scores are in no segment; at training the share was {}",
                format_percent(found.now),
                format_percent(found.before)
            )
        },
    )
}

/// The reason for a rollback, from the segments of customers scored by both models.
pub(crate) fn disagreement_reason(
    limits: &ProbationLimits,
    agreement: Option<SegmentAgreement>,
) -> Option<String> {
    let SegmentAgreement { customers, share } = agreement?;
    let apart = 1.0 - share;
    (limits.disagreement < 1.0 && customers >= limits.minimum_rows && apart > limits.disagreement)
        .then(|| {
            format!(
                "it puts {} of the customers into another segment than the previous model does",
                format_percent(apart)
            )
        })
}

fn enough<'c>(limits: &ProbationLimits, check: Option<&'c DriftCheck>) -> Option<&'c DriftCheck> {
    check.filter(|check| check.scored >= limits.minimum_rows)
}
