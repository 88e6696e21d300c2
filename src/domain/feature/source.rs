//! Sources of feature values: event filters with fold and window, two other features, or a
//! trait.

use std::sync::Arc;

use crate::domain::event::{CustomerEvent, PropertyValue};
use crate::domain::feature::FeatureValue;
use crate::domain::feature::define::ValueType;
use crate::domain::feature::orders::folds::{OrderAggregate, OrderFold};
use crate::domain::feature::orders::rules::OrderRules;
use crate::domain::feature::reading::amount::NumberExpression;
use crate::domain::feature::reading::event::NumberProperty;
use crate::domain::feature::reading::filter::{
    EventFilter, NumberUse, PropertyCondition, PropertyType,
};
use crate::domain::feature::window::TimeWindow;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FeatureSource {
    /// Index of an event source; [`FeatureSet::slot_of`] maps it to a slot of the state.
    ///
    /// [`FeatureSet::slot_of`]: crate::domain::feature::FeatureSet::slot_of
    Events(usize),
    Derived(DerivedFeature),
    /// Index of a trait.
    Trait(usize),
}

/// A number computed from two numeric features, all by index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DerivedFeature {
    pub(super) feature: usize,
    pub(super) rule: DerivationRule,
    /// Numerator or minuend.
    pub(super) left: usize,
    /// Denominator or subtrahend.
    pub(super) right: usize,
    /// A lower value is replaced by this one.
    pub(super) floor: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DerivationRule {
    Ratio,
    Difference,
}

impl DerivationRule {
    /// The name of the fold, and the keys of its two features, in a features file.
    pub(super) const fn keys(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ratio => ("ratio", "numerator", "denominator"),
            Self::Difference => ("difference", "minuend", "subtrahend"),
        }
    }
}

impl DerivedFeature {
    /// The value; missing if either part is, or for x/0.
    pub(super) fn value(&self, values: &[FeatureValue]) -> FeatureValue {
        let (FeatureValue::Number(left), FeatureValue::Number(right)) =
            (&values[self.left], &values[self.right])
        else {
            return FeatureValue::Missing;
        };
        let value = match self.rule {
            DerivationRule::Ratio => left / right,
            DerivationRule::Difference => left - right,
        };
        at_least(self.floor, FeatureValue::number(value))
    }
}

