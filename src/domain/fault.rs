//! Validation faults: where a file or request body is wrong, and what would be right.
//!
//! Files (configuration, feature sets, column mappings) and request bodies are checked to the
//! end, so that every fault is reported at once.

use std::fmt;

/// One validation fault, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationFault {
    /// Line in the file, counted from 1; `None` where the input has no lines.
    pub line: Option<usize>,
    /// Dotted path of the faulty value, such as `feature.recency_days.window.days`.
    pub path: String,
    /// The problem and what would be right. Advice and the value found come last, after `; ` or
    /// `: `, so that [`ValidationFault::broken_rule`] can leave them out.
    pub problem: String,
}

impl ValidationFault {
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { line: None, path: path.into(), problem: problem.into() }
    }

    pub(crate) fn at_line(
        line: usize,
        path: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self { line: Some(line), path: path.into(), problem: problem.into() }
    }

    /// The broken rule and its path, without the value found. It is the same for every input
    /// that breaks the rule, so that faults can be counted by it.
    pub fn broken_rule(&self) -> String {
        let end = ["; ", ": "].into_iter().filter_map(|mark| self.problem.find(mark)).min();
        format!("{}: {}", self.path, &self.problem[..end.unwrap_or(self.problem.len())])
    }
}

impl fmt::Display for ValidationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// Every fault found in one input; never empty when used as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationFaults(pub Vec<ValidationFault>);

impl ValidationFaults {
    pub fn single(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self(vec![ValidationFault::new(path, problem)])
    }

    pub fn push(&mut self, fault: ValidationFault) {
        self.0.push(fault);
    }

    /// The same faults in a value at `path`.
    #[must_use]
    pub(crate) fn within(mut self, path: &str) -> Self {
        for fault in &mut self.0 {
            fault.path = format!("{path}.{}", fault.path);
        }
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a check that passed, unless the text is empty; adds the fault of one that did not.
    pub(crate) fn take(
        &mut self,
        checked: Option<Result<String, ValidationFault>>,
    ) -> Option<String> {
        match checked? {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(fault) => {
                self.push(fault);
                None
            }
        }
    }

    /// Returns `value` if no fault was found, else the faults sorted by line.
    pub(crate) fn into_result<T>(mut self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by_key(|fault| fault.line);
        Err(self)
    }
}

impl fmt::Display for ValidationFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationFaults {}
