//! Elements of an array in an event's properties.
//!
//! Properties are flat, so an array is stored as its length and its elements' fields, by
//! index: `products.length`, `products.0.price`, `products.1.price`. In order of name, the
//! fields of one element are neighbours.

use crate::domain::event::properties::{Properties, PropertyValue};

/// One element of an array: its fields are `get` by the name without the index, such as
/// `products.price`; an element that is a scalar by the name of the array.
#[derive(Debug, Clone, Copy)]
pub struct ArrayElement<'e> {
    array: &'e str,
    /// Bytes of the array's name and the index: `products.0`.
    prefix_bytes: usize,
    fields: &'e [(Box<str>, PropertyValue)],
}

impl<'e> ArrayElement<'e> {
    /// Whether the name, without an index, is a field of the elements of this array.
    pub fn owns(self, name: &str) -> bool {
        tail(self.array, name).is_some_and(|tail| tail.is_empty() || tail.starts_with('.'))
    }

    /// The value of a field that this array [`owns`](Self::owns).
    pub fn get(self, name: &str) -> Option<&'e PropertyValue> {
        let tail = name.get(self.array.len()..)?;
        let at =
            self.fields.binary_search_by(|(own, _)| own[self.prefix_bytes..].cmp(tail)).ok()?;
        Some(&self.fields[at].1)
    }
}

/// The part of `name` behind the name of the array.
fn tail<'n>(array: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(array)
}

/// The name of a property without the index of an array element: `products.price` for
/// `products.0.price`; `None` for a name without an index.
pub fn without_index(name: &str) -> Option<(&str, String)> {
    let mut parts = name.match_indices('.').map(|(at, _)| at).peekable();
    while let Some(start) = parts.next() {
        let end = parts.peek().copied().unwrap_or(name.len());
        let index = &name[start + 1..end];
        if is_index(index) {
            let array = &name[..start];
            return Some((array, format!("{array}{}", &name[end..])));
        }
    }
    None
}

fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

impl Properties {
    /// The elements of an array, in order of name, which is not the order of the array.
    pub fn elements<'e>(&'e self, array: &'e str) -> impl Iterator<Item = ArrayElement<'e>> {
        let all = self.as_slice();
        let begin = all.partition_point(|(name, _)| **name < *array);
        let mut rest = &all[begin..];
        std::iter::from_fn(move || {
            loop {
                let (first, _) = rest.first()?;
                let below = tail(array, first)?;
                let index = below.strip_prefix('.').map(|below| below.split('.').next());
                let Some(Some(index)) = index.filter(|index| index.is_some_and(is_index)) else {
                    rest = &rest[1..];
                    continue;
                };
                let prefix_bytes = array.len() + 1 + index.len();
                let prefix = &first[..prefix_bytes];
                let end = rest.partition_point(|(name, _)| is_below(name, prefix));
                let (fields, behind) = rest.split_at(end);
                rest = behind;
                return Some(ArrayElement { array, prefix_bytes, fields });
            }
        })
    }
}

/// Whether a name, of those from `prefix` on in order, is the prefix or a field below it.
fn is_below(name: &str, prefix: &str) -> bool {
    tail(prefix, name).is_some_and(|tail| tail.is_empty() || tail.starts_with('.'))
}
