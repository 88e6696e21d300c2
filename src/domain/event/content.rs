//! Content hash of an event, which tells a repeated event from another one with the same id.
//!
//! Two events with the same identity and the same hash are one event, sent twice. With other
//! content, the later one is a conflict: its sender reused an id.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::domain::event::EventKind;
use crate::domain::id::CustomerKey;
use crate::domain::json::{JsonKind, RawJson, decimal};
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
    pub properties: Option<RawJson<'e>>,
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
            Some(value) if value.members().is_some_and(|mut members| members.next().is_some()) => {
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

fn write_value(out: &mut Vec<u8>, value: RawJson<'_>) {
    match value.kind() {
        JsonKind::Null => out.push(b'n'),
        JsonKind::Bool if value.as_str() == "true" => out.push(b't'),
        JsonKind::Bool => out.push(b'f'),
        JsonKind::Number => write_number(out, value.as_str()),
        // A text with an unpaired surrogate is compared as it is written.
        JsonKind::Text => {
            let text = value.text();
            out.push(if text.is_some() { b's' } else { b'x' });
            write_text(out, text.as_deref().unwrap_or(value.as_str()));
        }
        JsonKind::Array => {
            let elements: Vec<RawJson<'_>> = value.elements().into_iter().flatten().collect();
            out.push(b'[');
            write_length(out, elements.len());
            for element in elements {
                write_value(out, element);
            }
        }
        JsonKind::Object => {
            let members = value.members().into_iter().flatten();
            let mut members: Vec<(Cow<'_, str>, RawJson<'_>)> =
                members.map(|member| (member.name, member.value)).collect();
            // Of equal names, the last one wins, as in the properties that are read.
            members.reverse();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            members.dedup_by(|(later, _), (first, _)| later == first);
            out.push(b'{');
            write_length(out, members.len());
            for (name, value) in members {
                write_text(out, &name);
                write_value(out, value);
            }
        }
    }
}

/// Number of digits up to which integers are compared digit by digit. Longer ones, and numbers
/// with a fraction, are compared as doubles.
const MAX_INTEGER_DIGITS: usize = 40;

fn write_number(out: &mut Vec<u8>, number: &str) {
    if let Some(digits) = decimal::integer_digits(number, MAX_INTEGER_DIGITS) {
        out.push(b'i');
        write_text(out, &digits);
        return;
    }
    if let Some(double) = decimal::nearest_double(number) {
        out.push(b'd');
        out.extend(double.to_bits().to_le_bytes());
    } else {
        // Beyond the range of a double.
        out.push(b'u');
        write_text(out, number);
    }
}
