//! The splitter of arrays of events: one element that is not JSON costs no other.

use proptest::prelude::*;
use segmentd::domain::wire::elements::{
    ArrayPosition, ElementsError, JsonElement, SplitArray, split_array,
};
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn split(body: &[u8]) -> Result<SplitArray<'_>, ElementsError> {
    split_array(body, 0, ArrayPosition::WholeBody, 1000)
}

/// The text of each element, with whether it is valid JSON.
fn elements(body: &[u8]) -> Vec<(String, bool)> {
    let text = |element: &JsonElement<'_>| String::from_utf8_lossy(element.bytes()).into_owned();
    let split = split(body).unwrap().elements;
    split.iter().map(|one| (text(one), matches!(one, JsonElement::Valid(_)))).collect()
}

/// A valid event of either format.
fn event(number: usize) -> Value {
    let order = json!({
        "type": "track", "event": "Order Completed", "userId": format!("u{number}"),
        "properties": { "items": [{ "sku": "a, b" }, { "sku": "c" }], "note": "he said \"x\", {y}" },
    });
    let login = json!({ "type": "identify", "customer_id": number, "traits": [] });
    if number.is_multiple_of(3) { login } else { order }
}

/// Elements as real clients send them that are not JSON.
const BROKEN: [&[u8]; 30] = [
    br#"{"type":"track","userId":"u","properties":{"v":NaN}}"#,
    br#"{"v":Infinity,"w":-Infinity}"#,
    br#"{"v":undefined}"#,
    b"NaN",
    b"{'type':'track','userId':'u'}",
    b"{'type':'track','name':'it\"s'}",
    br#"{"a":1,}"#,
    br#"{"a":[1,2,]}"#,
    br#"{"a":007}"#,
    br#"{"a":+1}"#,
    br#"{"a":.5}"#,
    br#"{"a":1.}"#,
    b"{\"a\":\"x\ty\"}",
    b"{\"a\":\"x\ny\"}",
    b"{\"a\":\"caf\xe9\"}",
    b"{\"a\":\"\xff\xfe\"}",
    br#"{"a":"\x41"}"#,
    br#"{"a":"\u12"}"#,
    br#"{"a":"x}"#,
    br#"{"a":"x, "b":1}"#,
    br#"{"type":"track","event":"x,"userId":"u","properties":{"items":[{"p":1},{"p":2}]}}"#,
    br#"{"a":x"}"#,
    br#"{"a":{"b":1}"#,
    br#"{"a":[1,2}"#,
    br#"{"a":[{"b":1},{"b":2}"#,
    br#"{"a":1}}"#,
    br#"{"a":1]}"#,
    br"{a:1}",
    br#"{"a" 1}"#,
    b"\x00",
];

fn body_of(elements: &[Vec<u8>]) -> Vec<u8> {
    [b"[".as_slice(), &elements.join(&b", "[..]), b"]"].concat()
}

#[test]
fn a_broken_element_anywhere_costs_no_other() {
    for broken in BROKEN {
        for place in 0..4 {
            let mut all: Vec<Vec<u8>> = (0..3).map(|n| event(n).to_string().into()).collect();
            all.insert(place, broken.to_vec());
            let body = body_of(&all);
            let found = split(&body).unwrap();
            let shown = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(found.elements.len(), 4, "{shown}");
            for (index, element) in found.elements.iter().enumerate() {
                assert_eq!(element.bytes(), all[index], "{index}: {shown}");
                assert_eq!(
                    matches!(element, JsonElement::Broken { .. }),
                    index == place,
                    "{shown}"
                );
            }
        }
    }
}

#[test]
fn a_broken_message_of_a_batch_costs_no_other_and_not_the_key() {
    for broken in BROKEN {
        for place in 0..4 {
            let mut all: Vec<Vec<u8>> = (0..3).map(|n| event(n).to_string().into()).collect();
            all.insert(place, broken.to_vec());
            for (before, after) in [
                ("{\"writeKey\":\"k\",\"batch\":", "}"),
                ("{\"batch\":", ",\"sentAt\":\"2024-05-01T12:00:00Z\",\"writeKey\":\"k\"}\n"),
            ] {
                let body = [before.as_bytes(), &body_of(&all), after.as_bytes()].concat();
                let shown = String::from_utf8_lossy(&body).into_owned();
                let read = SegmentRequestBody::parse(&body, RequestForm::Batch, 1000).unwrap();
                assert_eq!(read.write_key.as_deref(), Some("k"), "{shown}");
                assert_eq!(read.len(), 4, "{shown}");
                assert_eq!(read.to_stored_message(place), broken, "{shown}");
            }
        }
    }
}

