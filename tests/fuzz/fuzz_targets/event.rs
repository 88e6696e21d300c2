//! An event in the native JSON form: parsed, admitted and folded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::wire::native;
use segmentd_fuzz::{LIMITS, NOW, fold, new_id};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    match native::parse_event(&value, NOW, LIMITS, new_id) {
        Ok(message) => fold(message),
        Err(faults) => assert!(!faults.is_empty()),
    }
});
