//! Ids of models and training runs in paths: complete, or a unique beginning.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use utoipa::IntoParams;

use crate::api::{ApiError, ApiState};
use crate::domain::id::{ModelId, RunId};
use crate::service::ServiceError;
use crate::store::models::list;
use crate::store::models::runs;

/// The path parameter of one training run, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
pub(in crate::api) struct RunIdPath {
    /// Id of the run, or `run_` and at least its first 12 digits.
    training_run_id: String,
}

/// The path parameter of one model, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
pub(in crate::api) struct ModelIdPath {
    /// Id of the model, or at least its first 12 digits.
    model_id: String,
}

/// Fewest hexadecimal digits of a shortened id; the log shows that many of a model's id.
const MIN_SHORT_DIGITS: usize = 12;
/// Hexadecimal digits of a model's id.
const MODEL_DIGITS: usize = 64;
/// The beginning of a training run's id, before its digits.
const RUN_PREFIX: &str = "run_";

/// The model with this id, or the only one with an id that begins so. A complete id need not
/// exist.
pub(in crate::api) async fn resolve_model_id(
    state: &ApiState,
    text: &str,
) -> Result<ModelId, ApiError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if !is_short_id(text) || text.len() > MODEL_DIGITS {
        return Err(ApiError::not_found(&format!(
            "model `{text}`: an id has {MODEL_DIGITS} hexadecimal digits, of which the first \
             {MIN_SHORT_DIGITS} are enough"
        )));
    }
    let found = list::list_ids_by_prefix(&state.db, text, 2).await?;
    only_one("model", text, found)
}

/// The training run with this id, or the only one with an id that begins so. An id of another
/// form need not exist.
pub(in crate::api) async fn resolve_run_id(
    state: &ApiState,
    text: &str,
) -> Result<RunId, ApiError> {
    let is_short = text.strip_prefix(RUN_PREFIX).is_some_and(is_short_id);
    if is_short {
        let found = runs::list_ids_by_prefix(&state.db, text, 2).await?;
        return only_one("training run", text, found);
    }
    text.parse().map_err(|_| ApiError::not_found(&format!("training run `{text}`")))
}

fn is_short_id(digits: &str) -> bool {
    let is_hexadecimal = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    digits.len() >= MIN_SHORT_DIGITS && is_hexadecimal
}

fn only_one<T>(noun: &str, text: &str, mut found: Vec<T>) -> Result<T, ApiError> {
    match (found.pop(), found.is_empty()) {
        (Some(id), true) => Ok(id),
        (None, _) => Err(ApiError::not_found(&format!("{noun} `{text}`"))),
        (Some(_), false) => Err(ApiError::not_found(&format!(
            "single {noun} `{text}`: several ids begin so; send more digits"
        ))),
    }
}

/// Parses a stored text that is one of the choices of an enum.
pub(in crate::api) fn stored_choice<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, ApiError> {
    let deserializer: StrDeserializer<'t, ValueError> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|error| ServiceError::internal(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_one_id_finds_it() {
        assert_eq!(only_one("model", "0123456789ab", vec![7]).unwrap(), 7);
        let unknown = only_one::<u8>("model", "0123456789ab", vec![]).unwrap_err();
        assert_eq!(unknown.detail(), "there is no model `0123456789ab`");
        let several = only_one("model", "0123456789ab", vec![7, 8]).unwrap_err();
        assert!(several.detail().contains("several ids begin so"), "{}", several.detail());
    }

    #[test]
    fn a_short_id_has_at_least_twelve_hexadecimal_digits() {
        assert!(is_short_id("0123456789ab"));
        for wrong in ["0123456789a", "0123456789aB", "0123456789ag", "", "latest"] {
            assert!(!is_short_id(wrong), "{wrong}");
        }
    }
}
