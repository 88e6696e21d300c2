//! Requests and responses of inference. [`domain::wire::inference`](crate::domain::wire::inference)
//! reads and writes them without these types, which describe their JSON.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Feature tensors of rows to score.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "id": "request-1", "inputs": [
    { "name": "recency_days", "datatype": "FP64", "shape": [2], "data": [3, 41] },
    { "name": "orders_365d", "datatype": "INT64", "shape": [2, 1], "data": [[12], [1]] },
] }))]
pub(super) struct InferenceRequestBody {
    /// Returned unchanged.
    id: Option<String>,
    parameters: Option<InferenceRequestParametersBody>,
    /// One tensor for each feature, all with the same number of rows. A feature without a tensor
    /// is missing.
    #[schema(min_items = 1)]
    inputs: Vec<InferenceInputBody>,
    /// Requested outputs; default all.
    outputs: Option<Vec<RequestedOutputBody>>,
}

/// Parameters of a request; others are ignored.
#[derive(Serialize, ToSchema)]
struct InferenceRequestParametersBody {
    /// Return all outputs as binary data.
    #[schema(default = false)]
    binary_data_output: Option<bool>,
}

/// One feature of every row.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "name": "recency_days", "datatype": "FP64", "shape": [2], "data": [3, 41],
}))]
struct InferenceInputBody {
    /// Name of the feature, as listed by the model metadata.
    name: String,
    datatype: TensorDatatypeBody,
    /// `[rows]` or `[rows, 1]`.
    #[schema(min_items = 1, max_items = 2)]
    shape: Vec<u64>,
    /// One element per row; null is missing. With the shape `[rows, 1]`, elements may be arrays of
    /// one.
    data: Option<Vec<TensorItemBody>>,
    parameters: Option<InferenceInputParametersBody>,
}

/// Parameters of an input; others are ignored.
#[derive(Serialize, ToSchema)]
struct InferenceInputParametersBody {
    /// Instead of `data`: number of bytes of the input after the JSON. NaN is missing.
    #[schema(minimum = 0)]
    binary_data_size: Option<u64>,
}

/// A requested output.
#[derive(Serialize, ToSchema)]
struct RequestedOutputBody {
    name: OutputNameBody,
    parameters: Option<RequestedOutputParametersBody>,
}

/// Parameters of a requested output; others are ignored.
#[derive(Serialize, ToSchema)]
struct RequestedOutputParametersBody {
    /// Return the output as binary data; default `binary_data_output` of the request.
    binary_data: Option<bool>,
}

/// Type of the elements of a tensor.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "names a schema only")]
enum TensorDatatypeBody {
    Fp64,
    Fp32,
    Int64,
    Int32,
    Int16,
    Int8,
    Uint64,
    Uint32,
    Uint16,
    Uint8,
    Bool,
    Bytes,
}

/// An element of a tensor, or a row of it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = 3)]
#[expect(dead_code, reason = "names a schema only")]
enum TensorItemBody {
    Element(TensorElementBody),
    Row(Vec<TensorElementBody>),
}

/// An element of a tensor.
#[derive(Serialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "names a schema only")]
enum TensorElementBody {
    Number(f64),
}

impl PartialSchema for TensorElementBody {
    fn schema() -> RefOr<Schema> {
        let types = [Type::Number, Type::String, Type::Boolean, Type::Null];
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter(types))
            .description(Some("An element of a tensor, by its datatype; null is missing."))
            .examples([3])
            .into()
    }
}

impl ToSchema for TensorElementBody {
    fn name() -> Cow<'static, str> {
        "TensorElementBody".into()
    }
}

/// The JSON of a request or a response, then the binary data of its tensors in their order:
/// little-endian numbers, and texts after their length as a 4-byte integer.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct BinaryTensorsBody(Vec<u8>);

/// Score tensors, one element per row.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model_name": "segments",
    "model_version": "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c",
    "id": "request-1",
    "parameters": { "fallback": false, "generation": 2 },
    "outputs": [
        {
            "name": "segment_id", "datatype": "BYTES", "shape": [2],
            "data": ["seg_5f2c8d10b7a94e36", "seg_0b7a91c2d3e4f586"],
        },
        { "name": "distance", "datatype": "FP32", "shape": [2], "data": [2.618, 0.42] },
    ],
}))]
pub(super) struct InferenceResponseBody {
    /// Always `segments`.
    model_name: String,
    /// Id of the model that scored all rows. Left out for the rule-based fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    /// `id` of the request; left out if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    parameters: InferenceResponseParametersBody,
    /// The requested outputs. The fallback leaves out outputs that need a distance.
    outputs: Vec<InferenceOutputBody>,
}

/// The deployment that scored the rows.
#[derive(Serialize, ToSchema)]
struct InferenceResponseParametersBody {
    /// Whether the rule-based fallback scored the rows.
    fallback: bool,
    /// Number of the deployment.
    generation: i64,
}

/// One output of every row.
#[derive(Serialize, ToSchema)]
struct InferenceOutputBody {
    name: OutputNameBody,
    datatype: TensorDatatypeBody,
    /// `[rows]`.
    #[schema(min_items = 1, max_items = 1)]
    shape: Vec<u64>,
    /// Left out without binary data.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySizeBody>,
    /// One element per row. Left out with binary data.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<TensorElementBody>>,
}

/// Size of binary data.
#[derive(Serialize, ToSchema)]
struct BinarySizeBody {
    /// Number of bytes of the output after the JSON.
    binary_data_size: u64,
}

/// Name of an output. `segment_index` is the index of the segment in the model, or -1 for a row in
/// no segment; `segment_id` is the same over trainings, or `unassigned`. `missing_inputs` is the
/// number of inputs of the model without a value in the row.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "names a schema only")]
enum OutputNameBody {
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
