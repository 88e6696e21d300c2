//! The body of `POST /v1/score`: every row has every feature, and the number of rows is
//! correct.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::wire::rows;
use segmentd_fuzz::FEATURES;

const MAX_ROWS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let mut count = 0;
    let read = rows::parse_score_request(bytes, &FEATURES, MAX_ROWS, &mut |row, _| {
        count += 1;
        assert_eq!(row.0.len(), FEATURES.features().len());
        Ok(())
    });
    assert!(count <= MAX_ROWS);
    if let Ok(envelope) = read {
        assert_eq!(envelope.rows, count);
    }
});
