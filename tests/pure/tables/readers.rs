//! Readers of tables: encodings, delimiters, quotes, compression, Parquet.

use std::io::Cursor;

use proptest::prelude::*;
use segmentd::cli::table::{
    RowStatus, TableCell, TableFormat, TableReader, TableSettings, TableSource,
};

use super::support::{cells, data, open};

fn read_with(bytes: &[u8], settings: &TableSettings) -> anyhow::Result<TableReader> {
    let format = settings.format.unwrap_or(TableFormat::Csv);
    TableReader::from_text(Box::new(Cursor::new(bytes.to_vec())), format, settings)
}

fn read(bytes: &[u8]) -> anyhow::Result<TableReader> {
    read_with(bytes, &TableSettings::default())
}

fn texts(bytes: &[u8]) -> Vec<Vec<Option<String>>> {
    cells(read(bytes).expect("a table")).expect("rows")
}

fn some(rows: &[&[&str]]) -> Vec<Vec<Option<String>>> {
    let cell = |cell: &&str| (!cell.is_empty()).then(|| (*cell).to_owned());
    rows.iter().map(|row| row.iter().map(cell).collect()).collect()
}

#[test]
fn encodings_are_detected() {
    let text = "Id, Name\r\n1, café £\r\n";
    let expected = some(&[&["1", "café £"]]);
    let mut utf8 = b"\xef\xbb\xbf".to_vec();
    utf8.extend(text.as_bytes());
    assert_eq!(texts(&utf8), expected);
    assert_eq!(texts(text.as_bytes()), expected);
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(texts(&latin), expected);
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(texts(&little), expected);
    assert_eq!(texts(&big), expected);
    assert_eq!(texts(&[b"\xff\xfe".as_slice(), &little].concat()), expected);
    assert_eq!(texts(&[b"\xfe\xff".as_slice(), &big].concat()), expected);
    let settings = TableSettings { encoding: Some("shift_jis".into()), ..TableSettings::default() };
    let table = read_with(b"a,b\n\x83e,1\n", &settings).expect("a table");
    assert_eq!(cells(table).expect("rows"), some(&[&["テ", "1"]]));
}

#[test]
fn a_row_that_is_not_utf8_after_utf8_rows_is_rejected_by_itself() {
    let mut table = read("a,b\n1,é\n2,".as_bytes()).expect("a table");
    assert_eq!(table.advance().expect("a row"), RowStatus::Row);
    let mut table =
        read(&[b"a,b\n1,\xc3\xa9\n2,\xe9\n3,x\n".as_slice()].concat()).expect("a table");
    assert_eq!(table.advance().expect("a row"), RowStatus::Row);
    let RowStatus::Faulty(fault) = table.advance().expect("a row") else { panic!("no fault") };
    assert_eq!(fault.line, 3);
    assert_eq!(table.advance().expect("a row"), RowStatus::Row);
    assert_eq!(table.row().cell(1), TableCell::Text("x".into()));
}

