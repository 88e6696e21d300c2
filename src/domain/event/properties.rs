//! Event properties: flat, typed, sorted by name.
//!
//! Nested objects are flattened to dotted names (`address.country`), and arrays to their length
//! and their elements by index (`products.length`, `products.0.price`). Nulls are left out.

use serde::{Deserialize, Serialize, Serializer};

/// One property's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PropertyValue {
    Bool(bool),
    /// Always finite.
    Number(f64),
    Text(Box<str>),
}

/// Upper bound of the elements that are read of one array, so that one event has a bounded
/// size.
pub const MAX_ELEMENTS: usize = 250;
/// Name of the number of elements of an array, below the array's own name.
const LENGTH: &str = "length";

/// Unused capacity below which shrinking is not worth a reallocation.
const SPARE_PROPERTIES: usize = 32;

/// The properties of one event, sorted by name; names are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(Vec<(Box<str>, PropertyValue)>);

/// Serialises as one flat object.
impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Properties {
    /// Flattens a JSON object. An object nested deeper than `max_depth` is refused, with its
    /// path as the error.
    pub(crate) fn from_json(
        object: &serde_json::Map<String, serde_json::Value>,
        max_depth: usize,
    ) -> Result<Self, String> {
        let mut flat = Vec::with_capacity(object.len());
        flatten("", object, max_depth, &mut flat)?;
        Ok(flat.into_iter().collect())
    }

    /// Names and values in order of name.
    pub(super) fn as_slice(&self) -> &[(Box<str>, PropertyValue)] {
        &self.0
    }

    pub fn get(&self, name: &str) -> Option<&PropertyValue> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            PropertyValue::Number(n) => Some(*n),
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &PropertyValue)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Sets a property, replacing an earlier value of the same name.
    pub fn set(&mut self, name: &str, value: PropertyValue) {
        match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name.into(), value)),
        }
    }

    /// Removes the properties for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
        // Otherwise an event with thousands of properties that no feature reads would occupy
        // their memory until its commit.
        if self.0.capacity() > SPARE_PROPERTIES + 2 * self.0.len() {
            self.0.shrink_to_fit();
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of equal names, the last one wins.
impl FromIterator<(Box<str>, PropertyValue)> for Properties {
    fn from_iter<I: IntoIterator<Item = (Box<str>, PropertyValue)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.reverse();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        Self(pairs)
    }
}

fn flatten(
    prefix: &str,
    object: &serde_json::Map<String, serde_json::Value>,
    depth_left: usize,
    out: &mut Vec<(Box<str>, PropertyValue)>,
) -> Result<(), String> {
    if depth_left == 0 {
        return Err(prefix.to_owned());
    }
    for (name, value) in object {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let scalar = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::Array(items) => {
                flatten_array(&path, items, depth_left, out)?;
                continue;
            }
            serde_json::Value::Object(inner) => {
                flatten(&path, inner, depth_left - 1, out)?;
                continue;
            }
            serde_json::Value::Bool(b) => PropertyValue::Bool(*b),
            // serde_json yields no finite number beyond the range of f64: leave it out.
            serde_json::Value::Number(n) => match n.as_f64() {
                Some(n) if n.is_finite() => PropertyValue::Number(n),
                _ => continue,
            },
            serde_json::Value::String(s) => PropertyValue::Text(s.as_str().into()),
        };
        out.push((path.into_boxed_str(), scalar));
    }
    Ok(())
}

/// Flattens the length and the first elements of an array. Arrays in elements are left out.
fn flatten_array(
    path: &str,
    items: &[serde_json::Value],
    depth_left: usize,
    out: &mut Vec<(Box<str>, PropertyValue)>,
) -> Result<(), String> {
    out.push((format!("{path}.{LENGTH}").into(), PropertyValue::Number(items.len() as f64)));
    for (index, item) in items.iter().take(MAX_ELEMENTS).enumerate() {
        let path = format!("{path}.{index}");
        match item {
            serde_json::Value::Object(fields) => flatten(&path, fields, depth_left - 1, out)?,
            serde_json::Value::Array(_) => {}
            scalar => {
                let scalar = serde_json::Map::from_iter([(path, scalar.clone())]);
                flatten("", &scalar, depth_left, out)?;
            }
        }
    }
    Ok(())
}
