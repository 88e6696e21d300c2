//! Content hash of an event, which tells a repeated event from another one with the same id.
//!
//! Two events with the same identity and the same hash are one event, sent twice. With other
//! content, the later one is a conflict: its sender reused an id.

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use crate::domain::event::EventKind;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;

/// The first 128 bits of the SHA-256 of an event's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The content of an event as sent. It excludes what changes when a client sends an event
/// again (`sent_at`, `context`, `integrations`) and what depends on the receiver: its clock
/// and its feature set.
#[derive(Debug, Clone, Copy)]
pub struct EventContent<'e> {
    pub kind: EventKind,
    pub name: &'e str,
    pub customer: &'e CustomerKey,
    /// The other id of a link that the event declares.
    pub linked: Option<&'e CustomerKey>,
    /// The category of a page or the id of a group, which Segment's format has beside the
    /// properties.
    pub label: Option<&'e str>,
    /// `None` is a value of its own: an event without a timestamp, sent again, is the same.
    pub timestamp: Option<Timestamp>,
    /// An object; `None`, null and the empty array are an empty one.
    pub properties: Option<&'e Value>,
}

impl EventContent<'_> {
    /// The hash of a canonical form: every part has a tag or a length, members are sorted by
    /// name, and equal numbers are equal (`1`, `1.0`, `1e0`).
    pub fn hash(&self) -> ContentHash {
        let mut out = Vec::with_capacity(256);
        write_text(&mut out, self.kind.as_str());
        write_text(&mut out, self.name);
        write_text(&mut out, self.customer.as_str());
        write_option(&mut out, self.linked.map(CustomerKey::as_str));
        write_option(&mut out, self.label);
        match self.timestamp {
            None => out.push(0),
            Some(at) => {
                out.push(1);
                out.extend(at.millis().to_le_bytes());
            }
        }
        match self.properties {
            Some(value @ Value::Object(members)) if !members.is_empty() => {
                write_value(&mut out, value);
            }
            _ => out.push(0),
        }
        let digest = Sha256::digest(&out);
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        ContentHash(first)
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_length(out, text.len());
    out.extend(text.as_bytes());
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    out.extend((length as u64).to_le_bytes());
}

fn write_option(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            out.push(1);
            write_text(out, text);
        }
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(false) => out.push(b'f'),
        Value::Bool(true) => out.push(b't'),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => {
            out.push(b's');
            write_text(out, text);
        }
        Value::Array(elements) => {
            out.push(b'[');
            write_length(out, elements.len());
            for element in elements {
                write_value(out, element);
            }
        }
        Value::Object(members) => {
            out.push(b'{');
            write_length(out, members.len());
            // A map of serde_json is sorted, unless a crate enables `preserve_order`.
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in members {
                write_text(out, name);
                write_value(out, value);
            }
        }
    }
}

/// Integers up to this size are exact as `f64`: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

fn write_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(integer) = number.as_i64() {
        out.push(b'i');
        out.extend(integer.to_le_bytes());
        return;
    }
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() <= MAX_EXACT => {
            out.push(b'i');
            out.extend((float as i64).to_le_bytes());
        }
        Some(float) if number.is_f64() => {
            out.push(b'd');
            out.extend(float.to_bits().to_le_bytes());
        }
        // An integer beyond the range of `i64`.
        _ => {
            out.push(b'u');
            write_text(out, &number.to_string());
        }
    }
}
