//! Parser of scoring requests, which streams feature rows without an intermediate document.
//!
//! One row: `{"features": {"recency_days": 3, …}}`. Several: `{"rows": [{…}, {…}]}`. An absent
//! or null feature is missing. `customer_id` beside `features` names the customer of the row.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::feature::{FeatureRow, FeatureSet, FeatureValue, ValueBounds, ValueType};
use crate::domain::id::CustomerKey;
use crate::domain::json::{JsonKind, RawJson};
use crate::domain::wire::ids;

/// The parts of a request besides its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreRequestEnvelope {
    pub rows: usize,
    /// One row came under `features`, so the response is one score without a list.
    pub is_single_row: bool,
    /// Known only at the end, because it may follow the rows.
    pub wants_explanation: bool,
    /// The customer of the single row, which decides whether the canary model scores it.
    pub customer: Option<CustomerKey>,
}

/// Callback for a row. The single row under `features` comes last, with the envelope; the
/// rows of a list come as soon as they are parsed.
pub(crate) type RowCallback<'r> =
    dyn FnMut(&FeatureRow, Option<&ScoreRequestEnvelope>) -> serde_json::Result<()> + 'r;

/// Parses a request for this feature set and passes each row to `on_row` as soon as it is
/// parsed. Errors name the feature.
pub fn parse_score_request(
    body: &[u8],
    features: &FeatureSet,
    max_rows: usize,
    on_row: &mut RowCallback<'_>,
) -> serde_json::Result<ScoreRequestEnvelope> {
    let mut reader = RowReader::new(features, max_rows, on_row);
    // Validating the text once is cheaper than validating every string in it.
    match std::str::from_utf8(body) {
        Ok(text) => reader.read(&mut serde_json::Deserializer::from_str(text)),
        Err(_) => reader.read(&mut serde_json::Deserializer::from_slice(body)),
    }
}

/// The path of the field that makes a request invalid, such as `rows[3].recency_days`. The
/// request is parsed a second time, so that valid requests do not pay for the path.
pub fn invalid_field(body: &[u8], features: &FeatureSet, max_rows: usize) -> String {
    let mut on_row = |_: &FeatureRow, _: Option<&ScoreRequestEnvelope>| Ok(());
    let mut reader = RowReader::new(features, max_rows, &mut on_row);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    match RequestSeed(&mut reader).deserialize(tracked) {
        Ok(_) => String::new(),
        Err(_) => track.path().to_string(),
    }
}

struct RowReader<'r> {
    features: &'r FeatureSet,
    /// Prediction of the next feature name, by feature. The rows of a request mostly name their
    /// features in one order, so the successor in the previous row is tried first. Initially
    /// each feature predicts itself.
    followed_by: Box<[usize]>,
    row: FeatureRow,
    /// The features present in `row`; all others are missing.
    named: Vec<usize>,
    rows: usize,
    max_rows: usize,
    on_row: &'r mut RowCallback<'r>,
}

impl<'r> RowReader<'r> {
    fn new(features: &'r FeatureSet, max_rows: usize, on_row: &'r mut RowCallback<'r>) -> Self {
        Self {
            features,
            followed_by: (0..features.features().len()).collect(),
            row: FeatureRow(vec![FeatureValue::Missing; features.features().len()]),
            named: Vec::new(),
            rows: 0,
            max_rows,
            on_row,
        }
    }

    fn read<'de, R: serde_json::de::Read<'de>>(
        &mut self,
        deserializer: &mut serde_json::Deserializer<R>,
    ) -> serde_json::Result<ScoreRequestEnvelope> {
        let asked = RequestSeed(self).deserialize(&mut *deserializer)?;
        deserializer.end()?;
        Ok(asked)
    }

    fn find(&mut self, name: &str) -> Option<usize> {
        let before = self.named.last();
        let followed_by = before.and_then(|before| self.followed_by.get_mut(*before));
        let Some(followed_by) = followed_by else { return self.features.index_of(name) };
        if *self.features.features()[*followed_by].name != *name {
            *followed_by = self.features.index_of(name)?;
        }
        Some(*followed_by)
    }
}

struct RequestSeed<'a, 'r>(&'a mut RowReader<'r>);

struct FeatureRowsSeed<'a, 'r>(&'a mut RowReader<'r>);

struct FeatureRowSeed<'a, 'r> {
    reader: &'a mut RowReader<'r>,
    bare: bool,
}

struct FeatureNameSeed<'a, 'r>(&'a mut RowReader<'r>);

#[derive(Clone, Copy)]
struct FeatureValueSeed<'f> {
    name: &'f str,
    is_number: bool,
    bounds: ValueBounds,
}

