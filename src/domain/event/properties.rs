//! Properties of an event: flat, typed, sorted by name.
//!
//! Nested objects are flattened to dotted names (`address.country`). Arrays and
//! nulls are left out: no fold reads them.

use serde::{Deserialize, Serialize, Serializer};

/// One property's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    /// Always finite.
    Number(f64),
    Text(Box<str>),
}

/// Capacity without a property that is not worth a reallocation.
const SPARE_PROPERTIES: usize = 32;

/// Sorted by name, names unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(Vec<(Box<str>, Scalar)>);

/// One object, as flat as it is kept.
impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Properties {
    /// Flattens a JSON object; deeper than `max_depth` objects is refused with
    /// the path of the first offender.
    pub fn from_json(
        object: &serde_json::Map<String, serde_json::Value>,
        max_depth: usize,
    ) -> Result<Self, String> {
        let mut flat = Vec::with_capacity(object.len());
        flatten("", object, max_depth, &mut flat)?;
        Ok(flat.into_iter().collect())
    }

    pub fn get(&self, name: &str) -> Option<&Scalar> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Scalar::Number(n) => Some(*n),
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Scalar)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Adds one, or puts it in the place of the one of that name.
    pub fn set(&mut self, name: &str, value: Scalar) {
        match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name.into(), value)),
        }
    }

    /// Keeps the properties whose name `keep` approves.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
        // An event of thousands of properties, none of them read, would hold their memory
        // while it waits for its commit.
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

/// The last of equal names wins.
impl FromIterator<(Box<str>, Scalar)> for Properties {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Scalar)>>(pairs: I) -> Self {
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
    out: &mut Vec<(Box<str>, Scalar)>,
) -> Result<(), String> {
    if depth_left == 0 {
        return Err(prefix.to_owned());
    }
    for (name, value) in object {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let scalar = match value {
            serde_json::Value::Null | serde_json::Value::Array(_) => continue,
            serde_json::Value::Object(inner) => {
                flatten(&path, inner, depth_left - 1, out)?;
                continue;
            }
            serde_json::Value::Bool(b) => Scalar::Bool(*b),
            // Beyond f64's range serde_json yields no finite number: leave it out.
            serde_json::Value::Number(n) => match n.as_f64() {
                Some(n) if n.is_finite() => Scalar::Number(n),
                _ => continue,
            },
            serde_json::Value::String(s) => Scalar::Text(s.as_str().into()),
        };
        out.push((path.into_boxed_str(), scalar));
    }
    Ok(())
}
