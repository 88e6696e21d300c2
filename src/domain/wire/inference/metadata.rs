//! Model metadata, from which a client can derive its requests.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::feature::{FeatureSet, ValueType};
use crate::domain::id::ModelId;
use crate::domain::wire::inference::{AnsweringScorer, MODEL_NAME, OutputTensor};

/// The response to a model metadata request.
#[derive(Debug, Serialize)]
pub struct ModelMetadata<'m> {
    name: &'static str,
    /// Versions that can be requested; none while the fallback answers.
    versions: Vec<&'m str>,
    platform: &'static str,
    inputs: Vec<InputMetadata<'m>>,
    outputs: Vec<TensorMetadata<'static>>,
    properties: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct TensorMetadata<'m> {
    name: &'m str,
    datatype: &'static str,
    /// One dimension of any size: the rows.
    shape: [i64; 1],
}

#[derive(Debug, Serialize)]
struct InputMetadata<'m> {
    #[serde(flatten)]
    tensor: TensorMetadata<'m>,
    parameters: InputParameters<'m>,
}

/// Description of the values of an input.
#[derive(Debug, Serialize)]
struct InputParameters<'m> {
    title: &'m str,
    unit: &'m str,
}

impl TensorMetadata<'static> {
    const fn of_output(output: OutputTensor) -> Self {
        Self { name: output.name(), datatype: output.datatype(), shape: [-1] }
    }
}

impl<'m> ModelMetadata<'m> {
    /// Metadata of the current deployment. Listed are the inputs that some answer depends on;
    /// features that no model reads are accepted, but not listed.
    pub fn new(
        features: &'m FeatureSet,
        version: Option<&'m ModelId>,
        by: AnsweringScorer,
        max_rows: usize,
    ) -> Self {
        let rfm = features.rfm();
        let by_rule = [rfm.recency.index, rfm.frequency.index, rfm.monetary.index];
        let defs = features.features().iter().enumerate();
        let inputs = defs
            .filter(|(index, def)| def.encoding.is_some() || by_rule.contains(index))
            .map(|(index, def)| InputMetadata {
                tensor: TensorMetadata {
                    name: &def.name,
                    datatype: match features.value_type_at(index) {
                        ValueType::Number => "FP64",
                        ValueType::Text => "BYTES",
                    },
                    shape: [-1],
                },
                parameters: InputParameters { title: &def.title, unit: &def.unit },
            })
            .collect();
        let missing = "omit the input; for a single row, null, or NaN in binary data";
        let numbers = "BOOL, INT8 to INT64, UINT8 to UINT64 and FP32 are accepted for FP64";
        Self {
            name: MODEL_NAME,
            versions: version.map(ModelId::as_str).into_iter().collect(),
            platform: match by {
                AnsweringScorer::Fallback => "segmentd_rules",
                AnsweringScorer::Model { .. } => "segmentd_prototypes",
            },
            inputs,
            outputs: OutputTensor::ALL
                .into_iter()
                .filter(|output| output.is_available(by))
                .map(TensorMetadata::of_output)
                .collect(),
            properties: BTreeMap::from([
                ("fallback", (by == AnsweringScorer::Fallback).to_string()),
                ("feature_set", features.id().to_string()),
                ("max_rows", max_rows.to_string()),
                ("missing_inputs", missing.to_owned()),
                ("number_inputs", numbers.to_owned()),
            ]),
        }
    }
}
