//! Counts by API key, and the share of each key.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::drift::window::{DriftWindow, WindowLayout, WindowLengthError};
use crate::domain::presentation::number_format::format_percent;

/// Most keys with counts of their own, [`OTHER_KEYS`] included.
pub const MAX_COUNTED_KEYS: usize = 32;

/// Pseudo-key of rows without an API key: events, sampled customers, and hours from before
/// counting by key.
pub const NO_KEY: &str = "";

/// Pseudo-key of all rows beyond [`MAX_COUNTED_KEYS`].
pub const OTHER_KEYS: &str = "(other keys)";

/// Name of the alert fact about a finding that depends on one API key.
pub const DECISIVE_KEY_FACT: &str = "Depends on one API key";

/// Windows by API key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowsByKey(BTreeMap<Box<str>, DriftWindow>);

/// Share of one API key in the scored rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ApiKeyShare {
    /// The id of the key.
    pub key: Box<str>,
    pub rows: u64,
    /// Share of all rows, from 0 to 1.
    pub share: f64,
}

/// The API key without which a finding disappears.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecisiveKey {
    #[serde(flatten)]
    pub key: ApiKeyShare,
    /// Whether the rows of the other keys suffice to show the finding, and do not show it.
    /// If so, the owner of the feature is not alerted.
    pub is_contradicted: bool,
}

impl WindowsByKey {
    /// Adds a window to the counts of a key.
    pub fn add(&mut self, key: &str, window: &DriftWindow) -> Result<(), WindowLengthError> {
        if let Some(known) = self.0.get_mut(key) {
            return known.merge(window);
        }
        self.0.insert(key.into(), window.clone());
        Ok(())
    }

    /// Bounds the number of keys: beyond [`MAX_COUNTED_KEYS`], the keys with the fewest rows are
    /// merged under [`OTHER_KEYS`].
    pub fn bounded(mut self) -> Result<Self, WindowLengthError> {
        if self.0.len() <= MAX_COUNTED_KEYS {
            return Ok(self);
        }
        let smallest: Vec<Box<str>> =
            self.shares().into_iter().skip(MAX_COUNTED_KEYS - 1).map(|share| share.key).collect();
        for key in smallest.iter().filter(|key| ***key != *OTHER_KEYS && ***key != *NO_KEY) {
            if let Some(window) = self.0.remove(key) {
                self.add(OTHER_KEYS, &window)?;
            }
        }
        Ok(self)
    }

    /// Share of each key, largest first.
    pub fn shares(&self) -> Vec<ApiKeyShare> {
        let all: u64 = self.rows();
        let mut shares: Vec<ApiKeyShare> = self
            .0
            .iter()
            .map(|(key, window)| ApiKeyShare {
                key: key.clone(),
                rows: rows(window),
                share: if all == 0 { 0.0 } else { rows(window) as f64 / all as f64 },
            })
            .collect();
        shares.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.key.cmp(&b.key)));
        shares
    }

    pub fn rows(&self) -> u64 {
        self.0.values().fold(0, |sum, window| sum.saturating_add(rows(window)))
    }

    /// Whether any rows were counted by key.
    pub(crate) fn has_keys(&self) -> bool {
        self.0.keys().any(|key| **key != *NO_KEY)
    }

    #[must_use]
    pub(crate) fn without(&self, key: &str) -> Self {
        let others = self.0.iter().filter(|(known, _)| ***known != *key);
        Self(others.map(|(known, window)| (known.clone(), window.clone())).collect())
    }

    #[must_use]
    pub(crate) fn only(&self, key: &str) -> Self {
        let own = self.0.get_key_value(key);
        Self(own.map(|(known, window)| (known.clone(), window.clone())).into_iter().collect())
    }

    /// The window of all keys together.
    pub fn sum(&self, layout: &WindowLayout) -> Result<DriftWindow, WindowLengthError> {
        let mut sum = layout.empty();
        for window in self.0.values() {
            sum.merge(window)?;
        }
        Ok(sum)
    }

    /// The window of all keys together, with the weight of each key capped (winsorised): at
    /// the rows of all other keys together, or at `floor` if that is more. A single key is
    /// not capped.
    pub fn capped(
        &self,
        layout: &WindowLayout,
        floor: u64,
    ) -> Result<DriftWindow, WindowLengthError> {
        let all = self.rows();
        let mut sum = layout.empty();
        for window in self.0.values() {
            let own = rows(window);
            let cap = (all - own).max(floor);
            if own > cap && self.0.len() > 1 {
                sum.merge(&scaled(window, cap, own))?;
            } else {
                sum.merge(window)?;
            }
        }
        Ok(sum)
    }
}

impl DecisiveKey {
    /// Describes the influence in a sentence.
    pub fn describe(&self) -> String {
        let ApiKeyShare { key, share, .. } = &self.key;
        let others = if self.is_contradicted {
            "; the rows of the other keys do not show it"
        } else if *share < 1.0 {
            "; the rows of the other keys are too few to show it"
        } else {
            ""
        };
        format!("{} of the rows came from key {key}{others}", format_percent(*share))
    }
}

fn rows(window: &DriftWindow) -> u64 {
    // The last count is the number of scored rows (see [`WindowLayout`]).
    window.counts.last().copied().unwrap_or(0)
}

fn scaled(window: &DriftWindow, part: u64, whole: u64) -> DriftWindow {
    let mut counts = Vec::with_capacity(window.counts.len());
    for count in &window.counts {
        // The product of two counts may exceed 64 bits.
        let scaled = u128::from(*count) * u128::from(part) / u128::from(whole.max(1));
        counts.push(u64::try_from(scaled).unwrap_or(u64::MAX));
    }
    DriftWindow { counts }
}
