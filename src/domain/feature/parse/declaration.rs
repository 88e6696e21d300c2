//! First pass: parses one `[[trait]]`, `[[feature]]` or `[rfm]` table without regard to the
//! others.

use crate::domain::feature::define::{
    FeatureEncoding, MissingValueRule, NumberScaling, NumberTransform, SegmentWords, Sensitivity,
    TraitDefinition, ValueType,
};
use crate::domain::feature::parse::document::{DocumentNode, NodeData};
use crate::domain::feature::parse::fields::{LocatedName, TableReader};
use crate::domain::feature::parse::source::{self, DraftSource, KINDS};
use crate::domain::feature::source::EventFeatureSource;
use crate::domain::text::{self, MAX_NAME_CHARS};

const SENSITIVITIES: [(&str, Sensitivity); 3] = [
    ("public", Sensitivity::Public),
    ("internal", Sensitivity::Internal),
    ("sensitive", Sensitivity::Sensitive),
];
const TRANSFORMS: [(&str, NumberTransform); 4] = [
    ("automatic", NumberTransform::Automatic),
    ("none", NumberTransform::None),
    ("log1p", NumberTransform::Log1p),
    ("yeo-johnson", NumberTransform::YeoJohnson),
];
const SCALES: [(&str, NumberScaling); 4] = [
    ("none", NumberScaling::None),
    ("standard", NumberScaling::Standard),
    ("robust", NumberScaling::Robust),
    ("min-max", NumberScaling::MinMax),
];
const MAX_NAME_BYTES: usize = 64;
const MAX_WEIGHT: f64 = 1000.0;
const DEFAULT_FLOOR: f64 = 0.01;

/// A trait, as far as it could be parsed.
#[derive(Debug)]
pub(super) struct DraftTrait {
    pub(super) path: String,
    pub(super) name: Option<LocatedName>,
    pub(super) kind: Option<ValueType>,
    pub(super) sensitivity: Option<Sensitivity>,
    pub(super) def: Option<TraitDefinition>,
}

/// A feature, as far as it could be parsed.
#[derive(Debug)]
pub(super) struct DraftFeature {
    pub(super) path: String,
    pub(super) line: Option<usize>,
    pub(super) name: Option<LocatedName>,
    pub(super) title: Option<Box<str>>,
    pub(super) segment_words: SegmentWords,
    pub(super) unit: Option<Box<str>>,
    pub(super) owner: Option<Box<str>>,
    pub(super) sensitivity: Option<Sensitivity>,
    pub(super) sensitivity_line: Option<usize>,
    pub(super) source: Option<DraftSource>,
    pub(super) encoding: Option<DraftEncoding>,
}

