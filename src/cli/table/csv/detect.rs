//! Detection of a CSV dialect from the start of a table.

use super::parse::{CellBuffer, CsvDialect, RecordEnd, contains_pair, first_line};
use crate::cli::table::settings::{TableSettings, mark};

/// Delimiters that are tried, in order of preference.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Maximum number of records that are compared.
const MAX_RECORDS: usize = 200;
/// Minimum share of records with as many cells as the header, in percent.
const MIN_AGREEING_PERCENT: usize = 90;

/// Quality of a dialect on a sample; larger is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct DialectFit {
    has_several_columns: bool,
    is_faultless: bool,
    agrees: bool,
    columns: usize,
    /// 1 for several columns with a delimiter that texts contain less often than commas.
    rarity: u8,
}

/// The dialect as declared, else the one that splits the sample into the most columns of
/// which the records agree. `is_whole` is true if the sample is the whole table.
pub fn detect_dialect(sample: &[u8], is_whole: bool, settings: &TableSettings) -> CsvDialect {
    let quote = match settings.quote.as_deref() {
        None => Some(b'"'),
        Some(_) => mark(settings.quote.as_ref()),
    };
    let escapes = match (settings.escape.as_ref(), quote) {
        (Some(escape), _) => vec![mark(Some(escape))],
        (None, Some(quote)) if contains_pair(sample, b'\\', quote) => vec![None, Some(b'\\')],
        (None, _) => vec![None],
    };
    let delimiters = mark(settings.delimiter.as_ref()).map_or(DELIMITERS.to_vec(), |one| vec![one]);
    let mut best: Option<(DialectFit, CsvDialect)> = None;
    for delimiter in delimiters {
        for escape in &escapes {
            let multiline = settings.multiline;
            let dialect = CsvDialect { delimiter, quote, escape: *escape, multiline };
            let fit = fit(dialect, sample, is_whole);
            if best.as_ref().is_none_or(|(known, _)| fit > *known) {
                best = Some((fit, dialect));
            }
        }
    }
    let plain = CsvDialect { delimiter: b',', quote, escape: None, multiline: settings.multiline };
    best.map_or(plain, |(_, dialect)| dialect)
}

fn fit(dialect: CsvDialect, sample: &[u8], is_whole: bool) -> DialectFit {
    let mut cells = CellBuffer::default();
    let mut rest = sample;
    let (mut columns, mut records, mut agreeing) = (0, 0, 0);
    let mut is_faultless = true;
    while records < MAX_RECORDS && !rest.is_empty() {
        match dialect.record(rest, is_whole, columns, &mut cells) {
            RecordEnd::Complete { length, .. } => {
                let is_blank = first_line(rest).trim_ascii().is_empty();
                rest = &rest[length..];
                if is_blank {
                    continue;
                }
                if records == 0 {
                    columns = cells.ends.len();
                }
                records += 1;
                agreeing += usize::from(cells.ends.len() == columns);
            }
            RecordEnd::TextAfterQuote { length, .. } => {
                is_faultless = false;
                records += 1;
                rest = &rest[length..];
            }
            RecordEnd::Unclosed { .. } => {
                is_faultless = false;
                break;
            }
            RecordEnd::Incomplete => break,
        }
    }
    let agrees = agreeing * 100 >= records * MIN_AGREEING_PERCENT;
    let has_several_columns = columns > 1;
    let rarity = u8::from(has_several_columns && dialect.delimiter != b',');
    DialectFit { has_several_columns, is_faultless, agrees, columns, rarity }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delimiter(text: &str) -> char {
        detect_dialect(text.as_bytes(), true, &TableSettings::default()).delimiter.into()
    }

    #[test]
    fn delimiters_are_detected() {
        assert_eq!(delimiter("a,b\n1,2\n"), ',');
        assert_eq!(delimiter("a;b;c\n1;5,50;x\n2;5,50;y\n"), ';');
        assert_eq!(delimiter("a\tb, c\n1\t5,5\n"), '\t');
        assert_eq!(delimiter("a|b\n1|2\n"), '|');
        assert_eq!(delimiter("id\n17\n"), ',');
    }

    #[test]
    fn backslash_escapes_are_detected() {
        let text = "a,b,c\n1,\"x \\\"y\\\", z\",2\n";
        let dialect = detect_dialect(text.as_bytes(), true, &TableSettings::default());
        assert_eq!(dialect.escape, Some(b'\\'));
        let text = "a,b,c\n1,\"C:\\\",2\n";
        let dialect = detect_dialect(text.as_bytes(), true, &TableSettings::default());
        assert_eq!(dialect.escape, None);
    }
}
