//! Output tensors: the properties of a scored row.

use serde::Serialize;

use crate::domain::model::SegmentScore;

/// A row scored by a model or by the fallback.
#[derive(Debug, Clone, Copy)]
pub struct ScoredOutputRow<'l> {
    /// `None` for a row in no segment.
    pub segment_index: Option<usize>,
    pub segment_id: &'l str,
    pub segment_name: &'l str,
    pub runner_up_segment_id: Option<&'l str>,
    pub score: Option<SegmentScore>,
    pub outlier: bool,
    /// Number of inputs of the scorer without a value.
    pub missing_inputs: usize,
}

/// One output tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputTensor {
    /// Index of the segment: by size for a model, largest first; by rank for the fallback, best
    /// first. It is -1 in no segment, with the id `unassigned`. Another model has other
    /// indices; `SegmentId` is stable.
    SegmentIndex,
    SegmentId,
    SegmentName,
    Distance,
    RunnerUpSegmentId,
    Confidence,
    PValue,
    Outlier,
    MissingInputs,
}

/// The scorer of a response, which determines the available outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweringScorer {
    /// The rules, which have no distance and nothing derived from it.
    Fallback,
    Model {
        segments: usize,
    },
}

/// One element of an output.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum OutputElement<'r> {
    Integer(i64),
    Text(&'r str),
    Fp32(f32),
    Fp64(f64),
    Bool(bool),
}

impl OutputTensor {
    /// In the order of metadata and responses.
    pub const ALL: [Self; 9] = [
        Self::SegmentIndex,
        Self::SegmentId,
        Self::SegmentName,
        Self::Distance,
        Self::RunnerUpSegmentId,
        Self::Confidence,
        Self::PValue,
        Self::Outlier,
        Self::MissingInputs,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SegmentIndex => "segment_index",
            Self::SegmentId => "segment_id",
            Self::SegmentName => "segment_name",
            Self::Distance => "distance",
            Self::RunnerUpSegmentId => "runner_up_segment_id",
            Self::Confidence => "confidence",
            Self::PValue => "p_value",
            Self::Outlier => "outlier",
            Self::MissingInputs => "missing_inputs",
        }
    }

    pub const fn datatype(self) -> &'static str {
        match self {
            Self::SegmentIndex | Self::MissingInputs => "INT64",
            Self::SegmentId | Self::SegmentName | Self::RunnerUpSegmentId => "BYTES",
            Self::Distance | Self::Confidence => "FP32",
            Self::PValue => "FP64",
            Self::Outlier => "BOOL",
        }
    }

    /// Whether the output is available. A tensor has no null, and an invented number would be
    /// taken for a measured one, so the output is omitted.
    pub const fn is_available(self, by: AnsweringScorer) -> bool {
        match (self, by) {
            (
                Self::SegmentIndex
                | Self::SegmentId
                | Self::SegmentName
                | Self::Outlier
                | Self::MissingInputs,
                _,
            )
            | (Self::Distance | Self::Confidence | Self::PValue, AnsweringScorer::Model { .. }) => {
                true
            }
            (Self::RunnerUpSegmentId, AnsweringScorer::Model { segments }) => segments > 1,
            (_, AnsweringScorer::Fallback) => false,
        }
    }

    /// `None` if [`Self::is_available`] is false.
    pub(super) fn element<'r>(self, row: &ScoredOutputRow<'r>) -> Option<OutputElement<'r>> {
        Some(match self {
            Self::SegmentIndex => OutputElement::Integer(
                row.segment_index.map_or(Some(-1), |place| i64::try_from(place).ok())?,
            ),
            Self::SegmentId => OutputElement::Text(row.segment_id),
            Self::SegmentName => OutputElement::Text(row.segment_name),
            Self::Distance => OutputElement::Fp32(row.score?.distance),
            Self::RunnerUpSegmentId => OutputElement::Text(row.runner_up_segment_id?),
            Self::Confidence => OutputElement::Fp32(row.score?.confidence()),
            Self::PValue => OutputElement::Fp64(row.score?.p_value),
            Self::Outlier => OutputElement::Bool(row.outlier),
            Self::MissingInputs => OutputElement::Integer(i64::try_from(row.missing_inputs).ok()?),
        })
    }
}

impl OutputElement<'_> {
    /// Appends the element in binary form: little-endian; a text after its length.
    pub(super) fn append(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Integer(number) => bytes.extend(number.to_le_bytes()),
            Self::Text(text) => {
                bytes.extend((text.len() as u32).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            Self::Fp32(number) => bytes.extend(number.to_le_bytes()),
            Self::Fp64(number) => bytes.extend(number.to_le_bytes()),
            Self::Bool(truth) => bytes.push(truth.into()),
        }
    }
}
