//! The Open Inference Protocol: tensors become rows, in JSON and binary form, and every
//! error names its input.

use proptest::prelude::*;
use segmentd::domain::feature::{FeatureRow, FeatureSet, FeatureValue};
use segmentd::domain::model::SegmentScore;
use segmentd::domain::wire::inference::{
    AnsweringScorer, InferenceRequest, InferenceRequestError, InferenceResponse, OutputTensor,
    RequestedOutput, ScoredOutputRow, SerializedResponse, read,
};
use segmentd::domain::wire::rows;
use serde_json::json;

use crate::feature::support::{FOLDS, RETAIL};

const MAX_ROWS: usize = 100;

fn set() -> FeatureSet {
    FeatureSet::parse(RETAIL).unwrap()
}

fn read_json<'b>(set: &FeatureSet, body: &'b [u8]) -> InferenceRequest<'b> {
    read(body, None, set, MAX_ROWS).unwrap()
}

/// One input with the numbers or texts of these rows, as JSON.
fn tensor(name: &str, datatype: &str, values: &[serde_json::Value]) -> serde_json::Value {
    json!({ "name": name, "datatype": datatype, "shape": [values.len()], "data": values })
}

/// The same body in two forms: elements in the JSON, and binary elements after it.
fn request(parts: &[(&str, &str, Vec<u8>, usize)]) -> (Vec<u8>, usize) {
    let inputs: Vec<_> = parts
        .iter()
        .map(|(name, datatype, bytes, rows)| {
            json!({
                "name": name,
                "datatype": datatype,
                "shape": [rows],
                "parameters": { "binary_data_size": bytes.len() },
            })
        })
        .collect();
    let mut body = json!({ "inputs": inputs }).to_string().into_bytes();
    let json_bytes = body.len();
    body.extend(parts.iter().flat_map(|(_, _, bytes, _)| bytes));
    (body, json_bytes)
}

