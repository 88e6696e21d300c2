//! Opening of a model artifact: parses, validates and self-tests a sealed document.
//!
//! Every released format stays readable; `document` describes the current one. A document is accepted only after validation and after its
//! self-test: it must score its own test rows as on the machine that trained it.

use serde::Deserialize;

use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::model::document::{
    ArtifactError, DOCUMENT_FORMAT, MAX_DOCUMENT_BYTES, ModelDocument,
};

impl Model {
    /// Parses and validates a sealed document, and runs its self-test. The model's id is the
    /// SHA-256 of the bytes. Invalid bytes are an error, never a panic.
    pub fn open(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(ArtifactError::TooLong(bytes.len()));
        }
        // The format alone first: the other fields depend on it.
        let FormatVersion { format } = serde_json::from_slice(bytes)?;
        let document: ModelDocument = match format {
            DOCUMENT_FORMAT => serde_json::from_slice(bytes)?,
            unknown => return Err(ArtifactError::Format(unknown)),
        };
        // Scoring relies on valid indices, so validation comes before the self-test.
        document.check_shape().map_err(ArtifactError::Shape)?;
        document.check_answers()?;
        Ok(Self { id: ModelId::of(bytes), document })
    }

    /// [`Self::open`], but refuses bytes with an address other than `expected`.
    pub fn open_addressed(bytes: &[u8], expected: &ModelId) -> Result<Self, ArtifactError> {
        let found = ModelId::of(bytes);
        if found != *expected {
            return Err(ArtifactError::Address { expected: expected.clone(), found });
        }
        Self::open(bytes)
    }
}

/// The format version of a document, whatever its other fields.
#[derive(Deserialize)]
struct FormatVersion {
    format: u32,
}
