//! Whether a model that has just gone live answers well enough to stay.

use crate::domain::drift::{Check, percent};
use crate::domain::policy::Probation;

/// What chance alone does once in a hundred times is no reason. It is no stricter, as
/// the limits do the work: of 500 rows three times as many outliers as promised come by
/// chance twice in ten thousand looks, where the limit of outliers is well known; where
/// few rows were held out, so that it is not, that is the model's own fault.
const CERTAIN: f64 = 0.01;

/// What is known of it.
#[derive(Debug)]
pub struct Observed<'a> {
    /// What it has met since it went live.
    pub now: &'a Check,
    /// What the model before met in its last hours.
    pub before: Option<&'a Check>,
    /// Customers whom both placed since, and the share of them in one segment.
    pub agreement: Option<(u64, f64)>,
}

/// Why it is not to stay; `None`: it is, or there is too little to tell.
pub fn verdict(limits: &Probation, observed: &Observed<'_>) -> Option<String> {
    if observed.now.scored >= limits.minimum_rows {
        let found = outliers(limits, observed).or_else(|| unassigned(limits, observed));
        if found.is_some() {
            return found;
        }
    }
    disagreement(limits, observed)
}

fn outliers(limits: &Probation, observed: &Observed<'_>) -> Option<String> {
    let found = observed.now.outliers?;
    let before = enough(limits, observed.before).and_then(|check| check.outliers);
    let usual = before.map_or(found.promised, |before| found.promised.max(before.now));
    (found.now >= limits.outliers * usual && found.p_value <= CERTAIN).then(|| {
        let of_before = before.map_or_else(String::new, |before| {
            format!(", of the model before {}", percent(before.now))
        });
        format!(
            "{} of what it scored are outliers; promised are {}{of_before}",
            percent(found.now),
            percent(found.promised)
        )
    })
}

fn unassigned(limits: &Probation, observed: &Observed<'_>) -> Option<String> {
    let found = observed.now.unassigned?;
    let before = enough(limits, observed.before).and_then(|check| check.unassigned);
    let usual = before.map_or(found.before, |before| found.before.max(before.now));
    (found.now >= usual + limits.unassigned && found.now > usual && found.p_value <= CERTAIN).then(
        || {
            format!(
                "{} of what it scored is in no segment; at training it was {}",
                percent(found.now),
                percent(found.before)
            )
        },
    )
}

fn disagreement(limits: &Probation, observed: &Observed<'_>) -> Option<String> {
    let (customers, agreement) = observed.agreement?;
    let apart = 1.0 - agreement;
    (limits.disagreement < 1.0 && customers >= limits.minimum_rows && apart > limits.disagreement)
        .then(|| {
            format!(
                "it puts {} of the customers in another segment than the model before would",
                percent(apart)
            )
        })
}

fn enough<'c>(limits: &Probation, check: Option<&'c Check>) -> Option<&'c Check> {
    check.filter(|check| check.scored >= limits.minimum_rows)
}
