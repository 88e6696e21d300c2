//! Splitter of JSON arrays of events: one element that is not JSON costs no other.
//!
//! Valid elements are found by the grammar, so a valid array is never split in another way. From
//! the start of an element that is not valid JSON, the splitter scans bytes, with strings (by
//! their double quotes and escapes) and brackets, for the next boundary:
//!
//! 1. a comma outside of strings and brackets;
//! 2. a comma before an object that is shaped like an event, at a place where no element of a
//!    nested array can be: inside of what looks like a string (a quote is unbalanced), or
//!    directly inside of an object (a closing bracket is missing). An object is shaped like an
//!    event if it is valid JSON with a `type` of the tracking spec and a customer id;
//! 3. the `]` after which only the end of the body follows.
//!
//! If the scan finds no such boundary, it takes the first event-shaped object after a comma
//! inside of a nested array, or else the rest of the array. The scanned bytes up to the boundary
//! are one broken element. Elements of nothing but blanks (a comma too many) are passed over.
//!
//! A body with many unbalanced quotes could make scans overlap. Their total is bounded by a
//! multiple of the body's size; beyond it, the rest of the array is one broken element.

use crate::domain::event::EventKind;
use crate::domain::json::scan::{OpenBrackets, skip_blanks, string_end, value_end};
use crate::domain::json::{JsonSyntaxError, RawJson};

/// Error of an array that cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElementsError {
    /// The array has more elements than this limit.
    #[error("has more than {0} elements")]
    TooMany(usize),
    #[error("{0}")]
    Syntax(JsonSyntaxError),
}

impl From<JsonSyntaxError> for ElementsError {
    fn from(error: JsonSyntaxError) -> Self {
        Self::Syntax(error)
    }
}

/// The text of one event, without blanks around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonElement<'b> {
    Valid(RawJson<'b>),
    /// Not valid JSON; the offset of the error is that in `bytes`.
    Broken {
        bytes: &'b [u8],
        error: JsonSyntaxError,
    },
}

impl<'b> JsonElement<'b> {
    /// The element as received.
    pub fn bytes(&self) -> &'b [u8] {
        match self {
            Self::Valid(json) => json.as_str().as_bytes(),
            Self::Broken { bytes, .. } => bytes,
        }
    }

    /// Parses a text of its own, such as a line.
    pub fn parse(bytes: &'b [u8]) -> Self {
        match RawJson::parse(bytes) {
            Ok(json) => Self::Valid(json),
            Err(error) => Self::Broken { bytes, error },
        }
    }

    /// An element that is valid JSON if it is UTF-8.
    fn of_valid(bytes: &'b [u8]) -> Self {
        match RawJson::of_validated(bytes) {
            Ok(json) => Self::Valid(json),
            Err(error) => Self::Broken { bytes, error },
        }
    }

    /// An element that ends elsewhere than its JSON; `None` for an empty one.
    fn of_broken(bytes: &'b [u8]) -> Option<Self> {
        let error = RawJson::parse(bytes).err();
        let error = error.unwrap_or_else(|| JsonSyntaxError::early_end(bytes));
        (!bytes.is_empty()).then_some(Self::Broken { bytes, error })
    }
}

/// What follows the array in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayPosition {
    /// The array is the body.
    WholeBody,
    /// The array is a member of the object that is the body.
    ObjectMember,
}

/// Bytes that all scans together may read, as a multiple of the body.
const MAX_SCANS: usize = 8;
/// Ends of the array that are tried if no boundary was found.
const MAX_TRIED_ENDS: usize = 16;

/// Elements of an array, and the offset after its `]`.
#[derive(Debug, PartialEq, Eq)]
pub struct SplitArray<'b> {
    pub elements: Vec<JsonElement<'b>>,
    pub end: usize,
}

/// Splits the array that begins at `start` with its `[` into at most `max` elements.
pub fn split_array(
    body: &[u8],
    start: usize,
    position: ArrayPosition,
    max: usize,
) -> Result<SplitArray<'_>, ElementsError> {
    let budget = body.len().saturating_mul(MAX_SCANS);
    let mut splitter = ArraySplitter { body, position, budget };
    let mut elements = Vec::new();
    let mut at = start + 1;
    loop {
        let first = skip_blanks(body, at);
        if body.get(first) == Some(&b']') && splitter.is_end(first) {
            return Ok(SplitArray { elements, end: first + 1 });
        }
        let valid_end =
            value_end(body, first).ok().filter(|end| splitter.is_boundary(skip_blanks(body, *end)));
        let boundary = match valid_end {
            Some(end) => skip_blanks(body, end),
            None => {
                splitter.next_boundary(first).ok_or_else(|| JsonSyntaxError::early_end(body))?
            }
        };
        let element = match valid_end {
            Some(end) => Some(JsonElement::of_valid(&body[first..end])),
            None => JsonElement::of_broken(body[first..boundary].trim_ascii()),
        };
        if element.is_some() && elements.len() == max {
            return Err(ElementsError::TooMany(max));
        }
        elements.extend(element);
        if body[boundary] == b']' {
            return Ok(SplitArray { elements, end: boundary + 1 });
        }
        at = boundary + 1;
    }
}

