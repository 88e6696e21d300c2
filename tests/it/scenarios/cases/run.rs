//! The steps of a case against a real server with a database of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use super::FOLDER_VARIABLE;
use super::answer::{differences, value_at};
use super::case::{
    BodyEncoding, Case, RequestStep, RestartStep, ServerSettings, Step, TableEncoding, TableLoad,
};
use crate::support::TestApp;

/// Most characters of an answer or an output in a failure.
const MAX_SHOWN: usize = 1500;

/// The state of a case between its steps.
struct CaseRun<'a> {
    case: &'a Case,
    server: TestApp,
    settings: ServerSettings,
    client: reqwest::Client,
}

/// Runs every step with an empty database. Returns the failures, each with its step and field.
pub(super) async fn run_case(case: &Case, database_url: &str) -> Option<String> {
    let settings = case.server();
    let named = named_settings(case, &settings);
    let named = [as_pairs(&named), vec![("database.url", database_url)]].concat();
    let server = TestApp::start_with(&named).await;
    let mut run = CaseRun { case, server, settings, client: reqwest::Client::new() };
    let mut failures = Vec::new();
    for (number, step) in (1..).zip(&case.content.steps) {
        let (title, found) = run.step(step).await;
        let found = found.unwrap_or_else(|error| vec![format!("{error:#}")]);
        let of_step = |text| format!("  step {number}, {title}: {text}");
        failures.extend(found.into_iter().map(of_step));
    }
    run.server.stop().await;
    let source = case.content.source.as_deref().unwrap_or("no source");
    let title = format!("{}: {} ({source})", case.name, case.content.about);
    (!failures.is_empty()).then(|| format!("{title}\n{}", failures.join("\n")))
}

/// The settings of a server by their dotted names.
fn named_settings(case: &Case, settings: &ServerSettings) -> Vec<(String, String)> {
    let file = settings.features.iter();
    let file = file.map(|file| ("features.file".into(), case.path(file).display().to_string()));
    let others = settings.settings.iter().map(|(name, value)| (name.clone(), value.clone()));
    file.chain(others).collect()
}

