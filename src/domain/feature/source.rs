//! Sources of feature values: event filter with fold and window, ratio of two features, or
//! trait.

use crate::domain::event::{CustomerEvent, EventKind, PropertyValue};
use crate::domain::feature::define::ValueType;
use crate::domain::feature::window::TimeWindow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeatureSource {
    /// Index of an event source; [`FeatureSet::slot_of`] maps it to a slot of the state.
    ///
    /// [`FeatureSet::slot_of`]: crate::domain::feature::FeatureSet::slot_of
    Events(usize),
    Ratio(FeatureRatio),
    /// Index of a trait.
    Trait(usize),
}

/// The ratio of two numeric features, all by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeatureRatio {
    pub(super) feature: usize,
    pub(super) numerator: usize,
    pub(super) denominator: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventFeatureSource {
    pub(super) head: EventFilter,
    /// Conditions on properties, all of which must be met.
    pub(super) conditions: Vec<PropertyCondition>,
    pub(super) fold: FeatureFold,
    pub(super) window: TimeWindow,
}

/// Event filter by type and name. Without a type, it matches all behavioural events; without a
/// name, all names. It never matches `identify` and `alias` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventFilter {
    pub(super) kind: Option<EventKind>,
    pub(super) name: Option<Box<str>>,
}

impl EventFilter {
    pub(super) fn matches(&self, event: &CustomerEvent) -> bool {
        self.kind.map_or(event.kind.is_behaviour(), |kind| kind == event.kind)
            && self.name.as_ref().is_none_or(|name| *name == event.name)
    }

    /// Whether one event can match both filters.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let kinds = match (self.kind, other.kind) {
            (Some(a), Some(b)) => a == b,
            (Some(kind), None) | (None, Some(kind)) => kind.is_behaviour(),
            (None, None) => true,
        };
        kinds && (self.name.is_none() || other.name.is_none() || self.name == other.name)
    }
}

/// A condition on one property, not met by an event without it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PropertyCondition {
    pub(super) property: Box<str>,
    pub(super) test: PropertyTest,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum PropertyTest {
    /// Equality with any of the values, all of one type.
    OneOf(Vec<PropertyValue>),
    /// Strictly above the first bound and strictly below the second.
    Between { above: Option<f64>, below: Option<f64> },
}

impl PropertyCondition {
    pub(super) fn is_met_by(&self, event: &CustomerEvent) -> bool {
        let Some(value) = event.properties.get(&self.property) else { return false };
        match (&self.test, value) {
            (PropertyTest::OneOf(values), _) => values.contains(value),
            (PropertyTest::Between { above, below }, value) => {
                value.as_number().is_some_and(|number| {
                    above.is_none_or(|above| number > above)
                        && below.is_none_or(|below| number < below)
                })
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum FeatureFold {
    Count,
    /// Total of all listed properties.
    Sum {
        properties: Vec<Box<str>>,
    },
    Mean {
        property: Box<str>,
    },
    Min {
        property: Box<str>,
    },
    Max {
        property: Box<str>,
    },
    Last {
        property: Box<str>,
        kind: ValueType,
    },
    /// Days since the newest event.
    Recency,
    /// Days since the first event.
    Tenure,
    /// (last - first) / (n - 1), in days.
    MeanGap,
    Distinct {
        property: Box<str>,
        sketch_size: usize,
    },
    /// Share of the events, or of the sum of a property, for which `property` equals one of
    /// `values`.
    Share {
        property: Box<str>,
        values: Vec<PropertyValue>,
        weight_by: Option<Box<str>>,
    },
    Sessions {
        gap_minutes: u32,
    },
}

/// What features do with a number, from the least demanding use to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NumberUse {
    /// Compared with others only: any number, such as an id or an instant.
    Compared,
    /// The value of a feature: limited, so that models can square it.
    Shown,
    /// Added: limited, so that sums cannot saturate.
    Summed,
}

/// The type that features require of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PropertyType {
    Number(NumberUse),
    Text,
    Bool,
    /// Any of the three types; used by the fold distinct.
    Any,
}

impl PropertyType {
    pub(super) const fn of_scalar(scalar: &PropertyValue) -> Self {
        match scalar {
            PropertyValue::Number(_) | PropertyValue::Integer(_) => {
                Self::Number(NumberUse::Compared)
            }
            PropertyValue::Text(_) => Self::Text,
            PropertyValue::Bool(_) => Self::Bool,
            PropertyValue::Null => Self::Any,
        }
    }

    /// Noun with article, for fault texts.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Text => "a text",
            Self::Bool => "true or false",
            Self::Any => "a number, a text, true or false",
        }
    }

