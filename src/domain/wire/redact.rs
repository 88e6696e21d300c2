//! Removal of API keys from text that is to be stored.
//!
//! Rejected bodies are stored as they came, readable JSON or not, so keys are found in the
//! text and not in the document: whatever looks like a key of ours, and the value of a
//! member `writeKey`, under which Segment's libraries send the key of any service.

use std::borrow::Cow;

/// How the keys of `service::access` begin.
const KEY_PREFIX: &str = "sgm_";
const KEY_MEMBERS: [&str; 2] = ["\"writekey\"", "\"write_key\""];
const REDACTED: &str = "***";

/// The text without the secrets of API keys. JSON escapes of letters, digits and `_` do
/// not hide one: a text that holds a key is stored without such escapes.
pub fn redact_keys(text: &str) -> Cow<'_, str> {
    let plain = unescaped(text);
    let without_members = redact_members(&plain);
    let redacted = redact_tokens(without_members.as_deref().unwrap_or(&plain));
    match redacted.or(without_members) {
        Some(redacted) => redacted.into(),
        None => text.into(),
    }
}

/// With `\u0073` and its like replaced by the character, where that is a letter, a digit
/// or `_`: the same JSON.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u00") {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(character) = escaped_word_character(rest) {
            plain.push(character);
            rest = &rest[6..];
            continue;
        }
        // The escape and what it escapes: a second backslash begins no escape.
        let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
        plain.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    plain.push_str(rest);
    plain.into()
}

fn escaped_word_character(text: &str) -> Option<char> {
    let digits = text.strip_prefix("\\u00")?.get(..2)?;
    let code = u8::from_str_radix(digits, 16).ok().filter(|code| is_word(*code))?;
    Some(code.into())
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `sgm_<id>_<secret>` becomes `sgm_<id>_***`; `None` without one.
fn redact_tokens(text: &str) -> Option<String> {
    let mut redacted: Option<String> = None;
    let mut done = 0;
    for (at, _) in text.match_indices(KEY_PREFIX) {
        if at < done {
            continue;
        }
        let Some((secret, end)) = secret_in(text, at + KEY_PREFIX.len()) else { continue };
        let out = redacted.get_or_insert_default();
        out.push_str(&text[done..secret]);
        out.push_str(REDACTED);
        done = end;
    }
    let mut redacted = redacted?;
    redacted.push_str(&text[done..]);
    Some(redacted)
}

/// Where the secret begins and ends of a key whose id begins at `at`.
fn secret_in(text: &str, at: usize) -> Option<(usize, usize)> {
    let id = word_length(&text[at..], |byte| byte.is_ascii_hexdigit());
    let secret = at + id + 1;
    if id == 0 || text.as_bytes().get(secret - 1) != Some(&b'_') {
        return None;
    }
    let length = word_length(&text[secret..], is_word);
    (length > 0).then_some((secret, secret + length))
}

fn word_length(text: &str, is_part: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len())
}

/// The texts that members of these names hold, cut short or not, become `***`; `None`
/// without one.
fn redact_members(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut redacted: Option<String> = None;
    let mut done = 0;
    while let Some(name) = next_member(&lower, done) {
        let value = value_at(text, name);
        let out = redacted.get_or_insert_default();
        out.push_str(&text[done..value.start]);
        if !value.is_empty() {
            out.push_str(REDACTED);
        }
        done = value.end;
    }
    let mut redacted = redacted?;
    redacted.push_str(&text[done..]);
    Some(redacted)
}

/// Where the next of those names ends.
fn next_member(lower: &str, from: usize) -> Option<usize> {
    let ends = KEY_MEMBERS.iter().filter_map(|name| {
        let at = lower[from..].find(name)?;
        Some(from + at + name.len())
    });
    ends.min()
}

/// The text between the quotes after a member's name; empty where no text follows.
fn value_at(text: &str, name_end: usize) -> std::ops::Range<usize> {
    let none = name_end..name_end;
    let after = text[name_end..].trim_start();
    let Some(after) = after.strip_prefix(':') else { return none };
    let Some(value) = after.trim_start().strip_prefix('"') else { return none };
    let start = text.len() - value.len();
    let mut is_escaped = false;
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return start..start + at,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    start..text.len()
}