fn as_pairs(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

impl CaseRun<'_> {
    /// Runs one step; returns its title and its failures.
    async fn step(&mut self, step: &Step) -> (String, anyhow::Result<Vec<String>>) {
        match step {
            Step::Request(step) => {
                let path = step.get.as_ref().or(step.post.as_ref()).map_or("", String::as_str);
                let title = format!("{} {path}", if step.get.is_some() { "get" } else { "post" });
                (title, self.request(step, path).await)
            }
            Step::Load(step) => {
                let title = format!("load {:?}", step.load.files);
                (title, self.load(&step.load, step.exit, &step.prints).await)
            }
            Step::Command(step) => {
                let title = step.command.join(" ");
                (title, self.command(&step.command, step.exit, &step.prints).await)
            }
            Step::Restart(step) => {
                self.restart(step).await;
                ("restart".to_owned(), Ok(Vec::new()))
            }
        }
    }

    async fn request(&self, step: &RequestStep, path: &str) -> anyhow::Result<Vec<String>> {
        let server = &self.server;
        let url = format!("{}{path}", server.url);
        let mut request = match step.get {
            Some(_) => self.client.get(url),
            None => self.client.post(url),
        };
        for (name, value) in &step.headers {
            request = request.header(name, value);
        }
        if let Some(file) = &step.body {
            let path = self.case.path(file);
            let body = std::fs::read(&path).with_context(|| path.display().to_string())?;
            request = match step.encoding {
                Some(encoding) => {
                    let request = request.header(CONTENT_ENCODING, encoding.name());
                    request.body(encoding.compress(&body)?)
                }
                None => request.body(body),
            };
        }
        let response = request.bearer_auth(&server.key).send().await?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE);
        let is_ndjson = content_type.is_some_and(|value| value == "application/x-ndjson");
        let text = response.text().await?;
        let mut found = answer_differences(step, &text, is_ndjson);
        if status != step.status {
            found.insert(0, format!("status: expected {}, is {status}", step.status));
        }
        Ok(with_text(found, &text))
    }

    async fn load(
        &self,
        load: &TableLoad,
        exit: i32,
        prints: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let beside = self.case.path(&load.mapping);
        let mapping = if beside.is_file() { &beside } else { &load.mapping };
        let converted = tempfile::tempdir()?;
        let mut files = Vec::new();
        for file in &load.files {
            let path = self.case.path(file);
            files.push(match load.encoding {
                Some(encoding) => encoding.convert(&path, converted.path().join("table.csv"))?,
                None => path,
            });
        }
        let server = &self.server;
        let mut arguments: Vec<String> =
            ["load", "--url", &server.url, "--key", &server.key, "--mapping"]
                .map(Into::into)
                .into();
        arguments.push(mapping.display().to_string());
        arguments.extend(load.arguments.iter().cloned());
        arguments.extend(files.iter().map(|file| file.display().to_string()));
        self.command(&arguments, exit, prints).await
    }

    /// Runs a `segmentd` command with the settings of the server.
    async fn command(
        &self,
        command: &[String],
        exit: i32,
        prints: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let mut arguments = Vec::new();
        for (name, value) in named_settings(self.case, &self.settings) {
            arguments.extend(["--set".to_owned(), format!("{name}={value}")]);
        }
        arguments.extend(command.iter().cloned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.server.start_command(&arguments);
        // It is no setting of segmentd, which refuses unknown ones.
        let output = command.env_remove(FOLDER_VARIABLE).output().await?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        let mut found = missing_texts(prints, &text);
        if output.status.code() != Some(exit) {
            found.insert(0, format!("exit: expected {exit}, is {}", output.status));
        }
        Ok(with_text(found, &text))
    }

    /// Starts another server on the same database: as a rolling update does, before the
    /// previous one stops.
    async fn restart(&mut self, step: &RestartStep) {
        let ServerSettings { features, settings } = step.restart.clone();
        if features.is_some() {
            self.settings.features = features;
        }
        self.settings.settings.extend(settings);
        let settings = named_settings(self.case, &self.settings);
        let next = self.server.replica_with(&as_pairs(&settings)).await;
        std::mem::replace(&mut self.server, next).stop().await;
    }
}

/// The differences between the body of an answer and the expected parts of it.
fn answer_differences(step: &RequestStep, text: &str, is_ndjson: bool) -> Vec<String> {
    let answer = if is_ndjson {
        text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().map(Into::into)
    } else {
        serde_json::from_str(text)
    };
    let answer = answer.unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut found = step.answer.as_ref().map_or_else(Vec::new, |part| differences(part, &answer));
    for path in &step.absent {
        let value = value_at(&answer, path);
        if !value.is_null() {
            found.push(format!("{path}: expected to be absent, is {value}"));
        }
    }
    found.extend(missing_texts(&step.contains, text));
    found
}

fn missing_texts(expected: &[String], text: &str) -> Vec<String> {
    let missing = expected.iter().filter(|part| !text.contains(*part));
    missing.map(|part| format!("{part:?} does not occur")).collect()
}

/// Adds the answer or output to the last difference.
fn with_text(mut found: Vec<String>, text: &str) -> Vec<String> {
    if let Some(last) = found.last_mut() {
        let shown: String = text.trim_end().chars().take(MAX_SHOWN).collect();
        last.push_str("\n    in: ");
        last.push_str(&shown.replace('\n', "\n    "));
    }
    found
}

impl BodyEncoding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn compress(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::encode_all(bytes, 3),
        }
    }
}

impl TableEncoding {
    /// Writes a UTF-8 file in this encoding, with a byte order mark; returns its path.
    fn convert(self, from: &Path, to: PathBuf) -> anyhow::Result<PathBuf> {
        let text = std::fs::read_to_string(from).with_context(|| from.display().to_string())?;
        let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
        let bytes: Vec<u8> = match self {
            Self::Utf16Le => units.flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => units.flat_map(u16::to_be_bytes).collect(),
        };
        std::fs::write(&to, bytes)?;
        Ok(to)
    }
}
