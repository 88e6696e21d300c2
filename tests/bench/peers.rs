//! scikit-learn, faiss and numpy in their own virtual environment, as a child process that
//! answers commands (`peers.py`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ENVIRONMENT: &str = "target/bench/peers";
const PACKAGES: [&str; 4] =
    ["numpy==2.4.6", "scikit-learn==1.9.1", "faiss-cpu==1.15.1", "threadpoolctl==3.8.0"];
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers.py");

pub(crate) struct Peers {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peers {
    pub(crate) fn start() -> Option<Self> {
        let python = environment(ENVIRONMENT, &PACKAGES)?;
        let mut process = Command::new(python)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, commands, answers })
    }

    /// Sends a command; returns the numbers of the response.
    pub(crate) fn ask(&mut self, command: &str) -> Vec<f64> {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the peers ended at `{command}`");
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    pub(crate) fn stop(self) {
        let Self { mut process, commands, .. } = self;
        drop(commands);
        process.wait().unwrap();
    }
}

/// The Python of an environment with these packages, created on first use. Prints the
/// missing packages if it cannot be created.
pub(crate) fn environment(folder: &str, packages: &[&str]) -> Option<String> {
    let python = format!("{folder}/bin/python");
    let ready = format!("{folder}/ready");
    if !Path::new(&ready).exists() {
        println!("  making {folder} with {}", packages.join(", "));
        let made = succeeds(Command::new("python3").args(["-m", "venv", folder]))
            && succeeds(
                Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages),
            );
        if !made {
            println!("  SKIPPED: needs python3 with venv, and {}", packages.join(", "));
            return None;
        }
        std::fs::write(ready, "").unwrap();
    }
    Some(python)
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
