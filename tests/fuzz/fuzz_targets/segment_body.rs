//! A request of the Segment libraries; the first byte chooses the path. A stored message
//! can be parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::event::EventKind;
use segmentd::domain::wire::segment::{Body, RequestForm, read_kept};
use segmentd_fuzz::{LIMITS, NOW, fold, new_id};

fuzz_target!(|bytes: &[u8]| {
    let [choice, body @ ..] = bytes else { return };
    let form = match EventKind::ALL.get(usize::from(*choice) % (EventKind::ALL.len() + 1)) {
        Some(kind) => RequestForm::One(*kind),
        None => RequestForm::Batch,
    };
    let Ok(body) = Body::parse(body, form, 1000) else { return };
    for (index, message) in body.read(NOW, LIMITS, new_id).into_iter().enumerate() {
        let kept = body.kept(index);
        match message {
            Ok(message) => {
                let kept = std::str::from_utf8(&kept).expect("what is kept is text");
                let again = read_kept(kept, NOW, LIMITS, new_id);
                if kept.len() <= LIMITS.max_event_bytes {
                    assert_eq!(again.as_ref(), Ok(&message));
                }
                fold(message);
            }
            Err(faults) => assert!(!faults.is_empty()),
        }
    }
});
