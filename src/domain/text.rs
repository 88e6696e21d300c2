//! Text validation: storable by Postgres, and of bounded length.
//!
//! Postgres stores every Unicode character but NUL (U+0000). A text with NUL that reaches a
//! statement fails there as an internal error. So each edge refuses it first, with the name of
//! its field.

use crate::domain::fault::ValidationFault;

/// Maximum length of a reason, a note or an explanation.
pub(crate) const MAX_FREE_TEXT_CHARS: usize = 2000;
/// Maximum length of the name of an owner, a channel or a key.
pub(crate) const MAX_NAME_CHARS: usize = 200;

/// Fault text for a text that Postgres cannot store.
pub(crate) const NUL_PROBLEM: &str = "must not contain the character NUL";

/// Whether Postgres can store the text.
pub(crate) fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}

/// Validates free text: trimmed, storable, and at most `max_chars` characters long. The fault
/// names the field and the limit.
pub(crate) fn check_free_text(
    field: &str,
    text: &str,
    max_chars: usize,
) -> Result<String, ValidationFault> {
    let text = text.trim();
    if !is_storable(text) {
        return Err(ValidationFault::new(field, NUL_PROBLEM));
    }
    let chars = text.chars().count();
    if chars > max_chars {
        let problem = format!("must be at most {max_chars} characters long; it has {chars}");
        return Err(ValidationFault::new(field, problem));
    }
    Ok(text.to_owned())
}

/// Validates free text that must not be blank ([`check_free_text`]).
pub(crate) fn check_required_text(
    field: &str,
    text: &str,
    max_chars: usize,
) -> Result<String, ValidationFault> {
    let text = check_free_text(field, text, max_chars)?;
    if text.is_empty() {
        let problem = format!("must not be blank: write 1 to {max_chars} characters");
        return Err(ValidationFault::new(field, problem));
    }
    Ok(text)
}

/// Validates a name: required, one line, at most [`MAX_NAME_CHARS`] characters long.
pub(crate) fn check_name(field: &str, text: &str) -> Result<String, ValidationFault> {
    let text = check_required_text(field, text, MAX_NAME_CHARS)?;
    if text.chars().any(char::is_control) {
        return Err(ValidationFault::new(field, "must not contain control characters"));
    }
    Ok(text)
}

/// The text of an operating system's error without its number, in the style of our messages:
/// `permission denied` for `Permission denied (os error 13)`.
pub(crate) fn plain_os_error(error: &(impl std::error::Error + ?Sized)) -> String {
    let text = error.to_string();
    let Some((reason, _)) = text.rsplit_once(" (os error ") else { return text };
    // `TLS …` keeps its capitals.
    let has_capital_word = reason.chars().nth(1).is_some_and(char::is_uppercase);
    let mut characters = reason.chars();
    match characters.next() {
        Some(first) if !has_capital_word => first.to_lowercase().chain(characters).collect(),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_os_error_has_no_number() {
        let denied = std::io::Error::from_raw_os_error(13);
        assert_eq!(plain_os_error(&denied), "permission denied");
        let other = std::io::Error::other("Not from the system");
        assert_eq!(plain_os_error(&other), "Not from the system");
    }
}
