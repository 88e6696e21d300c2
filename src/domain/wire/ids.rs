//! Ids in JSON: a text, or an integer of any size with every digit.

use std::borrow::Cow;

use crate::domain::json::{JsonKind, RawJson, decimal};

/// Maximum digits of an integer as an id: the maximum length of an id.
const MAX_ID_DIGITS: usize = 200;

/// The text of an id, without blanks at its ends; `None` for null and for a blank text, which
/// the mobile libraries send before a login. The error says what would be right.
pub(super) fn id_text(value: RawJson<'_>) -> Result<Option<Cow<'_, str>>, String> {
    let text: Cow<'_, str> = match value.kind() {
        JsonKind::Null => return Ok(None),
        JsonKind::Text => match value.text() {
            Some(Cow::Borrowed(text)) => text.trim().into(),
            Some(Cow::Owned(text)) => text.trim().to_owned().into(),
            None => return Err("must not contain an unpaired surrogate".into()),
        },
        JsonKind::Number => {
            let Some(digits) = decimal::integer_digits(value.as_str(), MAX_ID_DIGITS) else {
                let found: String = value.as_str().chars().take(MAX_ID_DIGITS).collect();
                return Err(format!("must be a text or an integer; it is {found}"));
            };
            digits.into()
        }
        // A common mistake of clients; `true` is one of the default sentinel ids.
        JsonKind::Bool => value.as_str().into(),
        kind @ (JsonKind::Array | JsonKind::Object) => {
            return Err(format!("must be a text or an integer; it is {}", kind.noun()));
        }
    };
    Ok((!text.is_empty()).then_some(text))
}
