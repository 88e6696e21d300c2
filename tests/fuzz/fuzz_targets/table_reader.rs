//! Bytes as a text table. The first byte selects the format and the encoding: every cell of
//! every row is read.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use segmentd::cli::table::{RowStatus, TableFormat, TableReader, TableSettings};

fuzz_target!(|bytes: &[u8]| {
    let Some((selector, bytes)) = bytes.split_first() else { return };
    let format = match selector % 3 {
        0 => TableFormat::Csv,
        1 => TableFormat::Ndjson,
        _ => TableFormat::PostgresCopy,
    };
    let encoding = match selector / 3 % 4 {
        0 => None,
        1 => Some("utf-16le".to_owned()),
        2 => Some("windows-1252".to_owned()),
        _ => Some("gb18030".to_owned()),
    };
    let multiline = selector / 12 % 2 == 1;
    let settings = TableSettings { encoding, multiline, ..TableSettings::default() };
    let input = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(mut reader) = TableReader::from_text(input, format, &settings) else { return };
    let columns = reader.columns().names.len();
    while let Ok(status) = reader.advance() {
        match status {
            RowStatus::Row => {
                let row = reader.row();
                for column in 0..=columns {
                    let _ = row.cell(column).text();
                }
            }
            RowStatus::Faulty(fault) => assert!(fault.line > 0, "{fault}"),
            RowStatus::End => break,
        }
    }
});
