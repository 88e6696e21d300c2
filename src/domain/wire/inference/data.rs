//! Tensor data: JSON or binary elements, decoded into one feature of the rows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::feature::{FeatureRow, FeatureValue, ValueBounds};
use crate::domain::wire::inference::datatype::{NumericType, TensorDatatype};

/// The feature that elements are decoded into.
#[derive(Debug, Clone, Copy)]
pub(super) struct TargetFeature {
    pub(super) index: usize,
    pub(super) bounds: ValueBounds,
}

/// Destination of the elements: one feature, one element per row, in the order of the rows.
#[derive(Debug)]
pub(super) struct FeatureColumn<'r> {
    rows: &'r mut [FeatureRow],
    feature: TargetFeature,
    /// As written in the request.
    datatype: &'r str,
    read_as: TensorDatatype,
    filled: usize,
    /// The problem of an element that the feature cannot have.
    out_of_bounds: Option<String>,
}

impl<'r> FeatureColumn<'r> {
    pub(super) fn new(
        rows: &'r mut [FeatureRow],
        feature: TargetFeature,
        datatype: &'r str,
        read_as: TensorDatatype,
    ) -> Self {
        Self { rows, feature, datatype, read_as, filled: 0, out_of_bounds: None }
    }

    /// Decodes a JSON array with one element per row; if the tensor `is_nested`, each element
    /// may be an array of one. The error text names the fault.
    pub(super) fn read_json(mut self, json: &RawValue, is_nested: bool) -> Result<(), String> {
        let mut deserializer = serde_json::Deserializer::from_str(json.get());
        let read = ElementsSeed { column: &mut self, is_nested }.deserialize(&mut deserializer);
        if read.is_err() {
            return Err(self.wrong_element());
        }
        self.is_full()
    }

    /// Decodes binary data to its end. The error text names the fault.
    pub(super) fn read_binary(mut self, bytes: &[u8]) -> Result<(), String> {
        match self.read_as {
            TensorDatatype::Number(number) => self.read_numbers(number, bytes)?,
            TensorDatatype::Bytes => self.read_texts(bytes)?,
        }
        self.is_full()
    }

    fn read_numbers(&mut self, number: NumericType, bytes: &[u8]) -> Result<(), String> {
        let rows = self.rows.len();
        if bytes.len() != rows * number.width() {
            return Err(format!(
                "has {} bytes; {rows} elements of {} take {}",
                bytes.len(),
                self.datatype,
                rows * number.width()
            ));
        }
        for element in bytes.chunks_exact(number.width()) {
            let decoded = number.decode(element);
            let value = if decoded.is_nan() {
                FeatureValue::Missing
            } else {
                FeatureValue::Number(decoded)
            };
            if decoded.is_infinite() || self.put(value).is_none() {
                return Err(self.wrong_element());
            }
        }
        Ok(())
    }

    fn read_texts(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let (text, rest) = split_text(bytes).ok_or_else(|| self.wrong_element())?;
            self.put(FeatureValue::Category(text.into())).ok_or_else(|| self.wrong_element())?;
            bytes = rest;
        }
        Ok(())
    }

    /// `None` beyond the last row, and for a number outside the bounds of the feature.
    fn put(&mut self, value: FeatureValue) -> Option<()> {
        let row = self.rows.get_mut(self.filled)?;
        if let FeatureValue::Number(number) = value {
            self.out_of_bounds = self.feature.bounds.problem(number);
            if self.out_of_bounds.is_some() {
                return None;
            }
        }
        row.0[self.feature.index] = value;
        self.filled += 1;
        Some(())
    }

    fn wrong_element(&self) -> String {
        if self.filled == self.rows.len() {
            return format!("has more elements than the {} of its shape", self.filled);
        }
        if let Some(problem) = &self.out_of_bounds {
            return format!("element {} {problem}", self.filled);
        }
        let right = match self.read_as {
            TensorDatatype::Number(NumericType::Bool) => "true or false".to_owned(),
            TensorDatatype::Number(_) => format!("a finite number that {} can hold", self.datatype),
            TensorDatatype::Bytes => "a text in UTF-8".to_owned(),
        };
        format!("element {} must be {right}, or missing", self.filled)
    }

    fn is_full(&self) -> Result<(), String> {
        let (filled, rows) = (self.filled, self.rows.len());
        if filled == rows {
            return Ok(());
        }
        Err(format!("has {filled} elements; its shape says {rows}"))
    }
}

/// The first text of binary data, preceded by its length, and the rest.
fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// The elements of an array. Serde errors here have no text: [`FeatureColumn::wrong_element`]
/// describes the fault, whatever was found.
struct ElementsSeed<'c, 'r> {
    column: &'c mut FeatureColumn<'r>,
    /// Elements may be arrays of one.
    is_nested: bool,
}

struct ElementSeed<'c, 'r>(ElementsSeed<'c, 'r>);

fn refuse<E: Error>() -> E {
    E::custom("")
}

impl ElementsSeed<'_, '_> {
    fn put<E: Error>(&mut self, value: FeatureValue) -> Result<(), E> {
        self.column.put(value).ok_or_else(refuse)
    }
}

impl<'de> DeserializeSeed<'de> for ElementsSeed<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ElementsSeed<'_, '_> {
    /// The number of elements.
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let Self { column, is_nested } = self;
        let mut count = 0;
        while seq.next_element_seed(ElementSeed(ElementsSeed { column, is_nested }))?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element")
    }

    fn visit_bool<E: Error>(mut self, truth: bool) -> Result<(), E> {
        match self.0.column.read_as {
            TensorDatatype::Number(NumericType::Bool) => {
                self.0.put(FeatureValue::Number(f64::from(u8::from(truth))))
            }
            _ => Err(refuse()),
        }
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        let converted = match self.0.column.read_as {
            TensorDatatype::Number(as_type) => as_type.convert(number),
            TensorDatatype::Bytes => None,
        };
        self.0.put(FeatureValue::Number(converted.ok_or_else(refuse)?))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.0.column.read_as {
            TensorDatatype::Bytes => self.0.put(FeatureValue::Category(text.into())),
            TensorDatatype::Number(_) => Err(refuse()),
        }
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.0.put(FeatureValue::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        if !self.0.is_nested {
            return Err(refuse());
        }
        let count = ElementsSeed { is_nested: false, ..self.0 }.visit_seq(seq)?;
        if count == 1 { Ok(()) } else { Err(refuse()) }
    }
}
