//! Sources of feature values: event filter with fold and window, ratio of two features, or
//! trait.

use crate::domain::event::{Event, EventKind, Scalar};
use crate::domain::feature::define::Kind;
use crate::domain::feature::window::Window;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Index of an event source; [`FeatureSet::slot_of`] maps it to a slot of the state.
    ///
    /// [`FeatureSet::slot_of`]: crate::domain::feature::FeatureSet::slot_of
    Events(usize),
    Ratio(Ratio),
    /// Index of a trait.
    Trait(usize),
}

/// The ratio of two numeric features, all by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratio {
    pub(super) feature: usize,
    pub(super) numerator: usize,
    pub(super) denominator: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventSource {
    pub(super) head: Head,
    /// Conditions on properties, all of which must be met.
    pub(super) conditions: Vec<Condition>,
    pub(super) fold: Fold,
    pub(super) window: Window,
}

/// Event filter by type and name. Without a type, it matches all behavioural events; without a
/// name, all names. It never matches `identify` and `alias` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Option<EventKind>,
    pub(super) name: Option<Box<str>>,
}

impl Head {
    pub(super) fn matches(&self, event: &Event) -> bool {
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
pub(super) struct Condition {
    pub(super) property: Box<str>,
    pub(super) test: Test,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// Equality with any of the values, all of one type.
    OneOf(Vec<Scalar>),
    /// Strictly above the first bound and strictly below the second.
    Between { above: Option<f64>, below: Option<f64> },
}

impl Condition {
    pub(super) fn holds(&self, event: &Event) -> bool {
        let Some(value) = event.properties.get(&self.property) else { return false };
        match (&self.test, value) {
            (Test::OneOf(values), _) => values.contains(value),
            (Test::Between { above, below }, Scalar::Number(n)) => {
                above.is_none_or(|above| *n > above) && below.is_none_or(|below| *n < below)
            }
            (Test::Between { .. }, _) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fold {
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
        kind: Kind,
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
        values: Vec<Scalar>,
        weight_by: Option<Box<str>>,
    },
    Sessions {
        gap_minutes: u32,
    },
}

/// The type that features require of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PropertyType {
    Number,
    Text,
    Bool,
    /// Any of the three types; used by the fold distinct.
    Any,
}

impl PropertyType {
    pub(super) const fn of(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Number(_) => Self::Number,
            Scalar::Text(_) => Self::Text,
            Scalar::Bool(_) => Self::Bool,
        }
    }

    /// Noun with article, for fault texts.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Bool => "true or false",
            Self::Any => "a number, a text, true or false",
        }
    }

    /// The type that satisfies both readers, if one exists.
    pub(super) fn meet(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, t) | (t, Self::Any) => Some(t),
            (a, b) if a == b => Some(a),
            _ => None,
        }
    }
}

impl From<Kind> for PropertyType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Number => Self::Number,
            Kind::Text => Self::Text,
        }
    }
}

impl EventSource {
    /// Whether both sources can read one slot: they fold the same events in the same way, in
    /// daily cells. Sessions cannot be shared, as they are stored only as far back as their own
    /// window.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        let by_day = |source: &Self| source.window.reach_days().is_some();
        let is_sessions = matches!(self.fold, Fold::Sessions { .. });
        self.head == other.head
            && self.conditions == other.conditions
            && self.fold == other.fold
            && (self.window == other.window || by_day(self) && by_day(other) && !is_sessions)
    }

    /// Every property read, with its required type.
    pub(super) fn properties(&self) -> Vec<(&str, PropertyType)> {
        use PropertyType::{Any, Number};
        let mut read: Vec<(&str, PropertyType)> = match &self.fold {
            Fold::Count | Fold::Recency | Fold::Tenure | Fold::MeanGap | Fold::Sessions { .. } => {
                Vec::new()
            }
            Fold::Sum { properties } => properties.iter().map(|p| (&**p, Number)).collect(),
            Fold::Mean { property } | Fold::Min { property } | Fold::Max { property } => {
                vec![(property, Number)]
            }
            Fold::Last { property, kind } => vec![(property, (*kind).into())],
            Fold::Distinct { property, .. } => vec![(property, Any)],
            Fold::Share { property, values, weight_by } => {
                let of = values.first().map_or(Any, PropertyType::of);
                let mut read: Vec<(&str, PropertyType)> = vec![(property, of)];
                read.extend(weight_by.as_deref().map(|weight| (weight, Number)));
                read
            }
        };
        read.extend(self.conditions.iter().map(|condition| {
            let of = match &condition.test {
                Test::OneOf(values) => values.first().map_or(Any, PropertyType::of),
                Test::Between { .. } => Number,
            };
            (&*condition.property, of)
        }));
        read
    }

    /// Value type: that of the property for the fold last, else a number.
    pub(super) const fn kind(&self) -> Kind {
        match self.fold {
            Fold::Last { kind, .. } => kind,
            _ => Kind::Number,
        }
    }

    /// Whether no event can make the value negative: folds of counts and times, and folds of a
    /// property that a condition keeps at 0 or above.
    pub(super) fn never_negative(&self) -> bool {
        let kept_above = |property: &str| {
            self.conditions.iter().any(|condition| {
                matches!(condition.test, Test::Between { above: Some(above), .. } if above >= 0.0)
                    && *condition.property == *property
            })
        };
        match &self.fold {
            Fold::Count
            | Fold::Recency
            | Fold::Tenure
            | Fold::MeanGap
            | Fold::Distinct { .. }
            | Fold::Sessions { .. } => true,
            Fold::Sum { properties } => properties.iter().all(|p| kept_above(p)),
            Fold::Mean { property }
            | Fold::Min { property }
            | Fold::Max { property }
            | Fold::Last { property, .. } => kept_above(property),
            Fold::Share { weight_by, .. } => weight_by.as_deref().is_none_or(kept_above),
        }
    }
}
