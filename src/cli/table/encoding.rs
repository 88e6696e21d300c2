//! Character encoding of a text table.
//!
//! A byte order mark or zero bytes show UTF-16. Other text without a declared encoding is
//! UTF-8, or Windows-1252 (a superset of Latin-1) if its first row beyond ASCII is not UTF-8.
//! The decision is made at that row, so that a table is read once.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::csv::CellBuffer;
use super::row::{CellSpan, TextRecord};
use super::settings::TableSettings;
use super::status::RowFault;

/// Bytes that are looked at for an encoding.
const SAMPLE_BYTES: u64 = 4096;
/// Bytes per read of an input that is transcoded.
const CHUNK_BYTES: usize = 65_536;

/// Text input as UTF-8, or as a superset of ASCII that the decoder resolves.
pub(super) struct TextInput {
    pub(super) bytes: Box<dyn Read + Send>,
    pub(super) decoder: TextDecoder,
    /// Name of the encoding, if it is known.
    pub(super) encoding: Option<&'static str>,
}

/// Encoding of the rows, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownEncoding {
    /// ASCII up to now.
    Undecided,
    Utf8,
    Windows1252,
}

/// Decoder of the rows of a table.
#[derive(Debug)]
pub(super) struct TextDecoder {
    known: KnownEncoding,
    notice: Option<String>,
}

impl TextInput {
    /// Determines the encoding of an input, and transcodes UTF-16 and declared encodings.
    pub(super) fn open(
        mut input: Box<dyn Read + Send>,
        settings: &TableSettings,
    ) -> anyhow::Result<Self> {
        let sample = read_start(&mut input, SAMPLE_BYTES)?;
        let declared = settings.declared_encoding().map_err(anyhow::Error::msg)?;
        let marked = Encoding::for_bom(&sample);
        let encoding = marked.map(|(encoding, _)| encoding).or(declared);
        let encoding = encoding.or_else(|| zero_bytes_encoding(&sample));
        let mark = marked.map_or(0, |(_, length)| length);
        let rest = io::Cursor::new(sample[mark..].to_vec()).chain(input);
        let known = if encoding.is_some() { KnownEncoding::Utf8 } else { KnownEncoding::Undecided };
        let decoder = TextDecoder { known, notice: None };
        let bytes: Box<dyn Read + Send> = match encoding {
            None => Box::new(rest),
            Some(encoding) if encoding == UTF_8 => Box::new(rest),
            Some(encoding) => Box::new(TranscodingReader::new(rest, encoding)),
        };
        Ok(Self { bytes, decoder, encoding: encoding.map(Encoding::name) })
    }
}

/// Reads up to `limit` bytes.
pub(super) fn read_start(input: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut sample = Vec::new();
    input.take(limit).read_to_end(&mut sample)?;
    Ok(sample)
}

/// UTF-16 without a byte order mark: every second byte of ASCII text is zero.
fn zero_bytes_encoding(sample: &[u8]) -> Option<&'static Encoding> {
    let pairs = sample.len() / 2;
    if pairs < 4 {
        return None;
    }
    let zeros = |offset: usize| sample.iter().skip(offset).step_by(2).filter(|b| **b == 0).count();
    match (zeros(0), zeros(1)) {
        (0, odd) if odd * 4 > pairs * 3 => Some(UTF_16LE),
        (even, 0) if even * 4 > pairs * 3 => Some(UTF_16BE),
        _ => None,
    }
}

impl TextDecoder {
    /// Decodes the cells of a record.
    pub(super) fn decode(
        &mut self,
        cells: &mut CellBuffer,
        record: &mut TextRecord,
        line: u64,
    ) -> Result<(), RowFault> {
        let is_ascii = cells.bytes.is_ascii();
        if !is_ascii && self.known == KnownEncoding::Undecided {
            self.known = if is_utf8(cells) {
                KnownEncoding::Utf8
            } else {
                self.notice = Some(format!(
                    "line {line} is not UTF-8; the table is read as windows-1252 (set \
                     `table.encoding` if it is another encoding)"
                ));
                KnownEncoding::Windows1252
            };
        }
        if !is_ascii && self.known == KnownEncoding::Windows1252 {
            decode_cells(cells);
        }
        if !is_ascii && !is_utf8(cells) {
            let text = String::from_utf8_lossy(&cells.bytes);
            let reason = "is not UTF-8, unlike rows before it; set `table.encoding`";
            return Err(RowFault::of_row(line, &text, reason));
        }
        record.spans.clear();
        let mut start = 0;
        for end in &cells.ends {
            record.spans.push(CellSpan { start, end: *end });
            start = *end;
        }
        // The buffers change places, so that neither is allocated again.
        let spare = std::mem::take(&mut record.text).into_bytes();
        let bytes = std::mem::replace(&mut cells.bytes, spare);
        record.text = String::from_utf8(bytes).unwrap_or_default();
        Ok(())
    }

    pub(super) fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}

/// Whether each cell is UTF-8. A character that two cells share is none.
fn is_utf8(cells: &CellBuffer) -> bool {
    std::str::from_utf8(&cells.bytes)
        .is_ok_and(|text| cells.ends.iter().all(|end| text.is_char_boundary(*end)))
}

fn decode_cells(cells: &mut CellBuffer) {
    let mut text = Vec::with_capacity(cells.bytes.len() * 2);
    let mut start = 0;
    for end in &mut cells.ends {
        let (decoded, _) = WINDOWS_1252.decode_without_bom_handling(&cells.bytes[start..*end]);
        start = *end;
        text.extend_from_slice(decoded.as_bytes());
        *end = text.len();
    }
    cells.bytes = text;
}

/// Transcodes an input to UTF-8.
struct TranscodingReader<R> {
    input: R,
    decoder: Decoder,
    name: &'static str,
    source: Vec<u8>,
    decoded: Vec<u8>,
    taken: usize,
    is_ended: bool,
}

impl<R: Read> TranscodingReader<R> {
    fn new(input: R, encoding: &'static Encoding) -> Self {
        Self {
            input,
            decoder: encoding.new_decoder_without_bom_handling(),
            name: encoding.name(),
            source: vec![0; CHUNK_BYTES],
            decoded: Vec::new(),
            taken: 0,
            is_ended: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let length = self.input.read(&mut self.source)?;
        self.is_ended = length == 0;
        let source = &self.source[..length];
        let capacity = self.decoder.max_utf8_buffer_length_without_replacement(length);
        self.decoded.resize(capacity.unwrap_or(CHUNK_BYTES * 4), 0);
        self.taken = 0;
        let (result, _, written) = self.decoder.decode_to_utf8_without_replacement(
            source,
            &mut self.decoded,
            self.is_ended,
        );
        self.decoded.truncate(written);
        if let DecoderResult::Malformed(..) = result {
            let problem =
                format!("the table has bytes that are not {}; set `table.encoding`", self.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(())
    }
}

impl<R: Read> Read for TranscodingReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.decoded.len() && !self.is_ended {
            self.refill()?;
        }
        let rest = &self.decoded[self.taken..];
        let length = rest.len().min(target.len());
        target[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
    }
}
