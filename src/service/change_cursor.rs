//! Cursors of the change feed: positions as text.

use sha2::{Digest, Sha256};

use crate::domain::id::encode_hex;
use crate::store::customers::changes::FeedPosition;

const CURSOR_VERSION: u8 = 1;

/// Encodes a position as a cursor: version, the two numbers and a checksum in hexadecimal.
/// The checksum detects truncated and invented cursors.
pub(crate) fn encode_cursor(at: FeedPosition) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&at.transaction.to_be_bytes());
    bytes.extend_from_slice(&at.change.to_be_bytes());
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..2]);
    encode_hex(&bytes)
}

/// Decodes a cursor; `None` unless [`encode_cursor`] returned it.
pub(crate) fn decode_cursor(text: &str) -> Option<FeedPosition> {
    let at = FeedPosition {
        transaction: u64::from_str_radix(text.get(2..18)?, 16).ok()?,
        change: i64::from_str_radix(text.get(18..34)?, 16).ok()?,
    };
    (encode_cursor(at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_no_other_text_is() {
        let at = FeedPosition { transaction: 0x0123_4567_89ab, change: 42 };
        let text = encode_cursor(at);
        assert_eq!(decode_cursor(&text), Some(at));
        for end in 0..text.len() {
            assert_eq!(decode_cursor(&text[..end]), None);
            let mut other = text.clone().into_bytes();
            other[end] = if other[end] == b'0' { b'1' } else { b'0' };
            assert_eq!(decode_cursor(std::str::from_utf8(&other).unwrap()), None, "{end}");
        }
        assert_eq!(decode_cursor(&text.to_uppercase()), None);
        assert_eq!(decode_cursor("now"), None);
        assert_eq!(decode_cursor(&"é".repeat(19)), None);
    }
}
