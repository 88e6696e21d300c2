//! Inference request: parsed and checked against the feature set. Every fault is reported.

use std::borrow::Cow;
use std::fmt::Display;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureRow, FeatureSet, FeatureValue, ValueType};
use crate::domain::wire::bounded::{self, BoundedArrayError};
use crate::domain::wire::inference::OutputTensor;
use crate::domain::wire::inference::data::{FeatureColumn, TargetFeature};
use crate::domain::wire::inference::datatype::TensorDatatype;

/// A parsed inference request.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceRequest<'b> {
    /// The client's id, returned with the response.
    pub id: Option<Cow<'b, str>>,
    pub rows: Vec<FeatureRow>,
    pub outputs: Vec<RequestedOutput>,
}

/// A requested output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedOutput {
    pub output: OutputTensor,
    /// In binary data after the JSON.
    pub binary: bool,
}

/// Error of an unreadable request.
#[derive(Debug)]
pub enum InferenceRequestError {
    Json(serde_json::Error),
    Faults(ValidationFaults),
}

/// Parses a request. If binary data follows the JSON, `json_bytes` is the length of the JSON.
pub fn read<'b>(
    body: &'b [u8],
    json_bytes: Option<usize>,
    features: &FeatureSet,
    max_rows: usize,
) -> Result<InferenceRequest<'b>, InferenceRequestError> {
    let Some((json, binary)) = body.split_at_checked(json_bytes.unwrap_or(body.len())) else {
        let problem = format!("is more than the {} bytes of the body", body.len());
        return Err(InferenceRequestError::Faults(ValidationFaults::single(
            "Inference-Header-Content-Length",
            problem,
        )));
    };
    let json: RequestJson<'b> =
        serde_json::from_slice(json).map_err(InferenceRequestError::Json)?;
    let mut faults = ValidationFaults::default();
    let request = json.check(binary, features, max_rows, &mut faults);
    faults.into_result(request).map_err(InferenceRequestError::Faults)
}

/// The JSON of a request. Its parts are parsed separately, so that a fault in one part names it
/// and the others are still parsed.
#[derive(Deserialize)]
#[serde(expecting = "an object with `inputs`")]
struct RequestJson<'b> {
    #[serde(borrow)]
    id: Option<&'b RawValue>,
    #[serde(borrow)]
    parameters: Option<&'b RawValue>,
    #[serde(borrow)]
    inputs: Option<&'b RawValue>,
    #[serde(borrow)]
    outputs: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct JsonInput<'b> {
    #[serde(borrow)]
    name: Option<&'b RawValue>,
    #[serde(borrow)]
    datatype: Option<&'b RawValue>,
    #[serde(borrow)]
    shape: Option<&'b RawValue>,
    #[serde(borrow)]
    parameters: Option<&'b RawValue>,
    #[serde(borrow)]
    data: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct JsonOutput<'b> {
    #[serde(borrow)]
    name: Option<&'b RawValue>,
    #[serde(borrow)]
    parameters: Option<&'b RawValue>,
}

/// The parameters of the binary tensor extension; others are ignored.
#[derive(Default, Deserialize)]
struct BinaryParameters<'b> {
    /// In a request: all outputs in binary form.
    #[serde(borrow, rename = "binary_data_output")]
    all: Option<&'b RawValue>,
    /// In an output: this output in binary form.
    #[serde(borrow, rename = "binary_data")]
    this: Option<&'b RawValue>,
    /// In an input: the size of its binary data.
    #[serde(borrow, rename = "binary_data_size")]
    size: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct JsonText<'b>(#[serde(borrow)] Cow<'b, str>);

/// An input that is valid as far as can be decided without its elements.
struct InputTensor<'b> {
    feature: TargetFeature,
    path: String,
    datatype: Cow<'b, str>,
    read_as: TensorDatatype,
    rows: usize,
    /// Two dimensions, the second of size 1.
    is_nested: bool,
    content: TensorContent<'b>,
}