struct ArraySplitter<'b> {
    body: &'b [u8],
    position: ArrayPosition,
    /// Bytes that scans may still read.
    budget: usize,
}

impl ArraySplitter<'_> {
    /// Whether the byte after a valid element ends it.
    fn is_boundary(&mut self, at: usize) -> bool {
        match self.body.get(at) {
            Some(b',') => true,
            Some(b']') => self.is_end(at),
            _ => false,
        }
    }

    /// Whether the `]` at this offset can end the array: after it, the body ends properly.
    fn is_end(&mut self, at: usize) -> bool {
        let body = self.body;
        let mut at = skip_blanks(body, at + 1);
        if self.position == ArrayPosition::WholeBody {
            return at == body.len();
        }
        let started = at;
        while body.get(at) == Some(&b',') {
            let name = skip_blanks(body, at + 1);
            let member = (body.get(name) == Some(&b'"'))
                .then(|| string_end(body, name).ok())
                .flatten()
                .map(|end| skip_blanks(body, end))
                .filter(|colon| body.get(*colon) == Some(&b':'))
                .and_then(|colon| value_end(body, colon + 1).ok());
            self.spend(member.unwrap_or(name).saturating_sub(at));
            let Some(end) = member else { return false };
            at = skip_blanks(body, end);
        }
        self.spend(at - started);
        body.get(at) == Some(&b'}') && skip_blanks(body, at + 1) == body.len()
    }

    /// The offset of the comma or the `]` that ends the broken element at `start`; `None` if the
    /// array has no end.
    fn next_boundary(&mut self, start: usize) -> Option<usize> {
        let body = self.body;
        let mut open = OpenBrackets::default();
        let mut is_in_string = false;
        let mut nested = None;
        let mut at = start;
        while at < body.len() {
            if self.budget == 0 {
                return self.last_end(start);
            }
            self.spend(1);
            let (byte, top) = (body[at], open.top());
            // No element of a nested array can begin here.
            let is_misplaced = is_in_string || top == Some(true);
            let is_boundary = match byte {
                b',' if is_misplaced => self.is_event_after(at),
                b',' => top.is_none(),
                b']' => (is_misplaced || top.is_none()) && self.is_end(at),
                _ => false,
            };
            if is_boundary {
                return Some(at);
            }
            match byte {
                b'\\' if is_in_string => at += 1,
                b'"' => is_in_string = !is_in_string,
                _ if is_in_string => {}
                b',' if top == Some(false) && nested.is_none() && self.is_event_after(at) => {
                    nested = Some(at);
                }
                b'{' => open.push(true),
                b'[' => open.push(false),
                b'}' if top == Some(true) => open.pop(),
                b']' if top == Some(false) => open.pop(),
                _ => {}
            }
            at += 1;
        }
        nested.or_else(|| self.last_end(start))
    }

    /// Whether the comma at this offset is followed by an object that is shaped like an event.
    fn is_event_after(&mut self, comma: usize) -> bool {
        let start = skip_blanks(self.body, comma + 1);
        if self.body.get(start) != Some(&b'{') {
            return false;
        }
        let end = value_end(self.body, start);
        let read = end.unwrap_or_else(|error| error.at);
        self.spend(read - start);
        let Ok(end) = end else { return false };
        matches!(self.body.get(skip_blanks(self.body, end)), Some(b',' | b']'))
            && RawJson::parse(&self.body[start..end]).is_ok_and(is_shaped_like_an_event)
    }

    /// The last `]` that can end the array.
    fn last_end(&mut self, start: usize) -> Option<usize> {
        let mut until = self.body.len();
        for _ in 0..MAX_TRIED_ENDS {
            until = start + memchr::memrchr(b']', &self.body[start..until])?;
            if self.is_end(until) {
                return Some(until);
            }
        }
        None
    }

    fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }
}

/// Names of the fields with a customer id, in both formats.
const ID_FIELDS: [&str; 4] = ["customer_id", "anonymous_id", "userId", "anonymousId"];

fn is_shaped_like_an_event(object: RawJson<'_>) -> bool {
    let (mut has_type, mut has_id) = (false, false);
    for member in object.members().into_iter().flatten() {
        if member.name == "type" {
            has_type = member.value.text().is_some_and(|kind| EventKind::parse(&kind).is_some());
        }
        has_id |= ID_FIELDS.contains(&&*member.name);
    }
    has_type && has_id
}
