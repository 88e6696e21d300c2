//! Influence of single API keys on a check: leave-one-out (jackknife).
//!
//! Rows at `/v1/score` are sent by callers. One caller can send any number of absurd
//! rows, so a decision based on rows must survive without any one key. A check is
//! repeated with each key left out; a finding that disappears without a key *depends on*
//! that key (Quenouille 1956; Miller 1974, "The jackknife: a review").
//!
//! Leaving a key out protects against a key that causes a finding. [`WindowsByKey::capped`]
//! protects against a key that hides one: it caps the rows of a key at those of all other
//! keys together (winsorising), so no key dilutes the others by more than half.

use crate::domain::drift::by_key::{ApiKeyShare, DecisiveKey, NO_KEY, WindowsByKey};
use crate::domain::drift::check::{DriftCheck, DriftTest, check_window};
use crate::domain::drift::dependence::{ObservedWindow, OverTime};
use crate::domain::drift::finding::{ComparedQuantity, DriftFinding};
use crate::domain::drift::limits::DriftLimits;
use crate::domain::drift::window::{WindowLayout, WindowLengthError};
use crate::domain::model::Model;

/// Checks of all keys together, and of each key alone and left out.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeyChecks {
    pub all: DriftCheck,
    /// By key, the one with the most rows first.
    pub keys: Vec<ApiKeyCheck>,
}

/// Checks of one key alone, and of all other keys.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeyCheck {
    pub key: ApiKeyShare,
    pub alone: DriftCheck,
    pub without: DriftCheck,
}

/// Checks the capped counts of all keys, of each key alone, and with each key left out. Rows
/// without a key are treated as one more key. The dependence over time is that of all keys.
pub fn check_by_key(
    model: &Model,
    by_key: &WindowsByKey,
    over_time: OverTime<'_>,
    floor: u64,
    limits: &DriftLimits,
) -> Result<ApiKeyChecks, WindowLengthError> {
    let layout = WindowLayout::of(model);
    let check = |keys: &WindowsByKey| {
        let counts = &keys.capped(&layout, floor)?;
        check_window(model, ObservedWindow { counts, over_time: Some(over_time) }, limits)
    };
    let mut keys = Vec::new();
    for key in by_key.shares() {
        let (alone, without) = (by_key.only(&key.key), by_key.without(&key.key));
        keys.push(ApiKeyCheck { key, alone: check(&alone)?, without: check(&without)? });
    }
    Ok(ApiKeyChecks { all: check(by_key)?, keys })
}

/// Records for each finding of a check of `by_key` the key that it rests on, if any.
/// Findings of the sequential detectors are not marked: they cover many windows.
pub fn mark_decisive_keys(
    check_of_all: &mut DriftCheck,
    model: &Model,
    by_key: &WindowsByKey,
    over_time: OverTime<'_>,
    limits: &DriftLimits,
) -> Result<(), WindowLengthError> {
    if check_of_all.findings.is_empty() || !by_key.has_keys() {
        return Ok(());
    }
    let layout = WindowLayout::of(model);
    for key in by_key.shares().into_iter().filter(|share| *share.key != *NO_KEY) {
        let counts = &by_key.without(&key.key).sum(&layout)?;
        let without =
            check_window(model, ObservedWindow { counts, over_time: Some(over_time) }, limits)?;
        for finding in &mut check_of_all.findings {
            if finding.about == ComparedQuantity::Stream
                || without.findings.iter().any(|o| is_same(o, finding))
            {
                continue;
            }
            let is_contradicted = contradicts(&without, finding, limits);
            // A key that contradicts replaces one that does not; otherwise the first, with
            // the most rows, is recorded.
            let is_stronger = match &finding.decisive_key {
                None => true,
                Some(known) => is_contradicted && !known.is_contradicted,
            };
            if is_stronger {
                finding.decisive_key = Some(DecisiveKey { key: key.clone(), is_contradicted });
            }
        }
    }
    Ok(())
}

/// Whether the check without a key has enough rows to show the finding, and shows a
/// difference below every limit. Fewer rows make every difference less significant, so an
/// equally large but insignificant difference does not contradict.
fn contradicts(without: &DriftCheck, finding: &DriftFinding, limits: &DriftLimits) -> bool {
    let figures =
        without.features.iter().find(|one| Some(&one.feature) == finding.feature.as_ref());
    let is_about_known_values = matches!(
        finding.about,
        ComparedQuantity::Values | ComparedQuantity::Unseen | ComparedQuantity::Rare
    );
    let is_known = !is_about_known_values
        || figures.is_some_and(|figures| figures.now.known >= limits.minimum_rows);
    without.is_enough
        && is_known
        && !without.tests.iter().any(|test| test.severity.is_some() && is_about(test, finding))
}

fn is_about(test: &DriftTest, finding: &DriftFinding) -> bool {
    let segment = finding.segment.as_ref().map(|segment| &segment.id);
    (test.about, &test.feature, test.segment_id.as_ref())
        == (finding.about, &finding.feature, segment)
}

fn is_same(one: &DriftFinding, other: &DriftFinding) -> bool {
    (one.about, &one.feature, &one.segment) == (other.about, &other.feature, &other.segment)
}
