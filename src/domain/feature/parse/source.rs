//! First pass over the keys that declare the source of a feature's values.

use crate::domain::feature::define::ValueType;
use crate::domain::feature::orders::folds::{OrderAggregate, OrderFold};
use crate::domain::feature::parse::amount::{self, PROPERTY_EXAMPLE};
use crate::domain::feature::parse::document::{DocumentNode, NodeData};
use crate::domain::feature::parse::fields::{LocatedName, TableReader};
use crate::domain::feature::parse::filter;
use crate::domain::feature::parse::window::{self, AllowedWindows};
use crate::domain::feature::source::{DerivationRule, EventFeatureSource, FeatureFold};
use crate::domain::feature::window::TimeWindow;

pub(super) const KINDS: [(&str, ValueType); 2] =
    [("number", ValueType::Number), ("text", ValueType::Text)];
/// A day: see `sessions`, which moves a start by up to a gap.
const MAX_GAP_MINUTES: u32 = 1440;
const SKETCH_SIZE: (u32, u32) = (16, 4096);
const DEFAULT_SKETCH_SIZE: usize = 256;
/// Value of `from` for folds over orders.
const ORDERS: &str = "orders";

/// A source with references to features, traits and orders not resolved yet.
#[derive(Debug)]
pub(super) enum DraftSource {
    Events(EventFeatureSource),
    Orders(DraftOrderSource),
    Derived(DraftDerivation),
    Trait(LocatedName),
}

/// A fold over orders.
#[derive(Debug)]
pub(super) struct DraftOrderSource {
    pub(super) line: Option<usize>,
    pub(super) fold: OrderFold,
    pub(super) window: TimeWindow,
}

/// A feature computed from two others.
#[derive(Debug)]
pub(super) struct DraftDerivation {
    pub(super) rule: DerivationRule,
    pub(super) left: LocatedName,
    pub(super) right: LocatedName,
    pub(super) floor: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoldForm {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    First,
    Last,
    Recency,
    Tenure,
    MeanGap,
    Distinct,
    Share,
    Sessions,
    Ratio,
    Difference,
}

const FORMS: [(&str, FoldForm); 15] = [
    ("count", FoldForm::Count),
    ("sum", FoldForm::Sum),
    ("mean", FoldForm::Mean),
    ("min", FoldForm::Min),
    ("max", FoldForm::Max),
    ("first", FoldForm::First),
    ("last", FoldForm::Last),
    ("recency", FoldForm::Recency),
    ("tenure", FoldForm::Tenure),
    ("mean-gap", FoldForm::MeanGap),
    ("distinct", FoldForm::Distinct),
    ("share", FoldForm::Share),
    ("sessions", FoldForm::Sessions),
    ("ratio", FoldForm::Ratio),
    ("difference", FoldForm::Difference),
];

impl FoldForm {
    fn name(self) -> &'static str {
        FORMS.iter().find(|form| form.1 == self).map_or("", |form| form.0)
    }

    const fn windows(self) -> AllowedWindows {
        match self {
            Self::Count | Self::Sum | Self::Mean | Self::Share => AllowedWindows::All,
            Self::Min | Self::Max | Self::MeanGap | Self::Distinct | Self::Sessions => {
                AllowedWindows::LifetimeOrRolling
            }
            Self::First
            | Self::Last
            | Self::Recency
            | Self::Tenure
            | Self::Ratio
            | Self::Difference => AllowedWindows::None,
        }
    }

    /// Whether the fold can run over the elements of an array.
    const fn takes_each(self) -> bool {
        matches!(
            self,
            Self::Count
                | Self::Sum
                | Self::Mean
                | Self::Min
                | Self::Max
                | Self::Distinct
                | Self::Share
        )
    }

    /// Whether weights of events apply, and a floor below which they cannot take the value.
    const fn is_additive(self) -> bool {
        matches!(self, Self::Count | Self::Sum)
    }

    /// The fold over orders of this name.
    const fn over_orders(self) -> Option<OrderAggregate> {
        Some(match self {
            Self::Count => OrderAggregate::Count,
            Self::Sum => OrderAggregate::Sum,
            Self::Mean => OrderAggregate::Mean,
            Self::Min => OrderAggregate::Min,
            Self::Max => OrderAggregate::Max,
            Self::Recency => OrderAggregate::Recency,
            Self::Tenure => OrderAggregate::Tenure,
            Self::MeanGap => OrderAggregate::MeanGap,
            _ => return None,
        })
    }
}

