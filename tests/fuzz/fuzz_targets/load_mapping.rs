//! A column mapping (TOML) and a table (CSV), separated by the first NUL: each row becomes
//! JSON events that the wire format can read.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use segmentd::cli::mapping::{ColumnMapping, EventBatch};
use segmentd::cli::table::{RowStatus, TableFormat, TableReader};
use segmentd::domain::json::RawJson;
use segmentd::domain::wire::native;
use segmentd_fuzz::{LIMITS, NOW, new_id};

const DAY_MILLIS: i64 = 86_400_000;

fuzz_target!(|text: &str| {
    let (mapping, table) = text.split_once('\0').unwrap_or((text, ""));
    let Ok(mapping) = ColumnMapping::parse(mapping) else { return };
    let settings = mapping.table_settings();
    let format = settings.format.unwrap_or(TableFormat::Csv);
    let bytes = Box::new(Cursor::new(table.as_bytes().to_vec()));
    let Ok(mut reader) = TableReader::from_text(bytes, format, settings) else { return };
    let file = Some("fuzz.csv");
    let Ok(mut mapper) = mapping.bind(reader.columns(), file, 400 * DAY_MILLIS) else { return };
    let mut batch = EventBatch::default();
    while let Ok(status) = reader.advance() {
        match status {
            RowStatus::Row if mapper.add(&reader.row(), &mut batch).is_ok() => {}
            RowStatus::Faulty(_) => {}
            _ => break,
        }
    }
    mapper.finish(&mut batch);
    let lines = batch.json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut count = 0;
    for line in lines {
        count += 1;
        let event = RawJson::parse(line).expect("an event is JSON");
        let _ = native::parse_event(event, NOW, &LIMITS, new_id);
    }
    assert_eq!(count, batch.origins.len(), "each event is one line");
});