impl<'de> DeserializeSeed<'de> for RequestSeed<'_, '_> {
    type Value = ScoreRequestEnvelope;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ScoreRequestEnvelope, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_, '_> {
    type Value = ScoreRequestEnvelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `features` (one row) or `rows` (several)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ScoreRequestEnvelope, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Features,
            Rows,
            Explain,
            CustomerId,
        }
        let mut single = None;
        let mut explain = false;
        let mut customer = None;
        while let Some(field) = map.next_key()? {
            if matches!(field, Field::Features | Field::Rows) && single.is_some() {
                return Err(A::Error::custom("give either `features` or `rows`, once"));
            }
            match field {
                Field::Features => {
                    map.next_value_seed(FeatureRowSeed { reader: self.0, bare: true })?;
                    single = Some(true);
                }
                Field::Rows => {
                    map.next_value_seed(FeatureRowsSeed(self.0))?;
                    single = Some(false);
                }
                Field::Explain => explain = map.next_value()?,
                Field::CustomerId => customer = map.next_value::<RowCustomer>()?.0,
            }
        }
        let single = single.ok_or_else(|| A::Error::missing_field("features"))?;
        if customer.is_some() && !single {
            return Err(A::Error::custom(
                "`customer_id` is accepted with `features`, not with `rows`",
            ));
        }
        let envelope = ScoreRequestEnvelope {
            rows: self.0.rows,
            is_single_row: single,
            wants_explanation: explain,
            customer,
        };
        if single {
            (self.0.on_row)(&self.0.row, Some(&envelope)).map_err(A::Error::custom)?;
        }
        Ok(envelope)
    }
}

/// The customer id of a request: a text, or an integer of any size.
struct RowCustomer(Option<CustomerKey>);

impl<'de> Deserialize<'de> for RowCustomer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(id) = Option::<&RawValue>::deserialize(deserializer)? else {
            return Ok(Self(None));
        };
        let json = RawJson::parse(id.get().as_bytes()).map_err(D::Error::custom)?;
        if json.kind() == JsonKind::Bool {
            return Err(D::Error::custom("must be a text or an integer; it is a boolean"));
        }
        let text = ids::id_text(json).map_err(D::Error::custom)?;
        let id = text.map(|text| text.parse::<CustomerKey>()).transpose();
        id.map(Self).map_err(D::Error::custom)
    }
}

impl<'de> DeserializeSeed<'de> for FeatureRowsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FeatureRowsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of feature rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(FeatureRowSeed { reader: self.0, bare: false })?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FeatureRowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FeatureRowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of features by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reader = self.reader;
        if reader.rows == reader.max_rows {
            let most = reader.max_rows;
            return Err(A::Error::custom(format!("`rows` holds more than {most} rows")));
        }
        for index in reader.named.drain(..) {
            reader.row.0[index] = FeatureValue::Missing;
        }
        while let Some(index) = map.next_key_seed(FeatureNameSeed(reader))? {
            let name = &reader.features.features()[index].name;
            let is_number = reader.features.value_type_at(index) == ValueType::Number;
            let bounds = reader.features.bounds_at(index);
            reader.row.0[index] =
                map.next_value_seed(FeatureValueSeed { name, is_number, bounds })?;
            reader.named.push(index);
        }
        reader.rows += 1;
        if self.bare {
            return Ok(());
        }
        (reader.on_row)(&reader.row, None).map_err(A::Error::custom)
    }
}

impl<'de> DeserializeSeed<'de> for FeatureNameSeed<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FeatureNameSeed<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a feature")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let features = self.0.features.features();
        self.0.find(name).ok_or_else(|| {
            let known: Vec<&str> = features.iter().map(|def| &*def.name).collect();
            E::custom(format!("unknown feature `{name}`; known are {}", known.join(", ")))
        })
    }
}

impl<'de> DeserializeSeed<'de> for FeatureValueSeed<'_> {
    type Value = FeatureValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FeatureValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl FeatureValueSeed<'_> {
    fn wrong<E: Error>(&self, found: Unexpected<'_>) -> E {
        E::invalid_type(found, self)
    }

    fn number<E: Error>(&self, number: f64) -> Result<FeatureValue, E> {
        if !self.is_number {
            return Err(self.wrong(Unexpected::Float(number)));
        }
        if !number.is_finite() {
            return Err(E::custom(format!("feature `{}` must be finite", self.name)));
        }
        if let Some(problem) = self.bounds.problem(number) {
            return Err(E::custom(problem));
        }
        Ok(FeatureValue::Number(number))
    }
}

impl<'de> Visitor<'de> for FeatureValueSeed<'_> {
    type Value = FeatureValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_number { "a number" } else { "a string" };
        write!(f, "{kind} or null for feature `{}`", self.name)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<FeatureValue, E> {
        self.number(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<FeatureValue, E> {
        self.number(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<FeatureValue, E> {
        self.number(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FeatureValue, E> {
        if self.is_number {
            return Err(self.wrong(Unexpected::Str(text)));
        }
        Ok(FeatureValue::Category(text.into()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<FeatureValue, E> {
        Err(self.wrong(Unexpected::Bool(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<FeatureValue, A::Error> {
        Err(self.wrong(Unexpected::Seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FeatureValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(self.wrong(Unexpected::Map))
    }
}
