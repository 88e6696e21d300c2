//! Personas: name, summary, owner, strategy and notes that users give a segment. A persona belongs
//! to the segment's id, so it is kept over trainings.
//!
//! A persona describes the segment of one model. It may be outdated when the standout features of
//! the segment are different in a later model ([`changed_standouts`]).

pub mod habits;

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::encode::ColumnRole;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::FeatureDefinition;
use crate::domain::model::ModelSegment;
use crate::domain::text::{MAX_FREE_TEXT_CHARS, check_name, check_required_text};

/// Least change of a contrast that is reported, in standard deviations: a medium effect size by
/// Cohen (1988), *Statistical Power Analysis for the Behavioral Sciences*.
const LEAST_CHANGE: f64 = 0.5;
/// Suffix of a name from training that a persona of another segment has.
pub const DRAFT_SUFFIX: &str = " (draft)";
/// Upper bound of the messages, channels or offers of a strategy.
const MAX_LIST: usize = 20;
/// Upper bound of the experiments of a strategy: each is analysed for the answer about its effects.
const MAX_EXPERIMENTS: usize = 5;

/// The persona of one segment. A field without a value is `None` or empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Persona {
    /// Replaces the name from training.
    pub name: Option<String>,
    pub summary: Option<String>,
    /// The person or team responsible for the segment.
    pub owner: Option<String>,
    /// For charts: `#rrggbb`.
    pub colour: Option<String>,
    pub notes: Option<String>,
    pub strategy: SegmentStrategy,
}

/// Marketing strategy for the customers of a segment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentStrategy {
    pub messages: Vec<String>,
    pub channels: Vec<String>,
    pub offers: Vec<String>,
    pub budget_note: Option<String>,
    /// Keys of the experiments that test the strategy.
    pub experiments: Vec<String>,
}

/// A change of one field.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum FieldChange<T> {
    /// The field is absent from the request.
    #[default]
    Unchanged,
    /// The field is null in the request.
    Removed,
    Set(T),
}

/// A change of a persona.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PersonaChange {
    pub name: FieldChange<String>,
    pub summary: FieldChange<String>,
    pub owner: FieldChange<String>,
    pub colour: FieldChange<String>,
    pub notes: FieldChange<String>,
    pub messages: FieldChange<Vec<String>>,
    pub channels: FieldChange<Vec<String>>,
    pub offers: FieldChange<Vec<String>>,
    pub budget_note: FieldChange<String>,
    pub experiments: FieldChange<Vec<String>>,
}

/// A standout feature by its name, which is the same in every model of a feature set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedStandout {
    /// Name of the feature.
    pub feature: Box<str>,
    pub aspect: ColumnRole,
    /// Standardised mean difference, see [`StandoutFeature`].
    ///
    /// [`StandoutFeature`]: crate::domain::model::StandoutFeature
    pub contrast: f64,
}

/// A change in a standout feature of a segment since the last change of the persona.
#[derive(Debug, Clone, PartialEq)]
pub struct StandoutChange {
    /// Name of the feature.
    pub feature: Box<str>,
    pub aspect: ColumnRole,
    /// Standardised mean difference at the last change of the persona; 0 if it was not a standout.
    pub then: f64,
    /// Standardised mean difference now; 0 if it is not a standout.
    pub now: f64,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FieldChange<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Removed, Self::Set))
    }
}

impl Persona {
    /// This persona with `change`, validated; the error lists every fault.
    pub fn changed(self, change: PersonaChange) -> Result<Self, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let Self { name, summary, owner, colour, notes, strategy } = self;
        let name = apply(&mut faults, name, change.name, check_segment_name);
        let summary = apply(&mut faults, summary, change.summary, |text| {
            check_required_text("summary", text, MAX_FREE_TEXT_CHARS)
        });
        let owner = apply(&mut faults, owner, change.owner, |text| check_name("owner", text));
        let colour = apply(&mut faults, colour, change.colour, check_colour);
        let notes = apply(&mut faults, notes, change.notes, |text| {
            check_required_text("notes", text, MAX_FREE_TEXT_CHARS)
        });
        let mut list = |field: &str, before: Vec<String>, change| {
            apply_to_list(&mut faults, &format!("strategy.{field}"), before, change)
        };
        let experiments = list("experiments", strategy.experiments, change.experiments);
        let messages = list("messages", strategy.messages, change.messages);
        let channels = list("channels", strategy.channels, change.channels);
        let offers = list("offers", strategy.offers, change.offers);
        check_experiments(&experiments, &mut faults);
        let budget_note = apply(&mut faults, strategy.budget_note, change.budget_note, |text| {
            check_required_text("strategy.budget_note", text, MAX_FREE_TEXT_CHARS)
        });
        let strategy = SegmentStrategy { messages, channels, offers, budget_note, experiments };
        faults.into_result(Self { name, summary, owner, colour, notes, strategy })
    }
}

