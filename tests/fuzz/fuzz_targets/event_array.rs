//! The splitter of arrays of events: it agrees with `serde_json` on valid arrays, and never
//! takes an element as valid that is not. The first byte chooses the position of the array.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::json::RawJson;
use segmentd::domain::wire::elements::{ArrayPosition, JsonElement, split_array};
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use segmentd_fuzz::{LIMITS, NOW, fold, new_id};
use serde_json::value::RawValue;

const MAX_ELEMENTS: usize = 1000;

fuzz_target!(|bytes: &[u8]| {
    let [choice, elements @ ..] = bytes else { return };
    let array = [b"[", elements, b"]"].concat();
    if choice.is_multiple_of(2) {
        let split = split_array(&array, 0, ArrayPosition::WholeBody, MAX_ELEMENTS);
        let strict = serde_json::from_slice::<Vec<&RawValue>>(&array);
        let Ok(split) = split else {
            assert!(strict.is_err() || strict.is_ok_and(|all| all.len() > MAX_ELEMENTS));
            return;
        };
        assert!(split.end <= array.len());
        if let Ok(strict) = &strict {
            assert_eq!(split.elements.len(), strict.len());
        }
        for (index, element) in split.elements.iter().enumerate() {
            match element {
                JsonElement::Valid(json) => assert_eq!(Ok(*json), RawJson::parse(element.bytes())),
                JsonElement::Broken { bytes, .. } => {
                    assert!(!bytes.is_empty() && strict.is_err(), "{index}");
                }
            }
        }
        return;
    }
    let body = [b"{\"batch\":", &array[..], b",\"writeKey\":\"k\"}"].concat();
    let Ok(body) = SegmentRequestBody::parse(&body, RequestForm::Batch, MAX_ELEMENTS) else {
        return;
    };
    for message in body.read(NOW, &LIMITS, new_id).flatten() {
        fold(message);
    }
});
