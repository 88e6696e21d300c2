//! Evidently in its own virtual environment, as a child process that is sent rows
//! (`evidently_peer.py`).

use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use segmentd::domain::feature::{FeatureRow, FeatureValue};

use crate::peers;

pub(super) const NAME: &str = "Evidently 0.7.23, DataDriftPreset";
const ENVIRONMENT: &str = "target/bench/evidently";
/// It does not import with pandas 3.
const PACKAGES: [&str; 4] = ["evidently==0.7.23", "numpy==2.4.6", "pandas==2.3.3", "scipy==1.17.1"];
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/drift/evidently_peer.py");

pub(super) struct Peer {
    process: Child,
    rows: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// The kinds of columns: n for numbers, c for categories.
    pub(super) fn start(kinds: &str) -> Option<Self> {
        let python = peers::environment(ENVIRONMENT, &PACKAGES)?;
        let mut process = Command::new(python)
            .args([SCRIPT, kinds])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let rows = BufWriter::new(process.stdin.take().unwrap());
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, rows, answers })
    }

    /// Sends columns of equal length, and reads the numbers that answer.
    pub(super) fn ask(&mut self, command: &str, columns: &[Vec<f64>]) -> Vec<f64> {
        writeln!(self.rows, "{command} {}", columns[0].len()).unwrap();
        for value in columns.iter().flatten() {
            self.rows.write_all(&value.to_le_bytes()).unwrap();
        }
        self.rows.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "Evidently ended at `{command}`");
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    pub(super) fn stop(self) {
        let Self { mut process, rows, .. } = self;
        drop(rows);
        process.wait().unwrap();
    }
}

/// The values of each feature; the category `c3` is 3.
pub(super) fn columns(rows: &[FeatureRow]) -> Vec<Vec<f64>> {
    let number = |value: &FeatureValue| match value {
        FeatureValue::Number(number) => *number,
        FeatureValue::Category(name) => name.trim_start_matches('c').parse().unwrap(),
        FeatureValue::Missing => f64::NAN,
    };
    let width = rows.first().map_or(0, |row| row.0.len());
    (0..width).map(|place| rows.iter().map(|row| number(&row.0[place])).collect()).collect()
}