/// Parses the source. The text is the subject of the fault for keys that do not belong here.
/// `None` if not even the kind of source is known.
pub(super) fn read(fields: &mut TableReader<'_, '_>) -> Option<(Option<DraftSource>, String)> {
    match (fields.peek("fold"), fields.peek("trait")) {
        (None, None) => {
            let problem = "is missing: say where the value comes from, by `fold` (such as \
                           \"count\") or by `trait` (a declared trait)";
            fields.fault(fields.line, "fold", problem);
            None
        }
        (Some(_), Some(node)) => {
            let problem = "cannot be combined with `fold`: a feature has one source, remove either";
            fields.fault(node.line, "trait", problem);
            None
        }
        (None, Some(_)) => {
            let source = fields.named("trait", "the name of a declared trait");
            Some((source.map(DraftSource::Trait), "a feature from a trait".into()))
        }
        (Some(_), None) => {
            let form = fields.choice("fold", &FORMS)?;
            let from_orders = is_from_orders(fields);
            let of = if from_orders { " of orders" } else { "" };
            let subject = format!("a feature with fold `{}`{of}", form.name());
            let source = match (derivation_rule(form), form.over_orders()) {
                (Some(rule), _) => derivation(fields, rule).map(DraftSource::Derived),
                (None, Some(aggregate)) if from_orders => {
                    of_orders(fields, form, aggregate).map(DraftSource::Orders)
                }
                (None, None) if from_orders => {
                    refuse_orders(fields, form);
                    return None;
                }
                (None, _) => of_events(fields, form).map(DraftSource::Events),
            };
            Some((source, subject))
        }
    }
}

const fn derivation_rule(form: FoldForm) -> Option<DerivationRule> {
    match form {
        FoldForm::Ratio => Some(DerivationRule::Ratio),
        FoldForm::Difference => Some(DerivationRule::Difference),
        _ => None,
    }
}

fn is_from_orders(fields: &TableReader<'_, '_>) -> bool {
    fields
        .peek("from")
        .is_some_and(|node| matches!(&node.data, NodeData::Text(text) if &**text == ORDERS))
}

fn refuse_orders(fields: &mut TableReader<'_, '_>, form: FoldForm) {
    let problem = format!(
        "must be an event filter for fold `{}`: orders have count, sum, mean, min, max, recency, \
         tenure and mean-gap",
        form.name()
    );
    fields.fault(fields.peek("from").and_then(|node| node.line), "from", problem);
}

fn derivation(fields: &mut TableReader<'_, '_>, rule: DerivationRule) -> Option<DraftDerivation> {
    let (_, left, right) = rule.keys();
    let left = fields.named(left, "the name of a feature");
    let right = fields.named(right, "the name of a feature");
    let floor = match rule {
        DerivationRule::Ratio => Some(None),
        DerivationRule::Difference => match fields.get("floor") {
            None => Some(None),
            Some(node) => floor(fields, node).map(Some),
        },
    };
    Some(DraftDerivation { rule, left: left?, right: right?, floor: floor? })
}

fn of_orders(
    fields: &mut TableReader<'_, '_>,
    form: FoldForm,
    aggregate: OrderAggregate,
) -> Option<DraftOrderSource> {
    let line = fields.get("from").and_then(|node| node.line);
    let skip_first = match aggregate {
        OrderAggregate::Recency | OrderAggregate::Tenure | OrderAggregate::MeanGap => Some(false),
        _ => fields.flag_or("skip_first", false),
    };
    let window = window::window(fields, form.name(), form.windows());
    let fold = OrderFold { aggregate, skip_first: skip_first? };
    Some(DraftOrderSource { line, fold, window: window? })
}

fn of_events(fields: &mut TableReader<'_, '_>, form: FoldForm) -> Option<EventFeatureSource> {
    let filters = filter::filters(fields);
    let each = match form.takes_each().then(|| fields.get("each")).flatten() {
        None => Some(None),
        Some(node) => {
            fields.text_of("each", node, "the name of an array, such as \"products\"").map(Some)
        }
    };
    let fold = fold(fields, form);
    let conditions = filter::conditions(fields);
    let window = window::window(fields, form.name(), form.windows());
    let floor = match form.is_additive().then(|| fields.get("floor")).flatten() {
        None => Some(None),
        Some(node) => floor(fields, node).map(Some),
    };
    let source = EventFeatureSource {
        filters: filters?,
        each: each?,
        conditions: conditions?,
        fold: fold?,
        window: window?,
        floor: floor?,
    };
    check_weights(fields, &source, form)?;
    check_each(fields, &source)?;
    Some(source)
}

