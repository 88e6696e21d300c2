//! NDJSON framing: the lines do not depend on the chunks of bytes. The first two bytes
//! choose the chunk size and the longest line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::wire::lines::{LineLimits, LineSplitter, NdjsonLine};

fuzz_target!(|bytes: &[u8]| {
    let [chunk_bytes, max_line_bytes, body @ ..] = bytes else { return };
    let limits = LineLimits { max_line_bytes: usize::from(*max_line_bytes), head_bytes: 16 };
    let mut splitter = LineSplitter::new(limits);
    let mut lines = Vec::new();
    for chunk in body.chunks(1 + usize::from(*chunk_bytes)) {
        splitter.push(chunk);
        while let Some(line) = splitter.take_line() {
            lines.push(line);
        }
    }
    splitter.end();
    while let Some(line) = splitter.take_line() {
        lines.push(line);
    }
    assert_eq!(splitter.number(), lines.len() as u64);
    let mut expected: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    if expected.last().is_some_and(|last| last.is_empty()) {
        expected.pop();
    }
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        match line {
            NdjsonLine::Text(text) => assert_eq!(text, expected),
            NdjsonLine::TooLong(head) => {
                assert!(expected.len() > limits.max_line_bytes && expected.starts_with(head));
            }
        }
    }
});
