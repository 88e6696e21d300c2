//! `GET /openapi.json`: the document equals the accepted one in `tests/data/openapi.json`.

use segmentd::api::openapi::document;

/// A difference is a change of the API. To accept it, run the `cp` of the message.
#[test]
fn the_openapi_document_is_the_accepted_one() {
    let root = env!("CARGO_MANIFEST_DIR");
    let found = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let accepted = std::fs::read_to_string(format!("{root}/tests/data/openapi.json"));
    if accepted.unwrap_or_default() != found {
        let proposed = format!("{root}/target/openapi.json");
        std::fs::write(&proposed, found).unwrap();
        panic!("the API's description changed; to accept: cp {proposed} tests/data/openapi.json");
    }
}
