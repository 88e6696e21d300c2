//! Typed reader of settings, used by every section. It collects faults instead of returning the
//! first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::load::layers::{SettingLayers, SettingOrigin, SettingValue};
use crate::domain::fault::{ValidationFault, ValidationFaults};

/// Returns each setting once.
///
/// A value out of range is recorded as a fault, and a value of the same type is returned in its
/// place. So the caller continues, and further faults are found.
pub(crate) struct SettingsReader {
    unread: BTreeMap<String, (SettingValue, SettingOrigin)>,
    /// Origins of the settings read so far.
    origins: BTreeMap<&'static str, SettingOrigin>,
    faults: ValidationFaults,
}

impl SettingsReader {
    pub(crate) fn new(layers: SettingLayers) -> Self {
        Self { unread: layers.values, origins: BTreeMap::new(), faults: layers.faults }
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, path: &'static str) -> bool {
        matches!(self.take(path), Some(SettingValue::Boolean(true)))
    }

    /// An integer within `range`.
    pub(crate) fn integer<T>(&mut self, path: &'static str, range: RangeInclusive<i64>) -> T
    where
        T: TryFrom<i64> + Default,
    {
        let Some(SettingValue::Integer(value)) = self.take(path) else { return T::default() };
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            self.refuse(path, &format!("is {value}, not within {low} to {high}"));
        }
        T::try_from(value).unwrap_or_default()
    }

    /// A number within `range`.
    pub(crate) fn float(&mut self, path: &'static str, range: RangeInclusive<f64>) -> f64 {
        let Some(SettingValue::Float(value)) = self.take(path) else { return 0.0 };
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            self.refuse(path, &format!("is {value}, not within {low} to {high}"));
        }
        value
    }

    /// A number of seconds within `range`.
    pub(crate) fn seconds(&mut self, path: &'static str, range: RangeInclusive<i64>) -> Duration {
        Duration::from_secs(self.integer(path, range))
    }

    pub(crate) fn text(&mut self, path: &'static str) -> String {
        match self.take(path) {
            Some(SettingValue::Text(value)) => value,
            _ => String::new(),
        }
    }

    /// A path; `None` when empty.
    pub(crate) fn path(&mut self, path: &'static str) -> Option<PathBuf> {
        Some(self.text(path)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// A text parsed as `T`. `expected` completes "is not …".
    pub(crate) fn parsed<T>(&mut self, path: &'static str, expected: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(path);
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(path, &format!("`{text}` is not {expected}: {error}"));
                None
            }
        }
    }

    /// One of the words in `choices`; the first choice in place of any other word.
    pub(crate) fn choice<T: Copy, const N: usize>(
        &mut self,
        path: &'static str,
        choices: [(&str, T); N],
    ) -> T {
        let text = self.text(path);
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return *chosen;
        }
        let words = choices.map(|(word, _)| format!("`{word}`")).join(" or ");
        self.refuse(path, &format!("is `{text}`, not {words}"));
        choices[0].1
    }

    /// Records a fault in a setting that was read before.
    pub(crate) fn refuse(&mut self, path: &'static str, problem: &str) {
        let origin = self.origins.get(path).unwrap_or(&SettingOrigin::Default);
        self.faults.push(origin.fault(path, problem));
    }

    pub(crate) fn finish(self) -> ValidationFaults {
        self.faults
    }

    #[cfg(test)]
    pub(crate) fn unread(&self) -> Vec<&str> {
        self.unread.keys().map(String::as_str).collect()
    }

    fn take(&mut self, path: &'static str) -> Option<SettingValue> {
        let Some((value, origin)) = self.unread.remove(path) else {
            self.faults.push(ValidationFault::new(path, "is missing from the built-in defaults"));
            return None;
        };
        self.origins.insert(path, origin);
        Some(value)
    }
}