fn texts(values: &[String]) -> Vec<u8> {
    let of = |text: &String| {
        [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
    };
    values.iter().flat_map(of).collect()
}

proptest! {
    /// JSON and binary tensors give the rows that `/v1/score` parses.
    #[test]
    fn tensors_mean_the_rows_of_the_other_door(
        rows in prop::collection::vec((any::<f64>(), prop::option::of(0.0..1e6_f64), ".{0,8}"), 0..20)
    ) {
        let set = set();
        // Days are at least 0.
        let finite = |x: f64| if x.is_finite() { x.abs() } else { 0.5 };
        let recency: Vec<f64> = rows.iter().map(|row| finite(row.0)).collect();
        let spend: Vec<Option<f64>> = rows.iter().map(|row| row.1).collect();
        let store: Vec<String> = rows.iter().map(|row| row.2.clone()).collect();

        let native: Vec<_> = recency.iter().zip(&spend).zip(&store).map(|((recency, spend), store)| {
            json!({ "recency_days": recency, "spend_365d": spend, "last_store": store })
        }).collect();
        let native = json!({ "rows": native }).to_string();
        let mut expected = Vec::new();
        let on_row = &mut |row: &FeatureRow, _: Option<&rows::ScoreRequestEnvelope>| {
            expected.push(row.clone());
            Ok(())
        };
        rows::parse_score_request(native.as_bytes(), &set, MAX_ROWS, on_row).unwrap();

        let json = |values: Vec<serde_json::Value>, name, datatype| tensor(name, datatype, &values);
        let body = json!({ "inputs": [
            json(store.iter().map(|x| json!(x)).collect(), "last_store", "BYTES"),
            json(recency.iter().map(|x| json!(x)).collect(), "recency_days", "FP64"),
            json(spend.iter().map(|x| json!(x)).collect(), "spend_365d", "FP64"),
        ] }).to_string();
        prop_assert_eq!(&read_json(&set, body.as_bytes()).rows, &expected);

        let numbers = |values: Vec<f64>| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let spend = spend.iter().map(|x| x.unwrap_or(f64::NAN)).collect();
        let (body, json_bytes) = request(&[
            ("last_store", "BYTES", texts(&store), store.len()),
            ("recency_days", "FP64", numbers(recency), store.len()),
            ("spend_365d", "FP64", numbers(spend), store.len()),
        ]);
        prop_assert_eq!(&read(&body, Some(json_bytes), &set, MAX_ROWS).unwrap().rows, &expected);
    }

    /// Any input is answered.
    #[test]
    fn noise_is_refused_and_never_a_panic(body in prop::collection::vec(any::<u8>(), 0..200), cut in 0..250_usize) {
        prop_assert!(read(&body, Some(cut), &set(), MAX_ROWS).is_err());
    }

    /// A truncated body, or one with additional bytes, is refused.
    #[test]
    fn a_body_of_another_length_is_refused(off in -12..12_i32) {
        let (mut body, json_bytes) = request(&[("recency_days", "FP64", vec![0; 16], 2)]);
        let length = usize::try_from(i32::try_from(body.len()).unwrap() + off).unwrap();
        body.resize(length, 0);
        prop_assert_eq!(read(&body, Some(json_bytes), &set(), MAX_ROWS).is_ok(), off == 0);
    }
}

#[test]
fn every_number_type_reads_as_the_number() {
    // A signed sum, which may have any value.
    let set = FeatureSet::parse(FOLDS).unwrap();
    let number = |rows: &[FeatureRow]| match &rows[0].0[set.index_of("amount").unwrap()] {
        FeatureValue::Number(number) => *number,
        other => panic!("{other:?}"),
    };
    let table: [(&str, &[u8], serde_json::Value, f64); 13] = [
        ("BOOL", &[1], json!(true), 1.0),
        ("BOOL", &[0], json!(false), 0.0),
        ("UINT8", &[255], json!(255), 255.0),
        ("UINT16", &[255, 255], json!(65535), 65535.0),
        ("UINT32", &[255, 255, 255, 255], json!(u32::MAX), 4_294_967_295.0),
        ("UINT64", &[255; 8], json!(u64::MAX), 18_446_744_073_709_551_615.0),
        ("INT8", &[254], json!(-2), -2.0),
        ("INT16", &[254, 255], json!(-2), -2.0),
        ("INT32", &[254, 255, 255, 255], json!(-2.0), -2.0),
        ("INT64", &[254, 255, 255, 255, 255, 255, 255, 255], json!(-2), -2.0),
        ("FP32", &0.1_f32.to_le_bytes(), json!(0.1), 0.1_f32.into()),
        ("FP64", &0.1_f64.to_le_bytes(), json!(0.1), 0.1),
        ("FP64", &(-0.0_f64).to_le_bytes(), json!(-0.0), -0.0),
    ];
    for (datatype, bytes, element, expected) in table {
        let (body, json_bytes) = request(&[("amount", datatype, bytes.to_vec(), 1)]);
        let found = number(&read(&body, Some(json_bytes), &set, MAX_ROWS).unwrap().rows);
        assert_eq!(found.to_bits(), expected.to_bits(), "{datatype}, binary");
        let body = json!({ "inputs": [tensor("amount", datatype, &[element])] }).to_string();
        let found = number(&read_json(&set, body.as_bytes()).rows);
        assert_eq!(found.to_bits(), expected.to_bits(), "{datatype}, JSON");
    }
}

#[test]
fn a_second_dimension_of_one_is_the_same() {
    let set = set();
    let flat = read_json(&set, br#"{"inputs": [{"name": "orders", "datatype": "INT64", "shape": [2], "data": [1, null]}]}"#);
    for data in ["[1, null]", "[[1], [null]]"] {
        let body = format!(
            r#"{{"id": "7", "parameters": {{"priority": 1}}, "inputs": [
                {{"data": {data}, "shape": [2, 1], "datatype": "INT64", "name": "orders", "parameters": {{"content_type": "np"}}}}
            ]}}"#
        );
        let nested = read_json(&set, body.as_bytes());
        assert_eq!(nested.rows, flat.rows);
        assert_eq!(nested.id.as_deref(), Some("7"));
    }
    assert_eq!(flat.rows[1].0, vec![FeatureValue::Missing; set.features().len()]);
    assert_eq!(
        flat.outputs,
        OutputTensor::ALL.map(|output| RequestedOutput { output, binary: false })
    );
}

