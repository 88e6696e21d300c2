//! JSON arrays with a limit on the number of elements, enforced while parsing.
//!
//! Two bytes of JSON can make an element of a `Vec` of many times that size. So parsing stops
//! at the first element beyond the limit, before it is allocated.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

/// Error of a bounded array.
#[derive(Debug, thiserror::Error)]
pub enum BoundedArrayError {
    /// The array has more elements than this limit.
    #[error("has more than {0} elements")]
    TooMany(usize),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Parses the elements of a JSON array, at most `max`.
pub fn parse_elements<'de, T: Deserialize<'de>>(
    json: &'de [u8],
    max: usize,
) -> Result<Vec<T>, BoundedArrayError> {
    let mut is_too_long = false;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let array = BoundedArray { max, is_too_long: &mut is_too_long, element: PhantomData };
    let read = deserializer.deserialize_seq(array).and_then(|elements| {
        deserializer.end()?;
        Ok(elements)
    });
    read.map_err(|error| if is_too_long { BoundedArrayError::TooMany(max) } else { error.into() })
}

struct BoundedArray<'f, T> {
    max: usize,
    is_too_long: &'f mut bool,
    element: PhantomData<fn() -> T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedArray<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<T>, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.max {
            let Some(element) = array.next_element()? else { return Ok(elements) };
            elements.push(element);
        }
        if array.next_element::<IgnoredAny>()?.is_some() {
            *self.is_too_long = true;
            return Err(A::Error::custom("too many elements"));
        }
        Ok(elements)
    }
}