impl DraftFeature {
    pub(super) const fn event_source(&self) -> Option<&EventFeatureSource> {
        match &self.source {
            Some(DraftSource::Events(source)) => Some(source),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct DraftEncoding {
    pub(super) line: Option<usize>,
    pub(super) encoding: FeatureEncoding,
}

/// The three inputs of the fallback, with features still by name.
#[derive(Debug)]
pub(super) struct DraftRfm {
    pub(super) recency: Option<DraftScored>,
    pub(super) frequency: Option<DraftScored>,
    pub(super) monetary: Option<DraftScored>,
}

#[derive(Debug)]
pub(super) struct DraftScored {
    pub(super) path: String,
    pub(super) feature: Option<LocatedName>,
    pub(super) cuts: Option<[f64; 4]>,
}

pub(super) fn read_trait(mut fields: TableReader<'_, '_>) -> DraftTrait {
    let name = fields.named("name", "the trait's name in the event, such as \"loyalty_tier\"");
    let title = fields.text("title", "a display name, such as \"Loyalty tier\"");
    let owner = owner(&mut fields);
    let sensitivity = fields.choice("sensitivity", &SENSITIVITIES);
    let kind = fields.choice("kind", &KINDS);
    let path = fields.path.clone();
    fields.finish("a trait");
    let def = (|| {
        let name = name.as_ref()?.name.clone();
        Some(TraitDefinition {
            name,
            title: title?,
            owner: owner?,
            sensitivity: sensitivity?,
            kind: kind?,
        })
    })();
    DraftTrait { path, name, kind, sensitivity, def }
}

pub(super) fn read_feature(mut fields: TableReader<'_, '_>) -> DraftFeature {
    let name = feature_name(&mut fields);
    let title = fields.text("title", "a display name, such as \"Orders, 28 days\"");
    let segment_words = segment_words(&mut fields);
    let unit = fields.text("unit", "the unit, such as \"orders\"");
    let owner = owner(&mut fields);
    let sensitivity = fields.choice("sensitivity", &SENSITIVITIES);
    let sensitivity_line = fields.peek("sensitivity").and_then(|node| node.line);
    let source = source::read(&mut fields);
    let encoding = encoding(&mut fields);
    let (path, line) = (fields.path.clone(), fields.line);
    if let Some((_, subject)) = &source {
        fields.finish(subject);
    }
    let source = source.and_then(|(source, _)| source);
    DraftFeature {
        path,
        line,
        name,
        title,
        segment_words,
        unit,
        owner,
        sensitivity,
        sensitivity_line,
        source,
        encoding,
    }
}

pub(super) fn read_rfm(mut fields: TableReader<'_, '_>) -> DraftRfm {
    let recency = scored(&mut fields, "recency");
    let frequency = scored(&mut fields, "frequency");
    let monetary = scored(&mut fields, "monetary");
    fields.finish("the fallback");
    DraftRfm { recency, frequency, monetary }
}

fn scored(fields: &mut TableReader<'_, '_>, key: &'static str) -> Option<DraftScored> {
    let node = fields.need(key, "{ feature = \"…\", cuts = [four ascending numbers] }")?;
    fields.table_of(key, node).map(read_scored)
}

fn read_scored(mut fields: TableReader<'_, '_>) -> DraftScored {
    let feature = fields.named("feature", "the name of a feature");
    let right = "four ascending numbers, such as [7, 14, 28, 56]";
    let cuts = fields.need("cuts", right).and_then(|node| {
        let cuts = match &node.data {
            NodeData::List(items) => numbers(items),
            _ => Vec::new(),
        };
        let cuts = <[f64; 4]>::try_from(cuts).ok();
        let ascending = cuts.filter(|cuts| cuts.is_sorted_by(|a, b| a < b));
        if ascending.is_none() {
            fields.fault(node.line, "cuts", format!("must be {right}"));
        }
        ascending
    });
    let path = fields.path.clone();
    fields.finish("a score");
    DraftScored { path, feature, cuts }
}

fn feature_name(fields: &mut TableReader<'_, '_>) -> Option<LocatedName> {
    let such_as = "a name in snake case, such as \"orders_28d\"";
    let named = fields.named("name", such_as)?;
    let snake = named.name.starts_with(|c: char| c.is_ascii_lowercase())
        && named.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !snake || named.name.len() > MAX_NAME_BYTES {
        fields.fault(
            named.line,
            "name",
            format!(
                "must be {such_as}, of at most {MAX_NAME_BYTES} letters; it is `{}`",
                named.name
            ),
        );
    }
    Some(named)
}

fn owner(fields: &mut TableReader<'_, '_>) -> Option<Box<str>> {
    let such_as = "the responsible address or team, such as \"crm@example.com\"";
    let node = fields.need("owner", such_as)?;
    let owner = fields.text_of("owner", node, such_as)?;
    if let Err(fault) = text::check_free_text("owner", &owner, MAX_NAME_CHARS) {
        fields.fault(node.line, "owner", fault.problem);
    }
    Some(owner)
}

fn segment_words(fields: &mut TableReader<'_, '_>) -> SegmentWords {
    let words = fields.get("segment_words").and_then(|node| fields.table_of("segment_words", node));
    let Some(mut words) = words else { return SegmentWords::default() };
    let high = optional_text(&mut words, "high", "words such as \"bargain hunters\"");
    let low = optional_text(&mut words, "low", "words such as \"full-price buyers\"");
    words.finish("`segment_words`");
    SegmentWords { high, low }
}

fn optional_text(
    fields: &mut TableReader<'_, '_>,
    key: &'static str,
    such_as: &str,
) -> Option<Box<str>> {
    let node = fields.get(key)?;
    let read = fields.text_of(key, node, such_as)?;
    if let Err(fault) = text::check_free_text(key, &read, MAX_NAME_CHARS) {
        fields.fault(node.line, key, fault.problem);
    }
    Some(read)
}

/// Parses the keys `missing` and `encoding`; `None` without an encoding, or with a fault in it.
fn encoding(fields: &mut TableReader<'_, '_>) -> Option<DraftEncoding> {
    let missing = fields.get("missing");
    let Some(node) = fields.get("encoding") else {
        if let Some(missing) = missing {
            let problem = "has no effect without `encoding`, because no model reads the \
                           feature: leave it out or add an encoding";
            fields.fault(missing.line, "missing", problem);
        }
        return None;
    };
    let mut inner = fields.table_of("encoding", node)?;
    let line = node.line;
    match inner.choice("as", &[("number", ValueType::Number), ("one-hot", ValueType::Text)])? {
        ValueType::Number => {
            let rule =
                missing.map_or(Some(MissingValueRule::Median), |node| missing_rule(fields, node));
            let missing_flag = inner.flag_or("missing_flag", false);
            let winsorise = match inner.get("winsorise") {
                None => Some(None),
                Some(node) => quantiles(&inner, node).map(Some),
            };
            let transform = inner.choice_or("transform", &TRANSFORMS, NumberTransform::Automatic);
            let scale = inner.choice_or("scale", &SCALES, NumberScaling::Standard);
            let weight = weight(&mut inner);
            inner.finish("encoding as a number");
            let encoding = FeatureEncoding::Number {
                missing: rule?,
                missing_flag: missing_flag?,
                winsorise: winsorise?,
                transform: transform?,
                scale: scale?,
                weight: weight?,
            };
            Some(DraftEncoding { line, encoding })
        }
        ValueType::Text => {
            if let Some(missing) = missing {
                let problem = "cannot be combined with `one-hot`, which encodes a missing value as \
                               zeros: leave it out";
                fields.fault(missing.line, "missing", problem);
            }
            let floor = match inner.get("floor") {
                None => Some(DEFAULT_FLOOR),
                Some(node) => {
                    let range = "a share from 0 up to, not including, 1";
                    inner.number_of("floor", node, range, |n| (0.0..1.0).contains(&n))
                }
            };
            let weight = weight(&mut inner);
            inner.finish("one-hot encoding");
            let encoding = FeatureEncoding::OneHot { floor: floor?, weight: weight? };
            Some(DraftEncoding { line, encoding })
        }
    }
}

fn missing_rule(fields: &TableReader<'_, '_>, node: &DocumentNode) -> Option<MissingValueRule> {
    match &node.data {
        NodeData::Text(text) if &**text == "mean" => Some(MissingValueRule::Mean),
        NodeData::Text(text) if &**text == "median" => Some(MissingValueRule::Median),
        NodeData::Number(n) if n.is_finite() => Some(MissingValueRule::Constant(*n)),
        data => {
            let given = match data {
                NodeData::Text(text) => format!("`{text}`"),
                _ => node.noun().to_owned(),
            };
            let problem = format!("must be \"mean\", \"median\" or a number; it is {given}");
            fields.fault(node.line, "missing", problem);
            None
        }
    }
}

fn quantiles(fields: &TableReader<'_, '_>, node: &DocumentNode) -> Option<(f64, f64)> {
    if let NodeData::List(items) = &node.data
        && let [lower, upper] = numbers(items)[..]
        && 0.0 <= lower
        && lower < upper
        && upper <= 1.0
    {
        return Some((lower, upper));
    }
    let problem = "must be two ascending shares from 0 to 1, such as [0.01, 0.99]";
    fields.fault(node.line, "winsorise", problem);
    None
}

fn weight(fields: &mut TableReader<'_, '_>) -> Option<f64> {
    match fields.get("weight") {
        None => Some(1.0),
        Some(node) => {
            let range = format!("a number above 0, at most {MAX_WEIGHT}");
            fields.number_of("weight", node, &range, |n| n > 0.0 && n <= MAX_WEIGHT)
        }
    }
}

/// The finite numbers of a list. Other items are left out, so that the length shows their
/// presence.
fn numbers(items: &[DocumentNode]) -> Vec<f64> {
    let mut finite = Vec::with_capacity(items.len());
    for item in items {
        if let NodeData::Number(number) = item.data
            && number.is_finite()
        {
            finite.push(number);
        }
    }
    finite
}
