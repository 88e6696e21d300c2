//! First pass over the keys that declare the source of a feature's values.

use crate::domain::event::{EventKind, PropertyValue};
use crate::domain::feature::convert::MAX_TEXT_BYTES;
use crate::domain::feature::define::ValueType;
use crate::domain::feature::parse::document::{DocumentNode, NodeData};
use crate::domain::feature::parse::fields::{LocatedName, TableReader};
use crate::domain::feature::source::{
    EventFeatureSource, EventFilter, FeatureFold, PropertyCondition, PropertyTest, PropertyType,
};
use crate::domain::feature::window::TimeWindow;
use crate::domain::text::is_storable;

pub(super) const KINDS: [(&str, ValueType); 2] =
    [("number", ValueType::Number), ("text", ValueType::Text)];
const MAX_ROLLING_DAYS: u32 = 3650;
const HALF_LIFE_DAYS: std::ops::RangeInclusive<f64> = 0.5..=730.0;
/// A day: see `sessions`, which moves a start by up to a gap.
const MAX_GAP_MINUTES: u32 = 1440;
const SKETCH_SIZE: (u32, u32) = (16, 4096);
const DEFAULT_SKETCH_SIZE: usize = 256;
/// Greater numbers must be written as integers: a double may be another number than the
/// digits of the file.
const LARGE_NUMBER: f64 = 9_007_199_254_740_992.0;

/// A source with references to features and traits still by name.
#[derive(Debug)]
pub(super) enum DraftSource {
    Events(EventFeatureSource),
    Ratio { numerator: LocatedName, denominator: LocatedName },
    Trait(LocatedName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoldForm {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Last,
    Recency,
    Tenure,
    MeanGap,
    Distinct,
    Share,
    Sessions,
    Ratio,
}

const FORMS: [(&str, FoldForm); 13] = [
    ("count", FoldForm::Count),
    ("sum", FoldForm::Sum),
    ("mean", FoldForm::Mean),
    ("min", FoldForm::Min),
    ("max", FoldForm::Max),
    ("last", FoldForm::Last),
    ("recency", FoldForm::Recency),
    ("tenure", FoldForm::Tenure),
    ("mean-gap", FoldForm::MeanGap),
    ("distinct", FoldForm::Distinct),
    ("share", FoldForm::Share),
    ("sessions", FoldForm::Sessions),
    ("ratio", FoldForm::Ratio),
];

/// The windows that a fold supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AllowedWindows {
    /// No window: the fold covers the whole past.
    None,
    LifetimeOrRolling,
    All,
}

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
            Self::Last | Self::Recency | Self::Tenure | Self::Ratio => AllowedWindows::None,
        }
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
            let subject = format!("a feature with fold `{}`", form.name());
            Some((by_fold(fields, form), subject))
        }
    }
}

fn by_fold(fields: &mut TableReader<'_, '_>, form: FoldForm) -> Option<DraftSource> {
    if form == FoldForm::Ratio {
        let numerator = fields.named("numerator", "the name of a feature");
        let denominator = fields.named("denominator", "the name of a feature");
        return Some(DraftSource::Ratio { numerator: numerator?, denominator: denominator? });
    }
    let head = head(fields);
    let fold = fold(fields, form);
    let conditions = conditions(fields);
    let window = window(fields, form);
    Some(DraftSource::Events(EventFeatureSource {
        head: head?,
        conditions: conditions?,
        fold: fold?,
        window: window?,
    }))
}

fn head(fields: &mut TableReader<'_, '_>) -> Option<EventFilter> {
    let Some(node) = fields.get("from") else {
        return Some(EventFilter { kind: None, name: None });
    };
    let mut inner = fields.table_of("from", node)?;
    let kind = match inner.get("kind") {
        None => Some(None),
        Some(node) => match &node.data {
            NodeData::Text(text) if &**text == "identify" => {
                let problem = "`identify` events set traits: declare a `[[trait]]` and give the \
                               feature `trait` instead of `fold`";
                inner.fault(node.line, "kind", problem);
                None
            }
            _ => {
                let kinds =
                    [EventKind::Track, EventKind::Page, EventKind::Screen, EventKind::Group];
                inner.choice("kind", &kinds.map(|kind| (kind.as_str(), kind))).map(Some)
            }
        },
    };
    let such_as = "the event's name, such as \"Order Completed\"";
    let name = match inner.get("name") {
        None => Some(None),
        Some(node) => inner.text_of("name", node, such_as).map(Some),
    };
    inner.finish("an event filter");
    Some(EventFilter { kind: kind?, name: name? })
}