#[test]
fn outputs_are_chosen_by_name_each_in_its_form() {
    let body = br#"{"parameters": {"binary_data_output": true},
        "inputs": [{"name": "orders", "datatype": "INT64", "shape": [0], "data": []}],
        "outputs": [{"name": "segment_id"}, {"name": "p_value", "parameters": {"binary_data": false, "classification": 2}}]}"#;
    let outputs = read_json(&set(), body).outputs;
    let expected = [(OutputTensor::SegmentId, true), (OutputTensor::PValue, false)];
    assert_eq!(outputs, expected.map(|(output, binary)| RequestedOutput { output, binary }));
}

/// Each error names its position; all errors of a request are reported at once.
#[test]
fn errors_name_their_input() {
    let set = set();
    let one = |input: &str| format!(r#"{{"inputs": [{input}]}}"#);
    let orders = |datatype: &str, shape: &str, data: &str| {
        one(&format!(
            r#"{{"name": "orders", "datatype": "{datatype}", "shape": {shape}, "data": {data}}}"#
        ))
    };
    let two = |a: &str, b: &str| {
        let input = |name: &str, rows: usize| tensor(name, "FP64", &vec![json!(1); rows]);
        json!({ "inputs": [input(a, 1), input(b, 2)] }).to_string()
    };
    let table: [(String, &str); 32] = [
        ("[]".into(), "expected an object with `inputs`"),
        ("{}".into(), "inputs: is required: an array of tensors"),
        (r#"{"inputs": []}"#.into(), "inputs: must not be empty"),
        (r#"{"inputs": [7]}"#.into(), "inputs: must be an array of tensors"),
        (one("{}"), "inputs[0].name: is required: the name of a feature"),
        (one("{}"), "inputs[0].shape: is required: [rows] or [rows, 1]"),
        (one("{}"), "inputs[0].datatype: is required"),
        (one("{}"), "inputs[0].data: is required"),
        (one(r#"{"name": "ordres"}"#), "inputs.ordres: is not a feature; known are recency_days,"),
        (orders("FP16", "[1]", "[1]"), "inputs.orders.datatype: must be that of a number: FP64"),
        (orders("BYTES", "[1]", r#"["1"]"#), "it is `BYTES`"),
        (
            one(&tensor("last_store", "INT64", &[json!(1)]).to_string()),
            "inputs.last_store.datatype: must be that of a text: BYTES",
        ),
        (
            orders("FP64", "[1, 2]", "[1, 2]"),
            "inputs.orders.shape: must be [rows] or [rows, 1]; it is [1, 2]",
        ),
        (orders("FP64", "[-1]", "[1]"), "inputs.orders.shape: must be [rows] or [rows, 1]"),
        (
            orders("FP64", "[18446744073709551615]", "[1]"),
            "inputs.orders.shape: has 18446744073709551615 rows; at most 100",
        ),
        (orders("FP64", "[2]", "[1]"), "inputs.orders.data: has 1 elements; its shape says 2"),
        (
            orders("FP64", "[1]", "[1, 2]"),
            "inputs.orders.data: has more elements than the 1 of its shape",
        ),
        (
            orders("FP64", "[2]", r#"[1, "x"]"#),
            "inputs.orders.data: element 1 must be a finite number that FP64 can hold",
        ),
        (orders("FP64", "[1]", "[true]"), "element 0 must be a finite number"),
        (orders("FP64", "[1]", "[{}]"), "element 0 must be a finite number"),
        (orders("FP64", "[1]", "[[1]]"), "element 0 must be a finite number"),
        (orders("FP64", "[2, 1]", "[[1, 2]]"), "inputs.orders.data"),
        (orders("FP64", "[1]", "1"), "inputs.orders.data: element 0"),
        (orders("FP32", "[1]", "[1e300]"), "element 0 must be a finite number that FP32 can hold"),
        (orders("INT8", "[1]", "[128]"), "that INT8 can hold"),
        (orders("UINT8", "[1]", "[-1]"), "that UINT8 can hold"),
        (orders("INT32", "[1]", "[1.5]"), "that INT32 can hold"),
        (orders("BOOL", "[1]", "[1]"), "element 0 must be true or false"),
        (two("orders", "gap_days"), "inputs.gap_days.shape: has 2 rows, and `inputs.orders` has 1"),
        (two("orders", "orders"), "inputs.orders: occurs twice"),
        (
            r#"{"inputs": [], "outputs": [{"name": "key"}]}"#.into(),
            "outputs[0].name: there is no output `key`; known are segment_index, segment_id,",
        ),
        (
            r#"{"inputs": [], "outputs": [{"name": "segment_id"}, {"name": "segment_id"}], "id": 7}"#.into(),
            "outputs[1].name: `segment_id` is requested twice",
        ),
    ];
    for (body, expected) in table {
        let text = refusal(read(body.as_bytes(), None, &set, MAX_ROWS));
        assert!(text.contains(expected), "{body}\n{text}");
    }
    let binary = [
        (
            vec![("orders", "FP64", vec![0; 7], 1)],
            "inputs.orders.data: has 7 bytes; 1 elements of FP64 take 8",
        ),
        (
            vec![("orders", "FP64", f64::INFINITY.to_le_bytes().to_vec(), 1)],
            "element 0 must be a finite number",
        ),
        (
            vec![("last_store", "BYTES", vec![9, 0, 0, 0, 65], 1)],
            "inputs.last_store.data: element 0 must be a text in UTF-8",
        ),
        (
            vec![("last_store", "BYTES", vec![1, 0, 0, 0, 255], 1)],
            "element 0 must be a text in UTF-8",
        ),
        (vec![("last_store", "BYTES", Vec::new(), 1)], "has 0 elements; its shape says 1"),
    ];
    for (parts, expected) in binary {
        let (body, json_bytes) = request(&parts);
        let text = refusal(read(&body, Some(json_bytes), &set, MAX_ROWS));
        assert!(text.contains(expected), "{text}");
    }
    let (body, json_bytes) = request(&[("orders", "FP64", vec![0; 8], 1)]);
    let text = refusal(read(&body[..json_bytes], None, &set, MAX_ROWS));
    assert!(text.contains("Inference-Header-Content-Length"), "{text}");
    let text = refusal(read(&body, Some(body.len() + 1), &set, MAX_ROWS));
    assert!(text.contains("Inference-Header-Content-Length: is more than"), "{text}");
}

fn refusal(read: Result<InferenceRequest<'_>, InferenceRequestError>) -> String {
    match read {
        Ok(request) => panic!("read as {request:?}"),
        Err(InferenceRequestError::Json(error)) => error.to_string(),
        Err(InferenceRequestError::Faults(faults)) => faults.to_string(),
    }
}

const SCORE: SegmentScore = SegmentScore {
    nearest: 1,
    prototype: 1,
    is_within_radius: true,
    distance: 0.5,
    runner_up: Some(0),
    runner_up_distance: 2.0,
    p_value: 0.25,
    edge_p_value: 0.5,
};

fn scored(score: Option<SegmentScore>) -> ScoredOutputRow<'static> {
    ScoredOutputRow {
        segment_index: Some(1),
        segment_id: "seg_2",
        segment_name: "Größe",
        runner_up_segment_id: score.map(|_| "seg_1"),
        score,
        outlier: true,
        missing_inputs: 2,
    }
}

fn write(by: AnsweringScorer, rows: &[ScoredOutputRow<'_>], binary: bool) -> SerializedResponse {
    let outputs = OutputTensor::ALL.map(|output| RequestedOutput { output, binary });
    let version = (by != AnsweringScorer::Fallback).then_some("abc");
    let reply = InferenceResponse {
        id: Some("7".into()),
        version,
        by,
        generation: 3,
        outputs: &outputs,
        rows,
    };
    reply.serialize_response().unwrap()
}

#[test]
fn a_reply_is_these_bytes() {
    let by = AnsweringScorer::Model { segments: 2 };
    let rows = [scored(Some(SCORE))];
    let SerializedResponse { body, json_bytes } = write(by, &rows, false);
    assert_eq!(json_bytes, None);
    let json = r#"{"model_name":"segments","model_version":"abc","id":"7","parameters":{"fallback":false,"generation":3},"outputs":[{"name":"segment_index","datatype":"INT64","shape":[1],"data":[1]},{"name":"segment_id","datatype":"BYTES","shape":[1],"data":["seg_2"]},{"name":"segment_name","datatype":"BYTES","shape":[1],"data":["Größe"]},{"name":"distance","datatype":"FP32","shape":[1],"data":[0.5]},{"name":"runner_up_segment_id","datatype":"BYTES","shape":[1],"data":["seg_1"]},{"name":"confidence","datatype":"FP32","shape":[1],"data":[0.75]},{"name":"p_value","datatype":"FP64","shape":[1],"data":[0.25]},{"name":"outlier","datatype":"BOOL","shape":[1],"data":[true]},{"name":"missing_inputs","datatype":"INT64","shape":[1],"data":[2]}]}"#;
    assert_eq!(String::from_utf8(body).unwrap(), json);

    let SerializedResponse { body, json_bytes } = write(by, &rows, true);
    let (json, binary) = body.split_at(json_bytes.unwrap());
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let sizes: Vec<&serde_json::Value> = json["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tensor| &tensor["parameters"]["binary_data_size"])
        .collect();
    assert_eq!(sizes, [8, 9, 11, 4, 9, 4, 8, 1, 8]);
    let expected: [&[u8]; 9] = [
        &1_i64.to_le_bytes(),
        b"\x05\0\0\0seg_2",
        "\x07\0\0\0Größe".as_bytes(),
        &0.5_f32.to_le_bytes(),
        b"\x05\0\0\0seg_1",
        &0.75_f32.to_le_bytes(),
        &0.25_f64.to_le_bytes(),
        &[1],
        &2_i64.to_le_bytes(),
    ];
    assert_eq!(binary, expected.concat());
}

/// Outputs without values are omitted.
#[test]
fn outputs_without_a_value_are_omitted() {
    let names = |tensors: &serde_json::Value| -> Vec<String> {
        let name = |tensor: &serde_json::Value| tensor["name"].as_str().unwrap().to_owned();
        tensors.as_array().unwrap().iter().map(name).collect()
    };
    let fallback = ["segment_index", "segment_id", "segment_name", "outlier", "missing_inputs"];
    let alone = [
        "segment_index",
        "segment_id",
        "segment_name",
        "distance",
        "confidence",
        "p_value",
        "outlier",
        "missing_inputs",
    ];
    for (by, expected) in [
        (AnsweringScorer::Fallback, fallback.as_slice()),
        (AnsweringScorer::Model { segments: 1 }, alone.as_slice()),
        (
            AnsweringScorer::Model { segments: 2 },
            OutputTensor::ALL.map(OutputTensor::name).as_slice(),
        ),
    ] {
        let score = (by != AnsweringScorer::Fallback).then_some(SCORE);
        for binary in [false, true] {
            let SerializedResponse { body, json_bytes } = write(by, &[scored(score)], binary);
            let json = &body[..json_bytes.unwrap_or(body.len())];
            let reply: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(names(&reply["outputs"]), expected);
            assert_eq!(reply["parameters"]["fallback"], by == AnsweringScorer::Fallback);
        }
    }
}