    /// The type that satisfies both readers, if one exists.
    pub(super) fn common(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, t) | (t, Self::Any) => Some(t),
            (Self::Number(a), Self::Number(b)) => Some(Self::Number(a.max(b))),
            (a, b) if a == b => Some(a),
            _ => None,
        }
    }
}

impl From<ValueType> for PropertyType {
    fn from(kind: ValueType) -> Self {
        match kind {
            ValueType::Number => Self::Number(NumberUse::Shown),
            ValueType::Text => Self::Text,
        }
    }
}

impl EventFeatureSource {
    /// Whether both sources can read one slot: they fold the same events in the same way, in
    /// daily cells. Sessions cannot be shared, as they are stored only as far back as their own
    /// window.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        let is_sessions = matches!(self.fold, FeatureFold::Sessions { .. });
        self.head == other.head
            && self.conditions == other.conditions
            && self.fold == other.fold
            && (self.window == other.window
                || self.has_daily_cells() && other.has_daily_cells() && !is_sessions)
    }

    fn has_daily_cells(&self) -> bool {
        self.window.length_days().is_some()
    }

    /// Whether a condition excludes events with a negative value of the property.
    fn excludes_negative(&self, property: &str) -> bool {
        self.conditions.iter().any(|condition| {
            matches!(condition.test, PropertyTest::Between { above: Some(above), .. } if above >= 0.0)
                && *condition.property == *property
        })
    }

    /// Every property read, with its required type.
    pub(super) fn properties(&self) -> Vec<(&str, PropertyType)> {
        use PropertyType::{Any, Number};
        let (shown, summed) = (Number(NumberUse::Shown), Number(NumberUse::Summed));
        let mut read: Vec<(&str, PropertyType)> = match &self.fold {
            FeatureFold::Count
            | FeatureFold::Recency
            | FeatureFold::Tenure
            | FeatureFold::MeanGap
            | FeatureFold::Sessions { .. } => Vec::new(),
            FeatureFold::Sum { properties } => properties.iter().map(|p| (&**p, summed)).collect(),
            FeatureFold::Mean { property } => vec![(property, summed)],
            FeatureFold::Min { property } | FeatureFold::Max { property } => {
                vec![(property, shown)]
            }
            FeatureFold::Last { property, kind } => vec![(property, (*kind).into())],
            FeatureFold::Distinct { property, .. } => vec![(property, Any)],
            FeatureFold::Share { property, values, weight_by } => {
                let of = values.first().map_or(Any, PropertyType::of_scalar);
                let mut read: Vec<(&str, PropertyType)> = vec![(property, of)];
                read.extend(weight_by.as_deref().map(|weight| (weight, summed)));
                read
            }
        };
        read.extend(self.conditions.iter().map(|condition| {
            let of = match &condition.test {
                PropertyTest::OneOf(values) => values.first().map_or(Any, PropertyType::of_scalar),
                PropertyTest::Between { .. } => Number(NumberUse::Compared),
            };
            (&*condition.property, of)
        }));
        read
    }

    /// Value type: that of the property for the fold last, else a number.
    pub(super) const fn kind(&self) -> ValueType {
        match self.fold {
            FeatureFold::Last { kind, .. } => kind,
            _ => ValueType::Number,
        }
    }

    /// Whether no event can make the value negative: folds of counts and times, and folds of a
    /// property that a condition keeps at 0 or above.
    pub(super) fn is_never_negative(&self) -> bool {
        match &self.fold {
            FeatureFold::Count
            | FeatureFold::Recency
            | FeatureFold::Tenure
            | FeatureFold::MeanGap
            | FeatureFold::Distinct { .. }
            | FeatureFold::Sessions { .. } => true,
            FeatureFold::Sum { properties } => {
                properties.iter().all(|property| self.excludes_negative(property))
            }
            FeatureFold::Mean { property }
            | FeatureFold::Min { property }
            | FeatureFold::Max { property }
            | FeatureFold::Last { property, .. } => self.excludes_negative(property),
            FeatureFold::Share { weight_by, .. } => {
                weight_by.as_deref().is_none_or(|weight| self.excludes_negative(weight))
            }
        }
    }
}
