//! JSON validator: finds the end of a value in one pass, without recursion and without a
//! document.

use std::fmt;

/// A byte that breaks the grammar of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonSyntaxError {
    /// Offset of the byte; the length of the text if it ends too early.
    pub at: usize,
    pub problem: &'static str,
}

impl JsonSyntaxError {
    /// The error of a text that ends too early.
    pub fn early_end(text: &[u8]) -> Self {
        Self { at: text.len(), problem: ENDS_EARLY }
    }
}

impl fmt::Display for JsonSyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.problem, self.at)
    }
}

const ENDS_EARLY: &str = "the text ends before its JSON is complete";

/// The offset of the first byte from `at` on that is not JSON whitespace.
pub fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Validates the value that begins at or after `at`, and returns the offset after its end. The
/// text must be UTF-8; this is not checked.
pub fn value_end(bytes: &[u8], at: usize) -> Result<usize, JsonSyntaxError> {
    let mut open = OpenBrackets::default();
    let mut at = at;
    loop {
        at = skip_blanks(bytes, at);
        match bytes.get(at) {
            Some(b'{') => {
                at = skip_blanks(bytes, at + 1);
                if bytes.get(at) == Some(&b'}') {
                    at += 1;
                } else {
                    open.push(true);
                    at = key_end(bytes, at)?;
                    continue;
                }
            }
            Some(b'[') => {
                at = skip_blanks(bytes, at + 1);
                if bytes.get(at) == Some(&b']') {
                    at += 1;
                } else {
                    open.push(false);
                    continue;
                }
            }
            Some(b'"') => at = string_end(bytes, at)?,
            Some(b'-' | b'0'..=b'9') => at = number_end(bytes, at)?,
            Some(b't') => at = literal_end(bytes, at, b"true")?,
            Some(b'f') => at = literal_end(bytes, at, b"false")?,
            Some(b'n') => at = literal_end(bytes, at, b"null")?,
            _ => return Err(error(bytes, at, "a value is expected")),
        }
        loop {
            let Some(is_object) = open.top() else { return Ok(at) };
            at = skip_blanks(bytes, at);
            match (bytes.get(at), is_object) {
                (Some(b','), true) => {
                    at = key_end(bytes, skip_blanks(bytes, at + 1))?;
                    break;
                }
                (Some(b','), false) => {
                    at += 1;
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    open.pop();
                    at += 1;
                }
                (_, true) => return Err(error(bytes, at, "`,` or `}` is expected")),
                (_, false) => return Err(error(bytes, at, "`,` or `]` is expected")),
            }
        }
    }
}

/// The offset after the string that begins at `at` with its quote.
pub fn string_end(bytes: &[u8], at: usize) -> Result<usize, JsonSyntaxError> {
    let mut at = at + 1;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
            return Err(control_error(rest, at).unwrap_or(error(bytes, bytes.len(), ENDS_EARLY)));
        };
        if let Some(error) = control_error(&rest[..length], at) {
            return Err(error);
        }
        at += length;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at = escape_end(bytes, at)?;
    }
}

fn control_error(text: &[u8], at: usize) -> Option<JsonSyntaxError> {
    // Without an early exit the loop is vectorised; almost no string has a control character.
    let has_control = text.iter().min().is_some_and(|lowest| *lowest < b' ');
    if !has_control {
        return None;
    }
    let offset = text.iter().position(|byte| *byte < b' ')?;
    let problem = "a control character in a string must be escaped";
    Some(JsonSyntaxError { at: at + offset, problem })
}

/// The offset after the escape that begins at `at` with its backslash.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, JsonSyntaxError> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let digits = bytes.get(at + 2..at + 6);
            if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                return Ok(at + 6);
            }
            Err(error(bytes, at, "`\\u` must be followed by four hexadecimal digits"))
        }
        Some(_) => Err(error(bytes, at, "the escape is not one of JSON")),
        None => Err(error(bytes, bytes.len(), ENDS_EARLY)),
    }
}

/// The offset after a member name and its colon.
fn key_end(bytes: &[u8], at: usize) -> Result<usize, JsonSyntaxError> {
    if bytes.get(at) != Some(&b'"') {
        return Err(error(bytes, at, "the name of a member, in double quotes, is expected"));
    }
    let at = skip_blanks(bytes, string_end(bytes, at)?);
    if bytes.get(at) != Some(&b':') {
        return Err(error(bytes, at, "`:` is expected"));
    }
    Ok(at + 1)
}

fn number_end(bytes: &[u8], at: usize) -> Result<usize, JsonSyntaxError> {
    let mut at = at + usize::from(bytes.get(at) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') if matches!(bytes.get(at + 1), Some(b'0'..=b'9')) => {
            return Err(error(bytes, at, "a number must not begin with zeros"));
        }
        _ => digits_end(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let has_sign = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits_end(bytes, at + 1 + usize::from(has_sign))?;
    }
    Ok(at)
}

fn digits_end(bytes: &[u8], at: usize) -> Result<usize, JsonSyntaxError> {
    let count = bytes.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit());
    match count.count() {
        0 => Err(error(bytes, at, "a digit is expected")),
        count => Ok(at + count),
    }
}

fn literal_end(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, JsonSyntaxError> {
    if bytes[at..].starts_with(word) {
        return Ok(at + word.len());
    }
    Err(error(bytes, at, "a value is expected"))
}

fn error(bytes: &[u8], at: usize, problem: &'static str) -> JsonSyntaxError {
    if at >= bytes.len() {
        return JsonSyntaxError { at: bytes.len(), problem: ENDS_EARLY };
    }
    JsonSyntaxError { at, problem }
}

/// Stack of open brackets, one bit each: set for an object. The first 64 need no allocation.
#[derive(Debug, Default)]
pub(crate) struct OpenBrackets {
    bits: u64,
    outer: Vec<u64>,
    depth: usize,
}

impl OpenBrackets {
    pub(crate) fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
    }

    pub(crate) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.bits >>= 1;
        if self.depth > 0
            && self.depth.is_multiple_of(64)
            && let Some(bits) = self.outer.pop()
        {
            self.bits = bits;
        }
    }

    /// Whether the innermost open bracket is that of an object; `None` if none is open.
    pub(crate) fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}
