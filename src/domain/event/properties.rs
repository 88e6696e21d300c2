//! Event properties: flat, typed, sorted by name.
//!
//! Nested objects are flattened to dotted names (`address.country`), and arrays to their length
//! and their elements by index (`products.length`, `products.0.price`). Values that are no
//! scalars are recorded, so that validation can warn if a feature reads one.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::domain::json::{JsonKind, RawJson, decimal};

/// One property's value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PropertyValue {
    /// An explicit null, which removes a trait.
    Null,
    Bool(bool),
    /// An integer beyond ±2⁵³, where a double has no place for every last digit. Smaller
    /// integers are [`PropertyValue::Number`], so that each number has one form.
    Integer(i128),
    /// Always finite.
    Number(f64),
    Text(Box<str>),
}

/// Upper bound of the elements that are read of one array, so that one event has a bounded
/// size. Orders of wholesalers have hundreds of lines.
pub const MAX_ELEMENTS: usize = 1000;
/// Name of the number of elements of an array, below the array's own name.
const LENGTH: &str = "length";
/// Greatest integer up to which a double represents every integer.
const MAX_EXACT_DOUBLE: i128 = 1 << 53;
/// Every integer with this number of digits fits into 128 bits. Longer ones become the nearest
/// double.
const MAX_INTEGER_DIGITS: usize = 38;
/// Decimal numbers up to this length, without an exponent, are no integers beyond 2⁵³.
const SHORT_NUMBER_BYTES: usize = 15;

impl PropertyValue {
    /// Parses a decimal number; `None` for another text, and beyond the range of a double.
    pub fn from_decimal(text: &str) -> Option<Self> {
        if text.len() > SHORT_NUMBER_BYTES || text.contains(['e', 'E']) {
            let digits = decimal::integer_digits(text, MAX_INTEGER_DIGITS);
            let integer = digits.and_then(|digits| digits.parse::<i128>().ok());
            if let Some(integer) = integer.filter(|n| n.unsigned_abs() > MAX_EXACT_DOUBLE as u128) {
                return Some(Self::Integer(integer));
            }
        }
        decimal::nearest_double(text).map(Self::Number)
    }

    /// The number, or the nearest double of a large integer; `None` for another type.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Integer(integer) => Some(*integer as f64),
            Self::Null | Self::Bool(_) | Self::Text(_) => None,
        }
    }
}

/// Reason why a value of an event cannot be a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableValue {
    Array,
    Object,
    /// A number beyond the range of a double.
    TooLarge,
    /// A text with an unpaired surrogate.
    UnpairedSurrogate,
}

impl UnreadableValue {
    /// Noun with article, for fault texts.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Array => "an array",
            Self::Object => "an object",
            Self::TooLarge => "a number beyond the range of a double, about ±1.8e308",
            Self::UnpairedSurrogate => "a text with an unpaired surrogate, which is no character",
        }
    }
}

/// A value that was left out, and the name under which a feature would read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableProperty {
    pub name: Box<str>,
    pub value: UnreadableValue,
}

/// Unused capacity below which shrinking is not worth a reallocation.
const SPARE_PROPERTIES: usize = 32;

/// Up to this number a search from the first name on is faster than a binary search: most names
/// differ in length already.
const FEW_PROPERTIES: usize = 16;

/// The properties of one event, sorted by name; names are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    values: Vec<(Box<str>, PropertyValue)>,
    /// Values that are no scalars, until the event is validated.
    unreadable: Vec<UnreadableProperty>,
}

