//! Inference response: scored rows as tensors, in JSON or as binary data after it.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::domain::wire::inference::{
    AnsweringScorer, MODEL_NAME, OutputTensor, RequestedOutput, ScoredOutputRow,
};

/// The parts of a response.
#[derive(Debug)]
pub struct InferenceResponse<'r> {
    pub id: Option<Cow<'r, str>>,
    /// `None` for the fallback.
    pub version: Option<&'r str>,
    pub by: AnsweringScorer,
    pub generation: i64,
    /// The requested outputs; unavailable ones are omitted.
    pub outputs: &'r [RequestedOutput],
    pub rows: &'r [ScoredOutputRow<'r>],
}

/// A serialised response.
#[derive(Debug, PartialEq)]
pub struct SerializedResponse {
    pub body: Vec<u8>,
    /// The length of the JSON, if binary data follows it.
    pub json_bytes: Option<usize>,
}

#[derive(Serialize)]
struct ResponseJson<'r> {
    model_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'r str>,
    parameters: ResponseParameters,
    outputs: Vec<ResponseTensor<'r>>,
}

#[derive(Serialize)]
struct ResponseParameters {
    fallback: bool,
    generation: i64,
}

#[derive(Serialize)]
struct ResponseTensor<'r> {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<OutputColumn<'r>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// One output of every row.
struct OutputColumn<'r> {
    output: OutputTensor,
    rows: &'r [ScoredOutputRow<'r>],
}

impl InferenceResponse<'_> {
    pub fn serialize_response(&self) -> serde_json::Result<SerializedResponse> {
        let mut binary = Vec::new();
        let given = self.outputs.iter().filter(|asked| asked.output.is_available(self.by));
        let json = ResponseJson {
            model_name: MODEL_NAME,
            model_version: self.version,
            id: self.id.as_deref(),
            parameters: ResponseParameters {
                fallback: self.by == AnsweringScorer::Fallback,
                generation: self.generation,
            },
            outputs: given.clone().map(|asked| self.tensor(*asked, &mut binary)).collect(),
        };
        let mut body = serde_json::to_vec(&json)?;
        let json_bytes = given.clone().any(|asked| asked.binary).then_some(body.len());
        body.append(&mut binary);
        Ok(SerializedResponse { body, json_bytes })
    }

    /// The tensor's part of the JSON; if requested, its elements are appended to `binary`.
    fn tensor(
        &self,
        RequestedOutput { output, binary: is_binary }: RequestedOutput,
        binary: &mut Vec<u8>,
    ) -> ResponseTensor<'_> {
        let data = OutputColumn { output, rows: self.rows };
        let before = binary.len();
        if is_binary {
            data.append(binary);
        }
        ResponseTensor {
            name: output.name(),
            datatype: output.datatype(),
            shape: [self.rows.len()],
            parameters: is_binary.then(|| BinarySize { binary_data_size: binary.len() - before }),
            data: (!is_binary).then_some(data),
        }
    }
}

impl OutputColumn<'_> {
    fn append(&self, bytes: &mut Vec<u8>) {
        for element in self.rows.iter().filter_map(|row| self.output.element(row)) {
            element.append(bytes);
        }
    }
}

impl Serialize for OutputColumn<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().filter_map(|row| self.output.element(row)))
    }
}
