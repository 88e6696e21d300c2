//! Why a use case could not be carried out, in terms of what the caller can do.

use crate::domain::fault::Faults;
use crate::domain::lifecycle::{Gate, Move};
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request is wrong; the same again will fail again.
    #[error("{0}")]
    Invalid(Faults),
    #[error("there is no {0}")]
    NotFound(String),
    /// Right in itself, but not as things stand.
    #[error("{0}")]
    Conflict(String),
    /// The gates of a model's life refuse it; these of them.
    #[error("{step} is refused: {}", sentences(gates))]
    Refused { step: Move, gates: Vec<Gate> },
    /// Too much at once: come back later.
    #[error("busy")]
    Busy { retry_after_seconds: u64 },
    /// The database's disk has too little room for more events.
    #[error(
        "the disk has {free_bytes} bytes free, less than {min_free_bytes} \
         (database.min_free_bytes): events are refused until there is room; scoring goes on"
    )]
    DiskFull { free_bytes: u64, min_free_bytes: u64 },
    /// Something needed is away; it passes.
    #[error("not available now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn sentences(gates: &[Gate]) -> String {
    let said: Vec<String> =
        gates.iter().map(|gate| format!("{}: {}", gate.gate, gate.why)).collect();
    said.join("; ")
}

impl ServiceError {
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Lost(_) => Self::Unavailable(error.into()),
            _ => Self::Internal(error.into()),
        }
    }
}

/// An error with all its causes, for a log line.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'e>(pub &'e (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
