//! Redaction of API keys from text before it is stored.
//!
//! Rejected bodies are stored as received, even if they are not valid JSON. So keys are found
//! in the text instead of the document. Redacted are texts in the form of a segmentd key, and
//! the values of members `writeKey`, in which Segment's libraries send the key of any service.

use std::borrow::Cow;

/// Prefix of the keys of `service::api_keys`.
const KEY_PREFIX: &str = "sgm_";
const KEY_MEMBERS: [&str; 2] = ["\"writekey\"", "\"write_key\""];
const REDACTED: &str = "***";

/// Removes the secrets of API keys from a text. JSON escapes of letters, digits and `_` cannot
/// hide a key: a text that contains a key is returned without such escapes.
pub fn redact_keys(text: &str) -> Cow<'_, str> {
    let plain = unescaped(text);
    let without_members = redact_members(&plain);
    let redacted = redact_tokens(without_members.as_deref().unwrap_or(&plain));
    match redacted.or(without_members) {
        Some(redacted) => redacted.into(),
        None => text.into(),
    }
}

/// Replaces `\u0073` and similar escapes with the character, if it is a letter, a digit or `_`.
/// The result is the same JSON value.
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
        // Copy an escape with the character that it escapes: a second backslash starts no
        // escape.
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

/// Replaces `sgm_<id>_<secret>` with `sgm_<id>_***`; `None` if the text has no key.
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

/// Start and end of the secret of a key with its id at `at`.
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

/// Replaces the text values of members with these names, truncated or not, with `***`; `None`
/// if the text has no such member.
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

/// The end of the next such member name.
fn next_member(lower: &str, from: usize) -> Option<usize> {
    let ends = KEY_MEMBERS.iter().filter_map(|name| {
        let at = lower[from..].find(name)?;
        Some(from + at + name.len())
    });
    ends.min()
}

/// The range of the text between the quotes after a member name; empty without a text.
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
