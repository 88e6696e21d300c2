//! A request of the Open Inference Protocol. The first two bytes say where binary
//! tensors begin after the JSON; 65,535 for none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::wire::inference;
use segmentd_fuzz::FEATURES;

const MAX_ROWS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let [high, low, body @ ..] = bytes else { return };
    let json_bytes = match u16::from_be_bytes([*high, *low]) {
        u16::MAX => None,
        length => Some(usize::from(length)),
    };
    if let Ok(request) = inference::read(body, json_bytes, &FEATURES, MAX_ROWS) {
        assert!(request.rows.len() <= MAX_ROWS);
        for row in &request.rows {
            assert_eq!(row.0.len(), FEATURES.features().len());
        }
    }
});