#[test]
fn commas_too_many_are_no_elements_and_other_values_are() {
    let texts = |body: &[u8]| elements(body).into_iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(texts(b"[]"), [""; 0]);
    assert_eq!(texts(b" [ ] ".trim_ascii()), [""; 0]);
    assert_eq!(texts(b"[1,,2,]"), ["1", "2"]);
    assert_eq!(texts(b"[ NaN , null ]"), ["NaN", "null"]);
    assert_eq!(texts(b"[1]]"), ["1]"]);
    assert_eq!(texts(br#"["a,b", [1, 2], {"c": [3]}]"#), [r#""a,b""#, "[1, 2]", r#"{"c": [3]}"#]);
}

#[test]
fn an_array_without_an_end_is_an_error() {
    for body in [&b"["[..], b"[1", b"[1,", br#"[{"a":1},{"b":"#, b"[1] 2"] {
        let message = match split(body) {
            Err(ElementsError::Syntax(error)) => error.to_string(),
            other => panic!("{other:?}: {}", String::from_utf8_lossy(body)),
        };
        assert!(message.contains(" at byte "), "{message}");
    }
    let most = split_array(b"[1,2,3]", 0, ArrayPosition::WholeBody, 2);
    assert_eq!(most, Err(ElementsError::TooMany(2)));
}

/// Scans of nested openings overlap: their total is bounded.
#[test]
fn hostile_bodies_are_split() {
    // A split that starts again at each element would take hours.
    let bytes = 1_000_000;
    for part in [r#"[0,{"type":"track","userId":"#, ",{", r#"","#, "]", r#",{"a":"},"#] {
        let body = format!("[{}", part.repeat(bytes / part.len()));
        let split = split_array(body.as_bytes(), 0, ArrayPosition::WholeBody, 10_000_000);
        let elements = split.map_or(0, |split| {
            split.elements.iter().map(|element| element.bytes().len()).sum::<usize>()
        });
        assert!(elements < body.len(), "{part}: {elements} bytes");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[ -~é\u{1f600}\t\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[a-c\"\\\\,{]{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_broken() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..BROKEN.len()).prop_map(|index| BROKEN[index].to_vec()),
        // A valid event with one byte less or another.
        (1..100_usize, any::<prop::sample::Index>(), proptest::option::of(any::<u8>())).prop_map(
            |(number, place, byte)| {
                let mut text = event(number).to_string().into_bytes();
                let at = place.index(text.len());
                match byte {
                    Some(byte) => text[at] = byte,
                    None => {
                        text.remove(at);
                    }
                }
                text
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// A valid array is split as `serde_json` splits it, and nothing else is taken as valid.
    #[test]
    fn valid_arrays_are_split_by_the_grammar(
        values in proptest::collection::vec(any_json(), 0..6), pretty in any::<bool>(),
    ) {
        let body = if pretty {
            serde_json::to_vec_pretty(&values).unwrap()
        } else {
            serde_json::to_vec(&values).unwrap()
        };
        let strict: Vec<&RawValue> = serde_json::from_slice(&body).unwrap();
        let found = split(&body).unwrap();
        prop_assert_eq!(found.end, body.len());
        prop_assert_eq!(found.elements.len(), strict.len());
        for (element, raw) in found.elements.iter().zip(strict) {
            prop_assert!(matches!(element, JsonElement::Valid(_)));
            prop_assert_eq!(element.bytes(), raw.get().as_bytes());
        }
    }

    /// Good events with one arbitrary broken element in any place: all good ones are found.
    #[test]
    fn one_broken_element_costs_no_good_event(
        numbers in proptest::collection::vec(0..1000_usize, 1..6),
        broken in any_broken(), place in any::<prop::sample::Index>(),
    ) {
        let good: Vec<Vec<u8>> = numbers.iter().map(|n| event(*n).to_string().into()).collect();
        let place = place.index(good.len() + 1);
        let mut all = good.clone();
        all.insert(place, broken.clone());
        let body = body_of(&all);
        let found = split(&body).unwrap().elements;
        let texts: Vec<&[u8]> = found.iter().map(JsonElement::bytes).collect();
        prop_assert!(texts.ends_with(&good[place..].iter().map(Vec::as_slice).collect::<Vec<_>>()),
            "{}", String::from_utf8_lossy(&body));
        prop_assert!(texts.starts_with(&good[..place].iter().map(Vec::as_slice).collect::<Vec<_>>()));
        // The broken element is kept with its bytes, whole or in parts.
        let kept = texts[place..texts.len() - (good.len() - place)].concat();
        let bytes = |text: &[u8]| {
            text.iter().copied().filter(|b| !b.is_ascii_whitespace() && *b != b',').collect::<Vec<_>>()
        };
        prop_assert_eq!(bytes(&kept), bytes(&broken), "{}", String::from_utf8_lossy(&body));
    }

    #[test]
    fn any_bytes_are_split_or_refused(bytes in "[\\[\\]{}\",:0-9a\\\\ \n]{0,40}") {
        let body = format!("[{bytes}");
        if let Ok(found) = split(body.as_bytes()) {
            prop_assert!(found.end <= body.len());
            if let Ok(strict) = serde_json::from_str::<Vec<&RawValue>>(&body) {
                prop_assert_eq!(strict.len(), found.elements.len());
            }
        } else {
            prop_assert!(serde_json::from_str::<Vec<&RawValue>>(&body).is_err());
        }
    }
}
