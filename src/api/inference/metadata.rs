//! Model metadata, from which a client can derive its requests.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::feature::{FeatureSet, ValueType};
use crate::domain::id::ModelId;
use crate::domain::wire::inference::{AnsweringScorer, MODEL_NAME, OutputTensor};

/// Inputs and outputs of the model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelMetadataBody<'m> {
    /// Always `segments`.
    #[schema(example = "segments")]
    name: &'static str,
    /// Versions that can be requested, which are model ids; none while the fallback answers.
    #[schema(value_type = Vec<String>)]
    versions: Vec<&'m str>,
    /// `segmentd_prototypes`, or `segmentd_rules` for the rule-based fallback.
    #[schema(example = "segmentd_prototypes")]
    platform: &'static str,
    /// The inputs that a score depends on. Other features are accepted, but not listed.
    #[schema(value_type = Vec<ModelInputBody<'static>>)]
    inputs: Vec<ModelInputBody<'m>>,
    /// The outputs. The fallback has none that need a distance.
    outputs: Vec<ModelOutputBody>,
    /// Properties as text: `fallback`, `feature_set`, `max_rows`, and how inputs are read.
    #[schema(value_type = BTreeMap<String, String>, example = json!({ "fallback": "false", "max_rows": "1000" }))]
    properties: BTreeMap<&'static str, String>,
}

/// An input: a feature.
#[derive(Debug, Serialize, ToSchema)]
struct ModelInputBody<'m> {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    name: &'m str,
    /// `FP64` for a number, `BYTES` for a category.
    #[schema(example = "FP64")]
    datatype: &'static str,
    /// One dimension of any size: the rows.
    #[schema(value_type = Vec<i64>, example = json!([-1]))]
    shape: [i64; 1],
    parameters: ModelInputParametersBody<'m>,
}

/// Description of the values of an input.
#[derive(Debug, Serialize, ToSchema)]
struct ModelInputParametersBody<'m> {
    /// Title of the feature.
    #[schema(example = "Days since the last order")]
    title: &'m str,
    /// Unit of the values.
    #[schema(example = "days")]
    unit: &'m str,
}

/// An output.
#[derive(Debug, Serialize, ToSchema)]
struct ModelOutputBody {
    /// Name of the output.
    #[schema(example = "segment_id")]
    name: &'static str,
    /// Type of the elements.
    #[schema(example = "BYTES")]
    datatype: &'static str,
    /// One dimension of any size: the rows.
    #[schema(value_type = Vec<i64>, example = json!([-1]))]
    shape: [i64; 1],
}

impl<'m> ModelMetadataBody<'m> {
    /// Metadata of the current deployment.
    pub(super) fn new(
        features: &'m FeatureSet,
        version: Option<&'m ModelId>,
        by: AnsweringScorer,
        max_rows: usize,
    ) -> Self {
        let rfm = features.rfm();
        let by_rule = [rfm.recency.index, rfm.frequency.index, rfm.monetary.index];
        let mut inputs = Vec::new();
        for (index, def) in features.features().iter().enumerate() {
            if def.encoding.is_some() || by_rule.contains(&index) {
                inputs.push(ModelInputBody {
                    name: &def.name,
                    datatype: match features.value_type_at(index) {
                        ValueType::Number => "FP64",
                        ValueType::Text => "BYTES",
                    },
                    shape: [-1],
                    parameters: ModelInputParametersBody { title: &def.title, unit: &def.unit },
                });
            }
        }
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
                .map(ModelOutputBody::from)
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

impl From<OutputTensor> for ModelOutputBody {
    fn from(output: OutputTensor) -> Self {
        Self { name: output.name(), datatype: output.datatype(), shape: [-1] }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::feature::FeatureValue;
    use crate::domain::wire::inference::read;

    const RETAIL: &str = include_str!("../../../config/features.retail.toml");
    const MAX_ROWS: usize = 100;

    #[test]
    fn a_tensor_for_each_described_input_is_accepted() {
        let set = FeatureSet::parse(RETAIL).unwrap();
        let metadata = ModelMetadataBody::new(&set, None, AnsweringScorer::Fallback, MAX_ROWS);
        assert_eq!(metadata.name, "segments");
        assert!(metadata.inputs.len() > 10);
        let inputs: Vec<Value> = metadata
            .inputs
            .iter()
            .map(|input| {
                let element = if input.datatype == "BYTES" { json!("x") } else { json!(1.5) };
                json!({
                    "name": input.name, "datatype": input.datatype, "shape": [1],
                    "data": [element],
                })
            })
            .collect();
        let body = json!({ "inputs": inputs }).to_string();
        let request = read(body.as_bytes(), None, &set, MAX_ROWS).unwrap();
        let given = request.rows[0].0.iter().filter(|value| **value != FeatureValue::Missing);
        assert_eq!(given.count(), inputs.len());
    }

    #[test]
    fn the_outputs_are_the_available_ones() {
        let set = FeatureSet::parse(RETAIL).unwrap();
        for (by, count) in [
            (AnsweringScorer::Fallback, 5),
            (AnsweringScorer::Model { segments: 1 }, 8),
            (AnsweringScorer::Model { segments: 2 }, 9),
        ] {
            let metadata = ModelMetadataBody::new(&set, None, by, MAX_ROWS);
            assert_eq!(metadata.outputs.len(), count, "{by:?}");
        }
    }
}