enum TensorContent<'b> {
    Json(&'b RawValue),
    Binary(&'b [u8]),
}

/// Parses an optional part.
fn part<'b, T: Deserialize<'b>>(
    json: Option<&'b RawValue>,
    path: impl Display,
    right: &str,
    faults: &mut ValidationFaults,
) -> Option<T> {
    let read = serde_json::from_str(json?.get());
    read.map_err(|_| {
        faults.push(ValidationFault::new(path.to_string(), format!("must be {right}")));
    })
    .ok()
}

/// Parses an optional array with at most `most` elements. Each element can cause several
/// faults, so no element beyond the limit is parsed.
fn list<'b, T: Deserialize<'b>>(
    json: Option<&'b RawValue>,
    path: &str,
    right: &str,
    most: usize,
    faults: &mut ValidationFaults,
) -> Option<Vec<T>> {
    match bounded::parse_elements(json?.get().as_bytes(), most) {
        Ok(elements) => Some(elements),
        Err(BoundedArrayError::TooMany(most)) => {
            faults.push(ValidationFault::new(
                path,
                format!("has more than {most} elements: each name once"),
            ));
            None
        }
        Err(BoundedArrayError::Json(_)) => {
            faults.push(ValidationFault::new(path, format!("must be {right}")));
            None
        }
    }
}

/// Parses a required part.
fn required<'b, T: Deserialize<'b>>(
    json: Option<&'b RawValue>,
    path: impl Display,
    right: &str,
    faults: &mut ValidationFaults,
) -> Option<T> {
    if json.is_none() {
        faults.push(ValidationFault::new(path.to_string(), format!("is required: {right}")));
    }
    part(json, path, right, faults)
}

fn parameters<'b>(
    json: Option<&'b RawValue>,
    path: impl Display,
    faults: &mut ValidationFaults,
) -> BinaryParameters<'b> {
    part(json, path, "an object", faults).unwrap_or_default()
}

impl<'b> RequestJson<'b> {
    fn check(
        &self,
        binary: &'b [u8],
        features: &FeatureSet,
        max_rows: usize,
        faults: &mut ValidationFaults,
    ) -> InferenceRequest<'b> {
        let id: Option<JsonText<'b>> = part(self.id, "id", "a string", faults);
        let outputs = self.outputs(faults);
        let tensors = self.tensors(binary, features, faults);
        let mut rows = Vec::new();
        if let Some(count) = row_count(&tensors, max_rows, faults) {
            rows = vec![FeatureRow(vec![FeatureValue::Missing; features.features().len()]); count];
            for tensor in tensors {
                tensor.read_into(&mut rows, faults);
            }
        }
        InferenceRequest { id: id.map(|JsonText(id)| id), rows, outputs }
    }

    /// The requested outputs; all outputs if none is named.
    fn outputs(&self, faults: &mut ValidationFaults) -> Vec<RequestedOutput> {
        let given = parameters(self.parameters, "parameters", faults).all;
        let path = "parameters.binary_data_output";
        let binary = part(given, path, "true or false", faults).unwrap_or(false);
        let right = "an array of objects with `name`";
        let named: Vec<JsonOutput<'b>> =
            list(self.outputs, "outputs", right, 2 * OutputTensor::ALL.len(), faults)
                .unwrap_or_default();
        if named.is_empty() {
            return OutputTensor::ALL.map(|output| RequestedOutput { output, binary }).to_vec();
        }
        let mut outputs: Vec<RequestedOutput> = Vec::with_capacity(named.len());
        for (at, json) in named.iter().enumerate() {
            let Some(asked) = json.check(at, binary, faults) else { continue };
            if outputs.iter().any(|earlier| earlier.output == asked.output) {
                let problem = format!("`{}` is requested twice", asked.output.name());
                faults.push(ValidationFault::new(format!("outputs[{at}].name"), problem));
            }
            outputs.push(asked);
        }
        outputs
    }

    fn tensors(
        &self,
        mut binary: &'b [u8],
        features: &FeatureSet,
        faults: &mut ValidationFaults,
    ) -> Vec<InputTensor<'b>> {
        let right = "an array of tensors: objects with `name`, `datatype`, `shape` and `data`";
        if self.inputs.is_none() {
            faults.push(ValidationFault::new("inputs", format!("is required: {right}")));
        }
        // Twice the number of features, so that the fault for a repeated name can name it.
        let most = 2 * features.features().len();
        let inputs: Vec<JsonInput<'b>> =
            list(self.inputs, "inputs", right, most, faults).unwrap_or_default();
        let mut tensors: Vec<InputTensor<'b>> = Vec::with_capacity(inputs.len());
        for (at, json) in inputs.iter().enumerate() {
            let Some(tensor) = json.check(at, &mut binary, features, faults) else { continue };
            if tensors.iter().any(|earlier| earlier.feature.index == tensor.feature.index) {
                faults.push(ValidationFault::new(&tensor.path, "occurs twice"));
            }
            tensors.push(tensor);
        }
        if !binary.is_empty() && faults.is_empty() {
            let problem = format!("{} bytes of binary data belong to no input", binary.len());
            faults.push(ValidationFault::new("inputs", problem));
        }
        tensors
    }
}