/// The value, or the floor if the value is below it.
pub(super) fn at_least(floor: Option<f64>, value: FeatureValue) -> FeatureValue {
    match (floor, value) {
        (Some(floor), FeatureValue::Number(value)) => FeatureValue::number(value.max(floor)),
        (_, value) => value,
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventFeatureSource {
    /// At least one. An event takes the first one that it matches.
    pub(super) filters: Vec<WeightedFilter>,
    /// The array over the elements of which the fold runs.
    pub(super) each: Option<Box<str>>,
    /// Conditions on properties, all of which must be met.
    pub(super) conditions: Vec<PropertyCondition>,
    pub(super) fold: FeatureFold,
    pub(super) window: TimeWindow,
    /// A lower value is replaced by this one.
    pub(super) floor: Option<f64>,
}

/// An event filter and the weight of its events in counts and sums.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WeightedFilter {
    pub(super) filter: EventFilter,
    pub(super) weight: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum FeatureFold {
    Count,
    /// Total of all terms that the event has.
    Sum {
        terms: Vec<NumberExpression>,
    },
    Mean {
        value: NumberExpression,
    },
    Min {
        value: NumberExpression,
    },
    Max {
        value: NumberExpression,
    },
    First {
        property: Box<str>,
        kind: ValueType,
        is_money: bool,
    },
    Last {
        property: Box<str>,
        kind: ValueType,
        is_money: bool,
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
    /// Share of the events, or of the sum of a number, for which `property` equals one of
    /// `values`.
    Share {
        property: Box<str>,
        values: Vec<PropertyValue>,
        weight_by: Option<NumberExpression>,
    },
    Sessions {
        gap_minutes: u32,
    },
    /// A fold over orders. All of a set share one ledger, so their filters are those of the
    /// rules.
    Orders {
        rules: Arc<OrderRules>,
        fold: OrderFold,
    },
}

impl EventFeatureSource {
    /// The rules of a fold over orders.
    pub(super) fn order_rules(&self) -> Option<&OrderRules> {
        match &self.fold {
            FeatureFold::Orders { rules, .. } => Some(rules),
            _ => None,
        }
    }

    /// Whether both sources can read one slot: they fold the same events in the same way, in
    /// daily cells. Sessions cannot be shared, as they are stored only as far back as their own
    /// window. All folds over orders share the ledger.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        if self.is_of_orders() || other.is_of_orders() {
            return self.is_of_orders() && other.is_of_orders();
        }
        let is_sessions = matches!(self.fold, FeatureFold::Sessions { .. });
        self.filters == other.filters
            && self.each == other.each
            && self.conditions == other.conditions
            && self.fold == other.fold
            && (self.window == other.window
                || self.has_daily_cells() && other.has_daily_cells() && !is_sessions)
    }

    pub(super) fn is_of_orders(&self) -> bool {
        matches!(self.fold, FeatureFold::Orders { .. })
    }

    fn has_daily_cells(&self) -> bool {
        self.window.length_days().is_some()
    }

    /// Whether the value grows with the clock: recency and tenure.
    pub(super) fn grows_with_time(&self) -> bool {
        match &self.fold {
            FeatureFold::Recency | FeatureFold::Tenure => true,
            FeatureFold::Orders { fold, .. } => {
                matches!(fold.aggregate, OrderAggregate::Recency | OrderAggregate::Tenure)
            }
            _ => false,
        }
    }

    /// Whether the value fades in a window with a half-life: counts and sums.
    pub(super) fn fades(&self) -> bool {
        match &self.fold {
            FeatureFold::Count | FeatureFold::Sum { .. } => true,
            FeatureFold::Orders { fold, .. } => {
                matches!(fold.aggregate, OrderAggregate::Count | OrderAggregate::Sum)
            }
            _ => false,
        }
    }

    /// Whether counts and sums weight their events.
    pub(super) fn is_weighted(&self) -> bool {
        self.filters.iter().any(|weighted| weighted.weight.total_cmp(&1.0).is_ne())
    }

    /// The first filter that the event matches.
    pub(super) fn filter_of(&self, event: &CustomerEvent) -> Option<&WeightedFilter> {
        self.filters.iter().find(|weighted| weighted.filter.matches(event))
    }

    /// Whether one event can match both sources.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let mut pairs = self.filters.iter().flat_map(|a| other.filters.iter().map(move |b| (a, b)));
        pairs.any(|(a, b)| a.filter.overlaps(&b.filter))
    }

    /// Whether a condition excludes events for which the expression is negative.
    fn excludes_negative(&self, value: &NumberExpression) -> bool {
        value.properties().iter().all(|property| {
            self.conditions.iter().any(|condition| condition.excludes_negative(&property.name))
        })
    }

    /// Every property read, with its required type.
    pub(super) fn properties(&self) -> Vec<(&str, PropertyType)> {
        use PropertyType::Any;
        let mut read: Vec<(&str, PropertyType)> = Vec::new();
        match &self.fold {
            FeatureFold::Count
            | FeatureFold::Recency
            | FeatureFold::Tenure
            | FeatureFold::MeanGap
            | FeatureFold::Sessions { .. } => {}
            FeatureFold::Sum { terms } => read.extend(terms.iter().flat_map(summed)),
            FeatureFold::Mean { value } => read.extend(summed(value)),
            FeatureFold::Min { value } | FeatureFold::Max { value } => read.extend(shown(value)),
            FeatureFold::First { property, kind, .. }
            | FeatureFold::Last { property, kind, .. } => {
                read.push((property, (*kind).into()));
            }
            FeatureFold::Distinct { property, .. } => read.push((property, Any)),
            FeatureFold::Share { property, values, weight_by } => {
                let of = values.first().map_or(Any, PropertyType::of_scalar);
                read.push((property, of));
                read.extend(weight_by.iter().flat_map(summed));
            }
            FeatureFold::Orders { rules, .. } => read.extend(rules.properties()),
        }
        read.extend(self.conditions.iter().map(PropertyCondition::read));
        read
    }

    /// Every number read that can be money, to be marked as such.
    pub(super) fn expressions_mut(&mut self) -> Vec<&mut NumberExpression> {
        match &mut self.fold {
            FeatureFold::Sum { terms } => terms.iter_mut().collect(),
            FeatureFold::Mean { value }
            | FeatureFold::Min { value }
            | FeatureFold::Max { value } => vec![value],
            FeatureFold::Share { weight_by, .. } => weight_by.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    /// Value type: that of the property for the folds first and last, else a number.
    pub(super) const fn kind(&self) -> ValueType {
        match self.fold {
            FeatureFold::First { kind, .. } | FeatureFold::Last { kind, .. } => kind,
            _ => ValueType::Number,
        }
    }

    /// Whether no event can make the value negative: values with a floor, and folds without
    /// negative terms.
    pub(super) fn is_never_negative(&self) -> bool {
        self.floor.is_some_and(|floor| floor >= 0.0) || !self.has_negative_terms()
    }

    /// Whether a term of the fold can be negative: not for times, orders and unweighted counts,
    /// nor for numbers that conditions keep at 0 or above.
    pub(super) fn has_negative_terms(&self) -> bool {
        self.filters.iter().any(|weighted| weighted.weight < 0.0) || !self.reads_no_negative()
    }

    fn reads_no_negative(&self) -> bool {
        match &self.fold {
            FeatureFold::Count
            | FeatureFold::Recency
            | FeatureFold::Tenure
            | FeatureFold::MeanGap
            | FeatureFold::Distinct { .. }
            | FeatureFold::Sessions { .. }
            | FeatureFold::Orders { .. } => true,
            FeatureFold::Sum { terms } => terms.iter().all(|term| self.excludes_negative(term)),
            FeatureFold::Mean { value }
            | FeatureFold::Min { value }
            | FeatureFold::Max { value } => self.excludes_negative(value),
            FeatureFold::First { property, .. } | FeatureFold::Last { property, .. } => {
                self.conditions.iter().any(|condition| condition.excludes_negative(property))
            }
            FeatureFold::Share { weight_by, .. } => {
                weight_by.as_ref().is_none_or(|weight| self.excludes_negative(weight))
            }
        }
    }
}

/// The properties of a number that a fold adds.
fn summed(value: &NumberExpression) -> impl Iterator<Item = (&str, PropertyType)> {
    numbers(value, NumberUse::Summed)
}

/// The properties of a number that is the value of a feature. A product of shown numbers could
/// exceed their limit, so factors keep the limit of sums.
fn shown(value: &NumberExpression) -> impl Iterator<Item = (&str, PropertyType)> {
    let is_product = matches!(value, NumberExpression::Product(_));
    numbers(value, if is_product { NumberUse::Summed } else { NumberUse::Shown })
}

fn numbers(
    value: &NumberExpression,
    number_use: NumberUse,
) -> impl Iterator<Item = (&str, PropertyType)> {
    let read_as = PropertyType::Number(number_use);
    value.properties().iter().map(move |NumberProperty { name, .. }| (&**name, read_as))
}
