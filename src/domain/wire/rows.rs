//! The body of a scoring request, read straight into feature rows.
//!
//! One row: `{"features": {"recency_days": 3, …}}`. Several:
//! `{"rows": [{…}, {…}]}`. A feature left out, or null, is missing.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::domain::feature::{FeatureRow, FeatureSet, Kind, Value};

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    pub rows: Vec<FeatureRow>,
    /// One row came bare under `features`, so one bare score goes back.
    pub single: bool,
    pub explain: bool,
}

/// Reads a request against these features; errors name the feature.
pub fn parse(
    body: &[u8],
    features: &FeatureSet,
    max_rows: usize,
) -> serde_json::Result<ScoreRequest> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let names =
        Names { features, followed_by: (0..features.features().len()).map(Cell::new).collect() };
    let request = RequestSeed { names: &names, max_rows }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(request)
}

/// Finds features by name. Rows of one request mostly name theirs in one order,
/// so what came after a feature last time is tried first.
struct Names<'f> {
    features: &'f FeatureSet,
    /// By feature; the feature itself while nothing has followed it yet.
    followed_by: Box<[Cell<usize>]>,
}

impl Names<'_> {
    fn find(&self, name: &str, before: Option<usize>) -> Option<usize> {
        let Some(followed_by) = before.and_then(|before| self.followed_by.get(before)) else {
            return self.features.index_of(name);
        };
        let guess = followed_by.get();
        if *self.features.features()[guess].name == *name {
            return Some(guess);
        }
        let found = self.features.index_of(name)?;
        followed_by.set(found);
        Some(found)
    }
}

#[derive(Clone, Copy)]
struct RequestSeed<'f> {
    names: &'f Names<'f>,
    max_rows: usize,
}

#[derive(Clone, Copy)]
struct RowSeed<'f>(&'f Names<'f>);

#[derive(Clone, Copy)]
struct RowsSeed<'f>(RequestSeed<'f>);

#[derive(Clone, Copy)]
struct NameSeed<'f> {
    names: &'f Names<'f>,
    /// The feature named before in this row.
    before: Option<usize>,
}

#[derive(Clone, Copy)]
struct ValueOf<'f> {
    name: &'f str,
    is_number: bool,
}

impl<'de> DeserializeSeed<'de> for RequestSeed<'_> {
    type Value = ScoreRequest;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ScoreRequest, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_> {
    type Value = ScoreRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `features` (one row) or `rows` (several)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ScoreRequest, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Features,
            Rows,
            Explain,
        }
        let mut rows = None;
        let mut single = false;
        let mut explain = false;
        while let Some(field) = map.next_key()? {
            if !matches!(field, Field::Explain) && rows.is_some() {
                return Err(A::Error::custom("give either `features` or `rows`, once"));
            }
            match field {
                Field::Features => {
                    rows = Some(vec![map.next_value_seed(RowSeed(self.names))?]);
                    single = true;
                }
                Field::Rows => rows = Some(map.next_value_seed(RowsSeed(self))?),
                Field::Explain => explain = map.next_value()?,
            }
        }
        let rows = rows.ok_or_else(|| A::Error::missing_field("features"))?;
        Ok(ScoreRequest { rows, single, explain })
    }
}

impl<'de> DeserializeSeed<'de> for RowsSeed<'_> {
    type Value = Vec<FeatureRow>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_> {
    type Value = Vec<FeatureRow>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of feature rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = seq.next_element_seed(RowSeed(self.0.names))? {
            if rows.len() == self.0.max_rows {
                let most = self.0.max_rows;
                return Err(A::Error::custom(format!("`rows` holds more than {most} rows")));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = FeatureRow;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FeatureRow, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = FeatureRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of features by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FeatureRow, A::Error> {
        let features = self.0.features;
        let defs = features.features();
        let mut values = vec![Value::Missing; defs.len()];
        let mut before = None;
        while let Some(index) = map.next_key_seed(NameSeed { names: self.0, before })? {
            let def = &defs[index];
            let seed =
                ValueOf { name: &def.name, is_number: features.kind_of(index) == Kind::Number };
            values[index] = map.next_value_seed(seed)?;
            before = Some(index);
        }
        Ok(FeatureRow(values))
    }
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a feature")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        self.names.find(name, self.before).ok_or_else(|| {
            let features = self.names.features.features();
            let known: Vec<&str> = features.iter().map(|def| &*def.name).collect();
            E::custom(format!("unknown feature `{name}`; known are {}", known.join(", ")))
        })
    }
}

impl<'de> DeserializeSeed<'de> for ValueOf<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ValueOf<'_> {
    fn wrong<E: Error>(&self, found: Unexpected<'_>) -> E {
        E::invalid_type(found, self)
    }

    fn number<E: Error>(&self, number: f64) -> Result<Value, E> {
        if !self.is_number {
            return Err(self.wrong(Unexpected::Float(number)));
        }
        if !number.is_finite() {
            return Err(E::custom(format!("feature `{}` must be finite", self.name)));
        }
        Ok(Value::Number(number))
    }
}

impl<'de> Visitor<'de> for ValueOf<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_number { "a number" } else { "a string" };
        write!(f, "{kind} or null for feature `{}`", self.name)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.number(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.number(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.number(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        if self.is_number {
            return Err(self.wrong(Unexpected::Str(text)));
        }
        Ok(Value::Category(text.into()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Err(self.wrong(Unexpected::Bool(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.wrong(Unexpected::Seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(self.wrong(Unexpected::Map))
    }
}