fn apply(
    faults: &mut ValidationFaults,
    before: Option<String>,
    change: FieldChange<String>,
    check: impl Fn(&str) -> Result<String, ValidationFault>,
) -> Option<String> {
    match change {
        FieldChange::Unchanged => before,
        FieldChange::Removed => None,
        FieldChange::Set(text) => match check(&text) {
            Ok(text) => Some(text),
            Err(fault) => {
                faults.push(fault);
                None
            }
        },
    }
}

fn apply_to_list(
    faults: &mut ValidationFaults,
    field: &str,
    before: Vec<String>,
    change: FieldChange<Vec<String>>,
) -> Vec<String> {
    let texts = match change {
        FieldChange::Unchanged => return before,
        FieldChange::Removed => return Vec::new(),
        FieldChange::Set(texts) => texts,
    };
    if texts.len() > MAX_LIST {
        let problem = format!("must have at most {MAX_LIST} entries; it has {}", texts.len());
        faults.push(ValidationFault::new(field, problem));
    }
    let mut checked = Vec::new();
    for (index, text) in texts.iter().take(MAX_LIST).enumerate() {
        match check_required_text(&format!("{field}[{index}]"), text, MAX_FREE_TEXT_CHARS) {
            Ok(text) => checked.push(text),
            Err(fault) => faults.push(fault),
        }
    }
    checked
}

fn check_experiments(keys: &[String], faults: &mut ValidationFaults) {
    if keys.len() > MAX_EXPERIMENTS {
        let problem = format!("must have at most {MAX_EXPERIMENTS} entries; it has {}", keys.len());
        faults.push(ValidationFault::new("strategy.experiments", problem));
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            let path = format!("strategy.experiments[{index}]");
            faults.push(ValidationFault::new(path, format!("`{key}` is listed twice")));
        }
    }
}

fn check_colour(text: &str) -> Result<String, ValidationFault> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
    match digits {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(ValidationFault::new(
            "colour",
            format!("must be # and six hexadecimal digits, such as #1f77b4: is `{text}`"),
        )),
    }
}

/// The standout features of a segment. `features`: the features of its model.
pub fn named_standouts(
    segment: &ModelSegment,
    features: &[FeatureDefinition],
) -> Vec<NamedStandout> {
    let standouts = segment.standouts.iter().map(|standout| NamedStandout {
        feature: features[standout.feature].name.clone(),
        aspect: standout.aspect.clone(),
        contrast: standout.contrast,
    });
    standouts.collect()
}

/// Changes of at least half a standard deviation, largest first. A feature that is absent from one
/// of the lists has contrast 0 there.
pub fn changed_standouts(then: &[NamedStandout], now: &[NamedStandout]) -> Vec<StandoutChange> {
    let contrast_in = |list: &[NamedStandout], of: &NamedStandout| {
        let same = list.iter().find(|one| one.feature == of.feature && one.aspect == of.aspect);
        same.map_or(0.0, |one| one.contrast)
    };
    let change = |of: &NamedStandout| StandoutChange {
        feature: of.feature.clone(),
        aspect: of.aspect.clone(),
        then: contrast_in(then, of),
        now: contrast_in(now, of),
    };
    let is_new = |of: &&NamedStandout| {
        !then.iter().any(|one| one.feature == of.feature && one.aspect == of.aspect)
    };
    let mut changes: Vec<StandoutChange> =
        then.iter().chain(now.iter().filter(is_new)).map(change).collect();
    changes.retain(|change| change.size() >= LEAST_CHANGE);
    changes.sort_by(|a, b| b.size().total_cmp(&a.size()));
    changes
}

impl StandoutChange {
    fn size(&self) -> f64 {
        (self.now - self.then).abs()
    }
}

/// Validates the name of a segment. Names that only the service gives stay its own, so that no two
/// segments have one name.
fn check_segment_name(name: &str) -> Result<String, ValidationFault> {
    let name = check_name("name", name)?;
    if name.ends_with(DRAFT_SUFFIX) {
        let problem = "must not end with ` (draft)`, which marks names from training";
        return Err(ValidationFault::new("name", problem));
    }
    Ok(name)
}
