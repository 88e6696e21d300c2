//! Whether a model that has just gone live answers well enough to stay.

use crate::domain::deployment::policy::Probation;
use crate::domain::drift::{Check, KeyChecks, KeyShare, percent};

/// What chance alone does once in a hundred times is no reason. It is no stricter, as
/// the limits do the work: of 500 rows three times as many outliers as promised come by
/// chance twice in ten thousand looks, where the limit of outliers is well known; where
/// few rows were held out, so that it is not, that is the model's own fault.
const CERTAIN: f64 = 0.01;

/// Stored customers needed to judge by a sample of them: a shop may have fewer than the
/// policy asks of scores.
pub const LEAST_STORED: u64 = 100;

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

/// What a model's answers show.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    Good,
    /// They are bad, but only with this key; of the keys with which they are bad, the
    /// one with the most rows.
    BadOfOneKey {
        key: KeyShare,
        why: String,
    },
    /// They are bad whichever one key is left out.
    Bad {
        why: String,
    },
}

/// Judges a model's answers so that no single key decides: they are [`Answers::Bad`]
/// only if they are bad with all keys and without any one of them (leave-one-out). The
/// answers of the model `before`, too, are taken without the key that would excuse most.
pub fn answers(limits: &Probation, now: &KeyChecks, before: Option<&KeyChecks>) -> Answers {
    let before = before.map_or_else(Vec::new, |checks| {
        let without = checks.keys.iter().map(|one| &one.without);
        let all = std::iter::once(&checks.all).chain(without);
        all.filter(|check| enough(limits, Some(*check)).is_some()).collect()
    });
    let reason = |now: &Check| {
        let against = |before| verdict(limits, &Observed { now, before, agreement: None });
        if before.is_empty() {
            return against(None);
        }
        before.iter().find_map(|before| against(Some(*before)))
    };
    let all = reason(&now.all);
    if let Some(why) = &all
        && now.keys.iter().all(|one| reason(&one.without).is_some())
        && !now.keys.is_empty()
    {
        return Answers::Bad { why: why.clone() };
    }
    for one in &now.keys {
        if let Some(why) = reason(&one.alone) {
            return Answers::BadOfOneKey { key: one.key.clone(), why };
        }
    }
    let mut decisive = now.keys.iter().filter(|one| reason(&one.without).is_none());
    match (all, decisive.next()) {
        (Some(why), Some(one)) => Answers::BadOfOneKey { key: one.key.clone(), why },
        _ => Answers::Good,
    }
}

/// Why the model is not to stay, by a sample of stored customers. They are scored by the
/// model and by the one before it, so a customer who is an outlier to both says nothing.
pub fn stored(limits: &Probation, observed: &Observed<'_>) -> Option<String> {
    let minimum_rows = limits.minimum_rows.min(LEAST_STORED);
    verdict(&Probation { minimum_rows, ..*limits }, observed)
}

/// Why it is not to stay; `None`: it is, or there is too little to tell.
pub fn verdict(limits: &Probation, observed: &Observed<'_>) -> Option<String> {
    if observed.now.scored >= limits.minimum_rows {
        let found = outliers(limits, observed).or_else(|| unassigned(limits, observed));
        if found.is_some() {
            return found;
        }
    }
    disagreement(limits, observed.agreement)
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

/// Why it is not to stay, by where it puts customers: their number, and the share that the
/// model before puts in the same segment.
pub fn disagreement(limits: &Probation, agreement: Option<(u64, f64)>) -> Option<String> {
    let (customers, agreement) = agreement?;
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