/// Serialises as one flat object.
impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Properties {
    /// Flattens a JSON object; a value of another type has no properties. Objects nested deeper
    /// than `max_depth` are left out.
    pub(crate) fn from_json(object: RawJson<'_>, max_depth: usize) -> Self {
        let mut flat = FlatProperties::default();
        flat.add("", object, max_depth);
        let unreadable = flat.unreadable;
        Self { unreadable, ..flat.values.into_iter().collect() }
    }

    /// Names and values in order of name.
    pub(super) fn as_slice(&self) -> &[(Box<str>, PropertyValue)] {
        &self.values
    }

    pub fn get(&self, name: &str) -> Option<&PropertyValue> {
        if self.values.len() <= FEW_PROPERTIES {
            return self.values.iter().find(|(n, _)| **n == *name).map(|(_, value)| value);
        }
        let at = self.values.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.values[at].1)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_number()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &PropertyValue)> {
        self.values.iter().map(|(name, value)| (&**name, value))
    }

    /// Sets a property, replacing an earlier value of the same name.
    pub fn set(&mut self, name: &str, value: PropertyValue) {
        match self.values.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => self.values[at].1 = value,
            Err(at) => self.values.insert(at, (name.into(), value)),
        }
    }

    /// Replaces each value with the result of `convert`, and removes it for `None`.
    pub(crate) fn convert(
        &mut self,
        mut convert: impl FnMut(&str, PropertyValue) -> Option<PropertyValue>,
    ) {
        self.values.retain_mut(|(name, value)| {
            let converted = convert(name, std::mem::replace(value, PropertyValue::Null));
            let is_kept = converted.is_some();
            *value = converted.unwrap_or(PropertyValue::Null);
            is_kept
        });
        self.shrink();
    }

    /// Removes the properties for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.values.retain(|(name, _)| keep(name));
        self.unreadable.retain(|property| keep(&property.name));
        self.shrink();
    }

    /// Takes the values that were left out.
    pub(crate) fn take_unreadable(&mut self) -> Vec<UnreadableProperty> {
        std::mem::take(&mut self.unreadable)
    }

    /// Releases unused capacity. Otherwise an event with thousands of properties that no feature
    /// reads would occupy their memory until its commit.
    fn shrink(&mut self) {
        if self.values.capacity() > SPARE_PROPERTIES + 2 * self.values.len() {
            self.values.shrink_to_fit();
        }
        if self.unreadable.capacity() > SPARE_PROPERTIES + 2 * self.unreadable.len() {
            self.unreadable.shrink_to_fit();
        }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Of equal names, the last one wins.
impl FromIterator<(Box<str>, PropertyValue)> for Properties {
    fn from_iter<I: IntoIterator<Item = (Box<str>, PropertyValue)>>(pairs: I) -> Self {
        let mut values: Vec<_> = pairs.into_iter().collect();
        values.reverse();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values.dedup_by(|later, first| later.0 == first.0);
        Self { values, unreadable: Vec::new() }
    }
}

/// Properties in the order of the text.
#[derive(Default)]
struct FlatProperties {
    values: Vec<(Box<str>, PropertyValue)>,
    unreadable: Vec<UnreadableProperty>,
}

impl FlatProperties {
    fn add(&mut self, prefix: &str, object: RawJson<'_>, depth_left: usize) {
        let Some(members) = object.members().filter(|_| depth_left > 0) else { return };
        for member in members {
            let name = if prefix.is_empty() {
                member.name
            } else {
                format!("{prefix}.{}", member.name).into()
            };
            self.add_value(name, member.value, depth_left);
        }
    }

    fn add_value(&mut self, name: Cow<'_, str>, value: RawJson<'_>, depth_left: usize) {
        match value.kind() {
            JsonKind::Object => self.add(&name, value, depth_left - 1),
            JsonKind::Array => self.add_elements(&name, value, depth_left),
            _ => {}
        }
        match scalar(value) {
            Ok(value) => self.values.push((name.into(), value)),
            Err(value) => {
                self.unreadable.push(UnreadableProperty { name: name.into(), value });
            }
        }
    }

    /// Adds the length and the first elements of an array. Arrays in elements are left out.
    fn add_elements(&mut self, array: &str, value: RawJson<'_>, depth_left: usize) {
        let Some(elements) = value.elements() else { return };
        let mut length = 0_u32;
        for (index, element) in elements.enumerate() {
            length += 1;
            if index < MAX_ELEMENTS && element.kind() != JsonKind::Array {
                self.add_value(format!("{array}.{index}").into(), element, depth_left);
            }
        }
        let length = PropertyValue::Number(f64::from(length));
        self.values.push((format!("{array}.{LENGTH}").into(), length));
    }
}

fn scalar(value: RawJson<'_>) -> Result<PropertyValue, UnreadableValue> {
    Ok(match value.kind() {
        JsonKind::Null => PropertyValue::Null,
        JsonKind::Bool => PropertyValue::Bool(value.as_str() == "true"),
        JsonKind::Number => {
            PropertyValue::from_decimal(value.as_str()).ok_or(UnreadableValue::TooLarge)?
        }
        JsonKind::Text => {
            let text = value.text().ok_or(UnreadableValue::UnpairedSurrogate)?;
            PropertyValue::Text(text.into())
        }
        JsonKind::Array => return Err(UnreadableValue::Array),
        JsonKind::Object => return Err(UnreadableValue::Object),
    })
}