fn fold(fields: &mut TableReader<'_, '_>, form: FoldForm) -> Option<FeatureFold> {
    let such_as = "the name of a property, such as \"sales_value\"";
    match form {
        FoldForm::Count => Some(FeatureFold::Count),
        FoldForm::Recency => Some(FeatureFold::Recency),
        FoldForm::Tenure => Some(FeatureFold::Tenure),
        FoldForm::MeanGap => Some(FeatureFold::MeanGap),
        FoldForm::Sum => summed(fields).map(|properties| FeatureFold::Sum { properties }),
        FoldForm::Mean => {
            fields.text("property", such_as).map(|property| FeatureFold::Mean { property })
        }
        FoldForm::Min => {
            fields.text("property", such_as).map(|property| FeatureFold::Min { property })
        }
        FoldForm::Max => {
            fields.text("property", such_as).map(|property| FeatureFold::Max { property })
        }
        FoldForm::Last => {
            let property = fields.text("property", such_as);
            let kind = fields.choice("kind", &KINDS);
            Some(FeatureFold::Last { property: property?, kind: kind? })
        }
        FoldForm::Distinct => {
            let property = fields.text("property", such_as);
            let sketch_size = match fields.get("sketch_size") {
                None => Some(DEFAULT_SKETCH_SIZE),
                Some(node) => fields
                    .whole_of("sketch_size", node, SKETCH_SIZE.0, SKETCH_SIZE.1)
                    .map(|size| size as usize),
            };
            Some(FeatureFold::Distinct { property: property?, sketch_size: sketch_size? })
        }
        FoldForm::Share => {
            let property = fields.text("property", such_as);
            let such_values = "the values counted, such as [\"web\", \"app\"]";
            let node = fields.need("values", such_values);
            let values = node.and_then(|node| scalars(fields, "values", node, such_values));
            let weight_by = match fields.get("weight_by") {
                None => Some(None),
                Some(node) => fields.text_of("weight_by", node, such_as).map(Some),
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
        FoldForm::Ratio => None,
    }
}

/// Parses one property, or a list of properties to be summed.
fn summed(fields: &mut TableReader<'_, '_>) -> Option<Vec<Box<str>>> {
    let such_as = "the name of a property, or several in a list";
    let node = fields.need("property", such_as)?;
    let NodeData::List(_) = &node.data else {
        return fields.text_of("property", node, such_as).map(|property| vec![property]);
    };
    let items = fields.list_of("property", node, such_as)?;
    let read = items.iter().map(|item| fields.text_of("property", item, such_as));
    // Collected before the first `None` ends the reading, so that every fault is recorded.
    let properties: Vec<_> = read.collect();
    let properties: Vec<Box<str>> = properties.into_iter().collect::<Option<_>>()?;
    for (i, (item, property)) in items.iter().zip(&properties).enumerate() {
        if properties[..i].contains(property) {
            let problem = format!("`{property}` is named twice: name each property once");
            fields.fault(item.line, "property", problem);
            return None;
        }
    }
    Some(properties)
}

fn conditions(fields: &mut TableReader<'_, '_>) -> Option<Vec<PropertyCondition>> {
    let Some(node) = fields.get("where") else { return Some(Vec::new()) };
    let such_as = "conditions such as [{ property = \"channel\", equals = \"web\" }]";
    let items = fields.list_of("where", node, such_as)?;
    let read: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| fields.table_of(&format!("where[{}]", i + 1), item).and_then(condition))
        .collect();
    read.into_iter().collect()
}

fn condition(mut fields: TableReader<'_, '_>) -> Option<PropertyCondition> {
    let property = fields.text("property", "the name of a property");
    let equals = fields.get("equals");
    let (above, below) = (fields.get("above"), fields.get("below"));
    let test = match (equals, above.or(below)) {
        (None, None) => {
            let problem = "is missing: give `equals`, `above`, `below`, or the last two together";
            fields.fault(fields.line, "equals", problem);
            None
        }
        (Some(node), Some(_)) => {
            let problem = "cannot be combined with `above` and `below`: remove either, or make \
                           two conditions";
            fields.fault(node.line, "equals", problem);
            None
        }
        (Some(node), None) => {
            scalars(&fields, "equals", node, "a value or a list of values").map(PropertyTest::OneOf)
        }
        (None, Some(node)) => {
            let bounds = [("above", above), ("below", below)].map(|(key, node)| {
                node.map(|node| fields.number_of(key, node, "a number", |_| true))
            });
            match bounds {
                [Some(Some(above)), Some(Some(below))] if above >= below => {
                    let problem = format!(
                        "must be less than `below`: nothing is above {above} and below {below}"
                    );
                    fields.fault(node.line, "above", problem);
                    None
                }
                // Either has a fault, which is recorded.
                [Some(None), _] | [_, Some(None)] => None,
                [above, below] => {
                    Some(PropertyTest::Between { above: above.flatten(), below: below.flatten() })
                }
            }
        }
    };
    fields.finish("a condition");
    Some(PropertyCondition { property: property?, test: test? })
}

/// Parses one value or a list of values, all of one type.
fn scalars(
    fields: &TableReader<'_, '_>,
    key: &str,
    node: &DocumentNode,
    such_as: &str,
) -> Option<Vec<PropertyValue>> {
    let items = match &node.data {
        NodeData::List(items) if !items.is_empty() => items.as_slice(),
        NodeData::List(_) => {
            fields.fault(node.line, key, format!("must not be empty: give {such_as}"));
            return None;
        }
        _ => std::slice::from_ref(node),
    };
    let mut values: Vec<PropertyValue> = Vec::with_capacity(items.len());
    for item in items {
        let value = match &item.data {
            NodeData::Text(text) if text.len() > MAX_TEXT_BYTES || !is_storable(text) => {
                let problem = format!(
                    "must hold texts of at most {MAX_TEXT_BYTES} bytes without NUL: no event can \
                     have another"
                );
                fields.fault(item.line, key, problem);
                return None;
            }
            NodeData::Text(text) => PropertyValue::Text(text.clone()),
            NodeData::Number(n) if n.is_finite() && n.abs() <= LARGE_NUMBER => {
                PropertyValue::Number(*n)
            }
            NodeData::LargeInteger(n) => PropertyValue::Integer(*n),
            NodeData::Bool(b) => PropertyValue::Bool(*b),
            _ => {
                let problem = format!("must be {such_as}; it holds {}", item.noun());
                fields.fault(item.line, key, problem);
                return None;
            }
        };
        if let Some(first) = values.first()
            && PropertyType::of_scalar(first) != PropertyType::of_scalar(&value)
        {
            let problem = "must hold values of one type: texts, numbers, or true and false";
            fields.fault(item.line, key, problem);
            return None;
        }
        values.push(value);
    }
    Some(values)
}

fn window(fields: &mut TableReader<'_, '_>, form: FoldForm) -> Option<TimeWindow> {
    let allowed = match form.windows() {
        AllowedWindows::None => {
            if fields.peek("window").is_some()
                && let Some(node) = fields.get("window")
            {
                let problem = format!(
                    "must be left out: fold `{}` takes no window, as it covers the whole past",
                    form.name()
                );
                fields.fault(node.line, "window", problem);
            }
            return Some(TimeWindow::Lifetime);
        }
        AllowedWindows::LifetimeOrRolling => "\"lifetime\" or { rolling_days = 28 }",
        AllowedWindows::All => "\"lifetime\", { rolling_days = 28 } or { half_life_days = 30 }",
    };
    let Some(node) = fields.get("window") else { return Some(TimeWindow::Lifetime) };
    match &node.data {
        NodeData::Text(text) if &**text == "lifetime" => return Some(TimeWindow::Lifetime),
        NodeData::Table(entries) if entries.len() == 1 => {}
        _ => {
            let problem = format!("must be {allowed}, for fold `{}`", form.name());
            fields.fault(node.line, "window", problem);
            return None;
        }
    }
    let mut inner = fields.table_of("window", node)?;
    let rolling = inner.get("rolling_days");
    let half_life =
        if form.windows() == AllowedWindows::All { inner.get("half_life_days") } else { None };
    let window = if let Some(node) = rolling {
        inner.whole_of("rolling_days", node, 1, MAX_ROLLING_DAYS).map(TimeWindow::RollingDays)
    } else if let Some(node) = half_life {
        let (least, most) = (HALF_LIFE_DAYS.start(), HALF_LIFE_DAYS.end());
        let range = format!("a number of days from {least} to {most}");
        inner
            .number_of("half_life_days", node, &range, |days| HALF_LIFE_DAYS.contains(&days))
            .map(TimeWindow::HalfLifeDays)
    } else {
        None
    };
    inner.finish(&format!("the window of fold `{}`", form.name()));
    window
}
