//! The segment of a customer at a past instant.

use crate::domain::time::Timestamp;

/// An assignment by a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedSegment {
    /// Generation of the deployment that scored.
    pub generation: i64,
    pub segment_id: Box<str>,
}

/// A change of the assignment of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentChange {
    pub changed_at: Timestamp,
    /// The assignment until then; `None`: none yet, or one by the rule-based fallback.
    pub before: Option<AssignedSegment>,
}

/// The present assignment of a customer, and its last changes.
///
/// A past assignment is found backwards: the first change after an instant names the assignment
/// before it. So only the changes since then are read, however long the customer has been in its
/// segment.
#[derive(Debug, Clone, Copy)]
pub struct CustomerAssignments<'a> {
    /// `None`: none yet, or one by the rule-based fallback.
    pub present: Option<&'a AssignedSegment>,
    /// In order of time, at least those after the instants that are asked for.
    pub changes: &'a [AssignmentChange],
}

impl<'a> CustomerAssignments<'a> {
    /// The assignment at `instant`.
    pub fn at(&self, instant: Timestamp) -> Option<&'a AssignedSegment> {
        match self.changes.iter().find(|change| change.changed_at > instant) {
            Some(change) => change.before.as_ref(),
            None => self.present,
        }
    }
}
