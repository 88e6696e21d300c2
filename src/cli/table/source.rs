//! Files of tables: patterns, standard input, decompression, and the storage format.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

use super::encoding::read_start;
use super::parquet::ParquetBytes;
use super::settings::TableFormat;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const PARQUET_MAGIC: &[u8] = b"PAR1";
/// Bytes from which compression and format are recognised.
const MAGIC_BYTES: u64 = 512;

/// Place of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableSource {
    File(PathBuf),
    StandardInput,
}

/// The bytes of a table, uncompressed.
pub(super) enum TableBytes {
    Text { bytes: Box<dyn Read + Send>, format: TableFormat },
    Parquet(ParquetBytes),
}

impl TableSource {
    /// The files that match the patterns, in the order of the patterns, then of the names.
    /// `-` is standard input.
    pub fn find(patterns: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut sources = Vec::new();
        for pattern in patterns {
            if pattern == "-" {
                anyhow::ensure!(
                    !sources.contains(&Self::StandardInput),
                    "`-` is given twice: standard input can be read once"
                );
                sources.push(Self::StandardInput);
                continue;
            }
            let is_pattern = pattern.contains(['*', '?', '[']) && !Path::new(pattern).exists();
            if !is_pattern {
                sources.push(Self::File(pattern.into()));
                continue;
            }
            let before = sources.len();
            for path in glob::glob(pattern).with_context(|| format!("invalid pattern {pattern}"))? {
                sources.push(Self::File(path?));
            }
            anyhow::ensure!(sources.len() > before, "no file matches {pattern}");
        }
        Ok(sources)
    }

    /// The path as given.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::StandardInput => "standard input".to_owned(),
        }
    }

    /// The file name without its folder; `None` for standard input.
    pub(crate) fn file_name(&self) -> Option<String> {
        match self {
            Self::File(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
            Self::StandardInput => None,
        }
    }

    /// The folder of the file.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::File(path) => path.parent(),
            Self::StandardInput => None,
        }
    }

    /// Opens the table; `bar` follows the bytes as they are read from the file.
    pub(super) fn open(
        &self,
        declared: Option<TableFormat>,
        bar: &ProgressBar,
    ) -> anyhow::Result<TableBytes> {
        let mut raw: Box<dyn Read + Send> = match self {
            Self::StandardInput => Box::new(io::stdin()),
            Self::File(path) => {
                let shown = path.display();
                let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
                let metadata = file.metadata()?;
                anyhow::ensure!(!metadata.is_dir(), "{shown} is a folder; give {shown}/*");
                bar.set_length(metadata.len());
                Box::new(bar.wrap_read(file))
            }
        };
        let mut magic = read_start(&mut raw, MAGIC_BYTES)?;
        let mut bytes: Box<dyn Read + Send> = Box::new(Cursor::new(magic.clone()).chain(raw));
        let is_compressed = magic.starts_with(GZIP_MAGIC) || magic.starts_with(ZSTD_MAGIC);
        if is_compressed {
            bytes = if magic.starts_with(GZIP_MAGIC) {
                Box::new(MultiGzDecoder::new(bytes))
            } else {
                Box::new(zstd::stream::read::Decoder::new(bytes)?)
            };
            magic = read_start(&mut bytes, MAGIC_BYTES)?;
            bytes = Box::new(Cursor::new(magic.clone()).chain(bytes));
        }
        let format = declared.unwrap_or_else(|| self.format(&magic));
        if format != TableFormat::Parquet {
            return Ok(TableBytes::Text { bytes, format });
        }
        // Parquet is read from its end: a file in place, any other input from memory.
        if let (Self::File(path), false) = (self, is_compressed) {
            return Ok(TableBytes::Parquet(ParquetBytes::File(File::open(path)?)));
        }
        let mut whole = Vec::new();
        bytes.read_to_end(&mut whole)?;
        Ok(TableBytes::Parquet(ParquetBytes::Memory(Bytes::from(whole))))
    }

    /// The format by content, else by name, else CSV.
    fn format(&self, start: &[u8]) -> TableFormat {
        if start.starts_with(PARQUET_MAGIC) {
            return TableFormat::Parquet;
        }
        let name = self.file_name().unwrap_or_default().to_lowercase();
        let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension {
            "parquet" => TableFormat::Parquet,
            "ndjson" | "jsonl" => TableFormat::Ndjson,
            _ if start.trim_ascii_start().starts_with(b"{\"") => TableFormat::Ndjson,
            _ if start.starts_with(b"COPY ") || start.starts_with(b"--\n-- PostgreSQL") => {
                TableFormat::PostgresCopy
            }
            _ => TableFormat::Csv,
        }
    }
}