impl JsonOutput<'_> {
    fn check(
        &self,
        at: usize,
        binary: bool,
        faults: &mut ValidationFaults,
    ) -> Option<RequestedOutput> {
        let path = format!("outputs[{at}]");
        let given = parameters(self.parameters, format_args!("{path}.parameters"), faults);
        let asked = format_args!("{path}.parameters.binary_data");
        let binary = part(given.this, asked, "true or false", faults).unwrap_or(binary);
        let name = format_args!("{path}.name");
        let JsonText(text) = required(self.name, name, "the name of an output", faults)?;
        let output = OutputTensor::ALL.into_iter().find(|output| output.name() == text);
        if output.is_none() {
            let known = OutputTensor::ALL.map(OutputTensor::name).join(", ");
            faults.push(ValidationFault::new(
                name.to_string(),
                format!("there is no output `{text}`; known are {known}"),
            ));
        }
        output.map(|output| RequestedOutput { output, binary })
    }
}

impl<'b> JsonInput<'b> {
    /// Takes the input's part off `binary` in any case, as later inputs follow it.
    fn check(
        &self,
        at: usize,
        binary: &mut &'b [u8],
        features: &FeatureSet,
        faults: &mut ValidationFaults,
    ) -> Option<InputTensor<'b>> {
        let name_path = format_args!("inputs[{at}].name");
        let name: Option<JsonText<'b>> =
            required(self.name, name_path, "the name of a feature", faults);
        let path = match &name {
            Some(JsonText(name)) => format!("inputs.{name}"),
            None => format!("inputs[{at}]"),
        };
        let content = self.content(&path, binary, faults);
        let shape = self.shape(&path, faults);
        let right = "an element type such as FP64 or BYTES";
        let datatype: Option<JsonText<'b>> =
            required(self.datatype, format_args!("{path}.datatype"), right, faults);
        let JsonText(name) = name?;
        let Some(feature) = features.index_of(&name) else {
            let known: Vec<&str> = features.features().iter().map(|def| &*def.name).collect();
            let problem = format!("is not a feature; known are {}", known.join(", "));
            faults.push(ValidationFault::new(path, problem));
            return None;
        };
        let JsonText(datatype) = datatype?;
        let read_as = TensorDatatype::parse(&datatype);
        let right = match (features.value_type_at(feature), read_as) {
            (ValueType::Number, Some(TensorDatatype::Number(_)))
            | (ValueType::Text, Some(TensorDatatype::Bytes)) => None,
            (ValueType::Number, _) => {
                Some("a number: FP64, FP32, INT8 to INT64, UINT8 to UINT64 or BOOL")
            }
            (ValueType::Text, _) => Some("a text: BYTES"),
        };
        if let Some(right) = right {
            let problem = format!("must be that of {right}; it is `{datatype}`");
            faults.push(ValidationFault::new(format!("{path}.datatype"), problem));
        }
        let (rows, is_nested) = shape?;
        Some(InputTensor {
            feature: TargetFeature { index: feature, bounds: features.bounds_at(feature) },
            path,
            datatype,
            read_as: read_as?,
            rows,
            is_nested,
            content: content?,
        })
    }

    fn content(
        &self,
        path: &str,
        binary: &mut &'b [u8],
        faults: &mut ValidationFaults,
    ) -> Option<TensorContent<'b>> {
        let given = parameters(self.parameters, format_args!("{path}.parameters"), faults);
        let size_path = format_args!("{path}.parameters.binary_data_size");
        let size: Option<usize> = part(given.size, size_path, "a number of bytes", faults);
        match (self.data, size) {
            (Some(data), None) => Some(TensorContent::Json(data)),
            (None, None) => {
                let problem = "is required: an array, or `parameters.binary_data_size`";
                faults.push(ValidationFault::new(format!("{path}.data"), problem));
                None
            }
            (data, Some(size)) => {
                if data.is_some() {
                    let problem = "must not be given when `parameters.binary_data_size` is";
                    faults.push(ValidationFault::new(format!("{path}.data"), problem));
                }
                let Some((mine, rest)) = binary.split_at_checked(size) else {
                    let left = binary.len();
                    faults.push(ValidationFault::new(
                        size_path.to_string(),
                        format!(
                            "is {size}, and {left} bytes are left after the JSON, whose length \
                             the header Inference-Header-Content-Length gives"
                        ),
                    ));
                    return None;
                };
                *binary = rest;
                Some(TensorContent::Binary(mine))
            }
        }
    }

    /// The number of rows, and whether the tensor has a second dimension.
    fn shape(&self, path: &str, faults: &mut ValidationFaults) -> Option<(usize, bool)> {
        let path = format_args!("{path}.shape");
        let right = "[rows] or [rows, 1]";
        let Some(json) = self.shape else {
            faults.push(ValidationFault::new(path.to_string(), format!("is required: {right}")));
            return None;
        };
        let path = path.to_string();
        let shape: Vec<usize> = list(Some(json), &path, right, MAX_DIMENSIONS, faults)?;
        match shape[..] {
            [rows] => Some((rows, false)),
            [rows, 1] => Some((rows, true)),
            _ => {
                let problem = format!("must be {right}; it is {shape:?}");
                faults.push(ValidationFault::new(path, problem));
                None
            }
        }
    }
}

