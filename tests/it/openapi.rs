//! The API's description is what it was, until a change is accepted.

use segmentd::api::openapi::document;

/// A difference is a change of the API. Where it is meant: `cp` as the message says.
#[test]
fn the_document_is_the_accepted_one() {
    let root = env!("CARGO_MANIFEST_DIR");
    let found = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let accepted = std::fs::read_to_string(format!("{root}/tests/data/openapi.json"));
    if accepted.unwrap_or_default() != found {
        let proposed = format!("{root}/target/openapi.json");
        std::fs::write(&proposed, found).unwrap();
        panic!("the API's description changed; to accept: cp {proposed} tests/data/openapi.json");
    }
}