/// Refuses weights where they have no effect.
fn check_weights(
    fields: &TableReader<'_, '_>,
    source: &EventFeatureSource,
    form: FoldForm,
) -> Option<()> {
    if source.is_weighted() && !form.is_additive() {
        let problem = format!(
            "must have no `weight` for fold `{}`: weights apply to count and sum",
            form.name()
        );
        fields.fault(fields.peek("from").and_then(|node| node.line), "from", problem);
        return None;
    }
    Some(())
}

/// Refuses a fold over elements that reads none of their fields, which are dropped then.
fn check_each(fields: &TableReader<'_, '_>, source: &EventFeatureSource) -> Option<()> {
    let Some(array) = &source.each else { return Some(()) };
    let is_field = |name: &str| {
        name.strip_prefix(&**array).is_some_and(|tail| tail.is_empty() || tail.starts_with('.'))
    };
    if source.properties().iter().any(|(name, _)| is_field(name)) {
        return Some(());
    }
    let problem = format!(
        "must be the array of a property that the feature reads, such as `{array}.price`; the \
         number of elements is the property `{array}.length`, without `each`"
    );
    fields.fault(fields.peek("each").and_then(|node| node.line), "each", problem);
    None
}

fn floor(fields: &TableReader<'_, '_>, node: &DocumentNode) -> Option<f64> {
    fields.number_of("floor", node, "a number", |_| true)
}

fn fold(fields: &mut TableReader<'_, '_>, form: FoldForm) -> Option<FeatureFold> {
    match form {
        FoldForm::Count => Some(FeatureFold::Count),
        FoldForm::Recency => Some(FeatureFold::Recency),
        FoldForm::Tenure => Some(FeatureFold::Tenure),
        FoldForm::MeanGap => Some(FeatureFold::MeanGap),
        FoldForm::Sum => amount::terms(fields).map(|terms| FeatureFold::Sum { terms }),
        FoldForm::Mean => {
            amount::required(fields, "property").map(|value| FeatureFold::Mean { value })
        }
        FoldForm::Min => {
            amount::required(fields, "property").map(|value| FeatureFold::Min { value })
        }
        FoldForm::Max => {
            amount::required(fields, "property").map(|value| FeatureFold::Max { value })
        }
        FoldForm::First | FoldForm::Last => {
            let property = fields.text("property", PROPERTY_EXAMPLE);
            let kind = fields.choice("kind", &KINDS);
            let (property, kind) = (property?, kind?);
            Some(match form {
                FoldForm::First => FeatureFold::First { property, kind, is_money: false },
                _ => FeatureFold::Last { property, kind, is_money: false },
            })
        }
        FoldForm::Distinct => {
            let property = fields.text("property", PROPERTY_EXAMPLE);
            let sketch_size = match fields.get("sketch_size") {
                None => Some(DEFAULT_SKETCH_SIZE),
                Some(node) => fields
                    .whole_of("sketch_size", node, SKETCH_SIZE.0, SKETCH_SIZE.1)
                    .map(|size| size as usize),
            };
            Some(FeatureFold::Distinct { property: property?, sketch_size: sketch_size? })
        }
        FoldForm::Share => {
            let property = fields.text("property", PROPERTY_EXAMPLE);
            let such_values = "the values counted, such as [\"web\", \"app\"]";
            let node = fields.need("values", such_values);
            let values = node.and_then(|node| filter::scalars(fields, "values", node, such_values));
            let weight_by = match fields.get("weight_by") {
                None => Some(None),
                Some(node) => amount::expression(fields, "weight_by", node).map(Some),
            };
            Some(FeatureFold::Share { property: property?, values: values?, weight_by: weight_by? })
        }
        FoldForm::Sessions => {
            let right =
                format!("the minutes without events that end a session, 1 to {MAX_GAP_MINUTES}");
            let node = fields.need("gap_minutes", &right)?;
            let gap_minutes = fields.whole_of("gap_minutes", node, 1, MAX_GAP_MINUTES)?;
            Some(FeatureFold::Sessions { gap_minutes })
        }
        FoldForm::Ratio | FoldForm::Difference => None,
    }
}