#[test]
fn line_ends_and_blank_lines_do_not_matter() {
    let expected = some(&[&["1", "2"], &["3", "4"]]);
    for text in
        ["a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n\r\n3,4", "a,b\r1,2\r3,4\r", "\n a , b\n1,2\n\n3,4"]
    {
        assert_eq!(texts(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn delimiters_are_detected_and_decimals_can_be_declared() {
    for delimiter in [";", "\t", "|", ","] {
        let text = "Id,Price\n1,5\n2,7\n".replace(',', delimiter);
        assert_eq!(texts(text.as_bytes()), some(&[&["1", "5"], &["2", "7"]]), "{delimiter:?}");
    }
}

#[test]
fn an_unclosed_quote_is_an_error_at_its_line() {
    for (text, line) in [
        ("a,b,c\n1,2,\"unclosed\n2,3,4\n3,4,5\n", 2),
        ("a,b,c\n0,0,0\n1,2,\"unclosed\n2,3,4\n3,4,\"x\"\n", 3),
        ("a,b,c\n1,2,\"unclosed\n2,3,4\n3,4,x\"\n", 2),
        ("a,b,c\n1,\"x\ny\",\"unclosed\n2,3,4\n", 3),
    ] {
        let error = cells(read(text.as_bytes()).expect("a table")).expect_err(text).to_string();
        let expected = format!("line {line}: a quote opens here");
        assert!(error.starts_with(&expected), "{text:?}: {error}");
    }
}

#[test]
fn ragged_rows_are_rejected_by_themselves() {
    let mut table = read(b"a,b\n1,2\n3\n4,5,6\n7,8\n").expect("a table");
    let mut faults = Vec::new();
    let mut rows = 0;
    loop {
        match table.advance().expect("a row") {
            RowStatus::Row => rows += 1,
            RowStatus::Faulty(fault) => faults.push(format!("{}: {fault}", fault.line)),
            RowStatus::End => break,
        }
    }
    assert_eq!(rows, 2);
    assert_eq!(
        faults,
        [
            "3: \"3\" has 1 cell, but the table has 2 columns",
            "4: \"4,5,6\" has 3 cells, but the table has 2 columns"
        ]
    );
}

#[test]
fn duplicate_columns_are_refused() {
    let error = read(b"a,b, a\n1,2,3\n").expect_err("a duplicate").to_string();
    assert!(error.contains("two columns \"a\""), "{error}");
}

#[test]
fn integers_keep_every_digit_and_lose_zero_decimals() {
    let table = texts(b"id,text\n17850.0,1.0\n,x\n100000000000000000001,2.0\n");
    assert_eq!(table, some(&[&["17850", "1.0"], &["", "x"], &["100000000000000000001", "2.0"]]));
    let settings = TableSettings { format: Some(TableFormat::Ndjson), ..TableSettings::default() };
    let lines =
        b"{\"id\": 100000000000000000001}\n{\"id\": 17850.0}\n{\"id\": NaN}\n{\"id\": null}\n";
    let mut table = read_with(lines, &settings).expect("a table");
    let mut found = Vec::new();
    loop {
        match table.advance().expect("a row") {
            RowStatus::Row => {
                found.push(table.row().cell(0).text().map(std::borrow::Cow::into_owned));
            }
            RowStatus::Faulty(fault) => {
                assert_eq!(fault.line, 3, "{fault}");
                assert!(fault.reason.starts_with("is not a JSON object"), "{fault}");
            }
            RowStatus::End => break,
        }
    }
    assert_eq!(found, [Some("100000000000000000001".into()), Some("17850".into()), None]);
}

#[test]
fn dumps_of_postgres_are_read() {
    let dump = b"--\n-- PostgreSQL database dump\n--\nSET x = y;\n\
        COPY public.orders (id, \"Note\", at) FROM stdin;\n1\ta\\tb\t2026-01-01\n2\t\\N\t\\\\\n\\.\n\nSELECT 1;\n";
    let settings =
        TableSettings { format: Some(TableFormat::PostgresCopy), ..TableSettings::default() };
    let table = read_with(dump, &settings).expect("a table");
    assert_eq!(table.columns().names, ["id", "Note", "at"]);
    assert_eq!(
        cells(table).expect("rows"),
        some(&[&["1", "a\tb", "2026-01-01"], &["2", "", "\\"]])
    );
}

#[test]
fn patterns_that_match_nothing_and_folders_are_refused() {
    let missing = TableSource::find(&["/nonexistent/*.csv".to_owned()]).expect_err("no file");
    assert!(missing.to_string().contains("no file matches"));
    let folder = open(&data("."), &TableSettings::default()).expect_err("a folder");
    assert!(format!("{folder:#}").contains("is a folder"), "{folder:#}");
    let found = TableSource::find(&[data("s*.csv.gz").to_string_lossy().into_owned()]);
    assert_eq!(found.expect("files").len(), 1);
}

proptest! {
    /// Text that is written by the `csv` crate is read back, whatever the cells contain.
    #[test]
    fn csv_is_read_as_it_was_written(
        rows in prop::collection::vec(prop::collection::vec("[a-zé ,;|\"'\t]{0,8}", 4), 1..20),
        crlf in any::<bool>(),
    ) {
        let mut writer = csv::WriterBuilder::new();
        if crlf {
            writer.terminator(csv::Terminator::CRLF);
        }
        let mut writer = writer.from_writer(Vec::new());
        writer.write_record(["first", "second", "third", "fourth"]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let settings = TableSettings {
            delimiter: Some(",".into()),
            ..TableSettings::default()
        };
        let found = cells(read_with(&bytes, &settings).expect("a table"));
        let trimmed = |cell: &String| {
            let cell = cell.trim();
            (!cell.is_empty()).then(|| cell.to_owned())
        };
        let expected: Vec<Vec<Option<String>>> =
            rows.iter().map(|row| row.iter().map(trimmed).collect()).collect();
        match found {
            Ok(found) => prop_assert_eq!(found, expected),
            // Blanks before quotes are the only difference in meaning.
            Err(error) => prop_assert!(bytes.windows(2).any(|pair| pair == b" \""), "{}", error),
        }
    }

    /// No bytes make a reader panic.
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in [TableFormat::Csv, TableFormat::Ndjson, TableFormat::PostgresCopy] {
            let settings = TableSettings { format: Some(format), ..TableSettings::default() };
            if let Ok(table) = read_with(&bytes, &settings) {
                let _ = cells(table);
            }
        }
    }
}
