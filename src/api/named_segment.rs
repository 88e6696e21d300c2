//! A segment by its id, with its name: a part of many bodies.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::model::NamedSegment;

/// A segment by its id, with its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct NamedSegmentBody {
    /// Id of the segment, the same over trainings; `unassigned` for customers in no segment.
    #[serde(alias = "id")]
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment.
    #[schema(example = "Loyal Customers")]
    name: String,
}

impl From<NamedSegment> for NamedSegmentBody {
    fn from(segment: NamedSegment) -> Self {
        Self { segment_id: segment.id.into(), name: segment.name.into() }
    }
}
