//! An event in the native JSON form: parsed, admitted and folded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::json::RawJson;
use segmentd::domain::wire::native;
use segmentd_fuzz::{LIMITS, NOW, fold, new_id};

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = RawJson::parse(bytes) else { return };
    match native::parse_event(event, NOW, &LIMITS, new_id) {
        Ok(message) => fold(message),
        Err(faults) => assert!(!faults.is_empty()),
    }
});
