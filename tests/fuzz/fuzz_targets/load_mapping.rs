//! A column mapping (TOML) and a table (CSV), separated by the first NUL: each row
//! becomes a JSON event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::cli::mapping::ColumnMapping;
use segmentd::domain::json::RawJson;
use segmentd::domain::wire::native;
use segmentd_fuzz::{LIMITS, NOW, new_id};

const DAY_MILLIS: i64 = 86_400_000;

fuzz_target!(|text: &str| {
    let (mapping, table) = text.split_once('\0').unwrap_or((text, ""));
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(table.as_bytes());
    let Ok(headers) = reader.headers().cloned() else { return };
    let Ok(mapping) = ColumnMapping::parse(mapping, &headers) else { return };
    for (row, line) in reader.records().zip(1..) {
        let Ok(row) = row else { return };
        let event = mapping.event(&row, line, 400 * DAY_MILLIS);
        let _ = mapping.event_time(&row, line);
        let text = event.to_string();
        let event = RawJson::parse(text.as_bytes()).expect("an event is JSON");
        let _ = native::parse_event(event, NOW, &LIMITS, new_id);
    }
});
