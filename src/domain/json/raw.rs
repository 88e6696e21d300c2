//! Valid JSON as text, parsed level by level on demand.

use std::borrow::Cow;

use crate::domain::json::scan::{JsonSyntaxError, skip_blanks, string_end, value_end};

/// The text of one valid JSON value, without blanks around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawJson<'j>(&'j str);

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonKind {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

impl JsonKind {
    /// Noun with article, for fault texts.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// One member of an object.
#[derive(Debug, Clone)]
pub struct JsonMember<'j> {
    /// The name; unpaired surrogates are replaced.
    pub name: Cow<'j, str>,
    pub value: RawJson<'j>,
}

impl<'j> RawJson<'j> {
    pub(crate) const FALSE: Self = Self("false");

    /// Validates a text that is one JSON value.
    pub fn parse(bytes: &'j [u8]) -> Result<Self, JsonSyntaxError> {
        let text = utf8(bytes)?;
        let start = skip_blanks(bytes, 0);
        let end = value_end(bytes, start)?;
        let rest = skip_blanks(bytes, end);
        if rest < bytes.len() {
            let problem = "the text continues after its JSON is complete";
            return Err(JsonSyntaxError { at: rest, problem });
        }
        Ok(Self(&text[start..end]))
    }

    /// A text that was found to be one value without blanks around it. Checks its encoding only.
    pub(crate) fn of_validated(bytes: &'j [u8]) -> Result<Self, JsonSyntaxError> {
        utf8(bytes).map(Self)
    }

    /// A part of a text that was found to be one value.
    fn of(text: &'j str, start: usize, end: usize) -> Self {
        Self(text.get(start..end).unwrap_or("null"))
    }

    pub const fn as_str(self) -> &'j str {
        self.0
    }

    pub fn kind(self) -> JsonKind {
        match self.0.as_bytes().first() {
            Some(b'{') => JsonKind::Object,
            Some(b'[') => JsonKind::Array,
            Some(b'"') => JsonKind::Text,
            Some(b't' | b'f') => JsonKind::Bool,
            Some(b'-' | b'0'..=b'9') => JsonKind::Number,
            _ => JsonKind::Null,
        }
    }

    pub fn is_null(self) -> bool {
        self.kind() == JsonKind::Null
    }

    /// Whether the value is `[]`: PHP writes an empty map as an empty list.
    pub fn is_empty_array(self) -> bool {
        self.elements().is_some_and(|mut elements| elements.next().is_none())
    }

    /// The characters of a string; `None` for another type, and for a string with an unpaired
    /// surrogate, which no UTF-8 text can hold.
    pub fn text(self) -> Option<Cow<'j, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(inner.into());
        }
        unescape(inner, None).map(Cow::Owned)
    }

    /// The members of an object, in the order of the text; `None` for another type.
    pub fn members(self) -> Option<impl Iterator<Item = JsonMember<'j>>> {
        let mut at = (self.kind() == JsonKind::Object).then_some(1)?;
        Some(std::iter::from_fn(move || self.next_member(&mut at)))
    }

    /// The elements of an array; `None` for another type.
    pub fn elements(self) -> Option<impl Iterator<Item = RawJson<'j>>> {
        let mut at = (self.kind() == JsonKind::Array).then_some(1)?;
        Some(std::iter::from_fn(move || self.next_element(&mut at)))
    }

    fn next_member(self, at: &mut usize) -> Option<JsonMember<'j>> {
        let bytes = self.0.as_bytes();
        let name = skip_blanks(bytes, *at);
        if bytes.get(name) != Some(&b'"') {
            return None;
        }
        let name_end = string_end(bytes, name).ok()?;
        let start = skip_blanks(bytes, skip_blanks(bytes, name_end) + 1);
        let end = value_end(bytes, start).ok()?;
        *at = skip_blanks(bytes, end) + 1;
        let name = &self.0[name + 1..name_end - 1];
        let name = if name.contains('\\') {
            unescape(name, Some(char::REPLACEMENT_CHARACTER)).unwrap_or_default().into()
        } else {
            name.into()
        };
        Some(JsonMember { name, value: Self::of(self.0, start, end) })
    }

    fn next_element(self, at: &mut usize) -> Option<RawJson<'j>> {
        let bytes = self.0.as_bytes();
        let start = skip_blanks(bytes, *at);
        let end = value_end(bytes, start).ok()?;
        *at = skip_blanks(bytes, end) + 1;
        Some(Self::of(self.0, start, end))
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, JsonSyntaxError> {
    std::str::from_utf8(bytes).map_err(|error| JsonSyntaxError {
        at: error.valid_up_to(),
        problem: "the text is not UTF-8",
    })
}

/// Replaces the escapes of a valid string. An unpaired surrogate becomes `replacement`; without
/// one, the result is `None`.
fn unescape(text: &str, replacement: Option<char>) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let escape = rest[at + 1..].chars().next()?;
        rest = &rest[at + 1 + escape.len_utf8()..];
        let character = match escape {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (unit, after) = code_unit(rest)?;
                rest = after;
                match char::from_u32(unit) {
                    Some(character) => character,
                    None => match low_surrogate(unit, rest) {
                        Some((character, after)) => {
                            rest = after;
                            character
                        }
                        None => replacement?,
                    },
                }
            }
            other => other,
        };
        plain.push(character);
    }
    plain.push_str(rest);
    Some(plain)
}

/// The four digits after `\u`, and the text after them.
fn code_unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

/// The character of a surrogate pair (RFC 8259, section 7), and the text after it.
fn low_surrogate(high: u32, text: &str) -> Option<(char, &str)> {
    let (low, rest) = code_unit(text.strip_prefix("\\u")?)?;
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    Some((char::from_u32(code)?, rest))
}
