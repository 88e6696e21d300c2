//! Errors of use cases, by what the caller can do about them.

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::deployment::lifecycle::{GateResult, StageTransition};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::text::plain_os_error;
use crate::store::StoreError;

/// Failure of a use case.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request is invalid; repeating it fails again.
    #[error("{0}")]
    Invalid(ValidationFaults),
    #[error("there is no {0}")]
    NotFound(String),
    /// The requested resource no longer exists and never will again.
    #[error("{0}")]
    Gone(String),
    /// The request is valid, but conflicts with the present state.
    #[error("{0}")]
    Conflict(String),
    /// Gates refuse a life-cycle step; `gates` are the failing ones.
    #[error("{step} is refused: {}", gate_reasons(gates))]
    Refused { step: StageTransition, gates: Vec<GateResult> },
    /// Too many concurrent operations: retry later.
    #[error("busy")]
    Busy { retry_after_seconds: u64 },
    /// A required row is locked by another session; nothing was written.
    #[error("locked by another session")]
    Locked,
    /// A limit of one API key, named in `detail`: retry later.
    #[error("{detail}")]
    OverLimit { detail: Cow<'static, str>, retry_after_seconds: u64 },
    /// A limit of the whole process: retry later.
    #[error("{detail}")]
    Overloaded { detail: &'static str, retry_after_seconds: u64 },
    /// The database's disk has too little free space for more events.
    #[error(
        "the disk has {free_bytes} bytes free, less than {min_free_bytes} \
         (database.min_free_bytes): events are refused until space is free; scoring continues"
    )]
    DiskFull { free_bytes: u64, min_free_bytes: u64 },
    /// A dependency is temporarily unavailable.
    #[error("not available now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This process's clock differs from the database's by `skew_seconds`: writes with
    /// timestamps are refused until it is right.
    #[error("the clock is {skew_seconds} s ahead of the database's")]
    WrongClock { skew_seconds: i64 },
    /// An internal fault.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn gate_reasons(gates: &[GateResult]) -> String {
    let reasons: Vec<String> =
        gates.iter().map(|gate| format!("{}: {}", gate.gate, gate.why)).collect();
    reasons.join("; ")
}

impl ServiceError {
    pub(crate) fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<ValidationFault> for ServiceError {
    fn from(fault: ValidationFault) -> Self {
        Self::Invalid(ValidationFaults(vec![fault]))
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked => Self::Locked,
            StoreError::Unavailable(_) | StoreError::Lost(_) | StoreError::TimedOut(_) => {
                Self::Unavailable(error.into())
            }
            _ => Self::Internal(error.into()),
        }
    }
}

/// A cloneable error, for every caller of a shared operation.
#[derive(Debug, Clone)]
pub(crate) enum SharedError {
    Locked,
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    Internal(Arc<ServiceError>),
}

impl SharedError {
    pub(crate) fn from_error(error: ServiceError) -> Self {
        match error {
            ServiceError::Locked => Self::Locked,
            ServiceError::Unavailable(why) => Self::Unavailable(why.into()),
            error => Self::Internal(Arc::new(error)),
        }
    }

    /// The error for one of the callers.
    pub(crate) fn to_error(&self) -> ServiceError {
        match self {
            Self::Locked => ServiceError::Locked,
            Self::Unavailable(why) => ServiceError::Unavailable(Box::new(Arc::clone(why))),
            Self::Internal(error) => ServiceError::Internal(Box::new(Arc::clone(error))),
        }
    }
}

/// An error with its chain of causes, on one line. A cause that the text of its error repeats
/// occurs once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorChain<'e>(pub &'e (dyn std::error::Error + 'static));

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", plain_os_error(self.0))?;
        let mut outer = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !outer.ends_with(&text) {
                write!(f, ": {}", plain_os_error(error))?;
                outer = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot read the file")]
        Plain(#[source] io::Error),
        #[error("cannot read the file: {0}")]
        Repeating(#[source] io::Error),
    }

    #[test]
    fn each_cause_occurs_once() {
        let missing = || io::Error::from_raw_os_error(2);
        let plain = ErrorChain(&Outer::Plain(missing())).to_string();
        assert_eq!(plain, "cannot read the file: no such file or directory");
        let repeating = ErrorChain(&Outer::Repeating(missing())).to_string();
        assert_eq!(repeating, "cannot read the file: No such file or directory");
    }
}