/// Maximum number of dimensions that are parsed, of which at most two are valid.
const MAX_DIMENSIONS: usize = 8;

/// The common number of rows of all inputs. It is checked before an allocation of that size.
fn row_count(
    tensors: &[InputTensor<'_>],
    max_rows: usize,
    faults: &mut ValidationFaults,
) -> Option<usize> {
    let Some(first) = tensors.first() else {
        if faults.is_empty() {
            faults.push(ValidationFault::new(
                "inputs",
                "must not be empty: inputs determine the number of rows",
            ));
        }
        return None;
    };
    if first.rows > max_rows {
        let problem = format!("has {} rows; at most {max_rows} are accepted", first.rows);
        faults.push(ValidationFault::new(format!("{}.shape", first.path), problem));
        return None;
    }
    let others = tensors.iter().filter(|tensor| tensor.rows != first.rows);
    let before = faults.0.len();
    faults.0.extend(others.map(|tensor| {
        let problem = format!("has {} rows, and `{}` has {}", tensor.rows, first.path, first.rows);
        ValidationFault::new(format!("{}.shape", tensor.path), problem)
    }));
    (faults.0.len() == before).then_some(first.rows)
}

impl InputTensor<'_> {
    fn read_into(&self, rows: &mut [FeatureRow], faults: &mut ValidationFaults) {
        let column = FeatureColumn::new(rows, self.feature, &self.datatype, self.read_as);
        let read = match self.content {
            TensorContent::Json(data) => column.read_json(data, self.is_nested),
            TensorContent::Binary(data) => column.read_binary(data),
        };
        if let Err(problem) = read {
            faults.push(ValidationFault::new(format!("{}.data", self.path), problem));
        }
    }
}
