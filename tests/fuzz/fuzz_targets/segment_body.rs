//! A request of the Segment libraries; the first byte chooses the path. A stored message
//! can be parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::event::EventKind;
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody, parse_stored_message};
use segmentd_fuzz::{LIMITS, NOW, fold, new_id};

fuzz_target!(|bytes: &[u8]| {
    let [choice, body @ ..] = bytes else { return };
    let form = match EventKind::ALL.get(usize::from(*choice) % (EventKind::ALL.len() + 1)) {
        Some(kind) => RequestForm::One(*kind),
        None => RequestForm::Batch,
    };
    let Ok(body) = SegmentRequestBody::parse(body, form, 1000) else { return };
    for (index, message) in body.read(NOW, &LIMITS, new_id).into_iter().enumerate() {
        let stored = body.to_stored_message(index);
        match message {
            Ok(message) => {
                let stored = std::str::from_utf8(&stored).expect("a stored message is UTF-8");
                let again = parse_stored_message(stored, NOW, &LIMITS, new_id);
                if stored.len() <= LIMITS.max_event_bytes {
                    assert_eq!(again.as_ref(), Ok(&message));
                }
                fold(message);
            }
            Err(faults) => assert!(!faults.is_empty()),
        }
    }
});
