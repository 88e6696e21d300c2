//! Case files: server, inputs and steps, each step with its right answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A case and the folder of its inputs.
#[derive(Debug)]
pub(super) struct Case {
    /// The name of the file without `.toml`.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) content: CaseContent,
}

/// The content of a case file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseContent {
    /// What the case shows.
    pub(super) about: String,
    /// Where the input was first seen: an issue, a specification, a data set.
    pub(super) source: Option<String>,
    features: Option<PathBuf>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    pub(super) steps: Vec<Step>,
}

/// How a server is started.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerSettings {
    /// A file of features; without it, the built-in set.
    pub(super) features: Option<PathBuf>,
    /// Further settings, by their dotted names.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
}

/// One step of a case, by its action.
#[derive(Debug)]
pub(super) enum Step {
    Request(RequestStep),
    Load(LoadStep),
    Command(CommandStep),
    Restart(RestartStep),
}

/// A request with a key of every scope, and its right answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestStep {
    /// The path of a GET request.
    pub(super) get: Option<String>,
    /// The path of a POST request.
    pub(super) post: Option<String>,
    /// The file that is sent.
    pub(super) body: Option<PathBuf>,
    /// Compresses the body, and says so in `Content-Encoding`.
    pub(super) encoding: Option<BodyEncoding>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default = "ok")]
    pub(super) status: u16,
    /// A part of the answer.
    pub(super) answer: Option<Value>,
    /// Dotted paths of fields that the answer lacks, or that are null in it.
    #[serde(default)]
    pub(super) absent: Vec<String>,
    /// Texts that occur in the answer.
    #[serde(default)]
    pub(super) contains: Vec<String>,
}

fn ok() -> u16 {
    200
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BodyEncoding {
    Gzip,
    Deflate,
    Zstd,
}

/// `segmentd load`, and its right end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadStep {
    pub(super) load: TableLoad,
    #[serde(default)]
    pub(super) exit: i32,
    /// Texts that occur in the output.
    #[serde(default)]
    pub(super) prints: Vec<String>,
}

/// The tables of a load and their mapping.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableLoad {
    /// A file; or a built-in mapping, or a file of the repository.
    pub(super) mapping: PathBuf,
    pub(super) files: Vec<PathBuf>,
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    /// Converts the files, which are UTF-8, before they are loaded.
    pub(super) encoding: Option<TableEncoding>,
}

/// Encodings that would make a file of the repository a binary one.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum TableEncoding {
    #[serde(rename = "utf-16le")]
    Utf16Le,
    #[serde(rename = "utf-16be")]
    Utf16Be,
}

/// Another `segmentd` command on the database of the case, and its right end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandStep {
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) exit: i32,
    #[serde(default)]
    pub(super) prints: Vec<String>,
}

/// Replaces the server by one with other features or settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestartStep {
    pub(super) restart: ServerSettings,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Value::deserialize(deserializer)?;
        let actions = ["get", "post", "load", "command", "restart"];
        let mut found = actions.into_iter().filter(|action| fields.get(action).is_some());
        let step = match (found.next(), found.next()) {
            (Some("get" | "post"), None) => read(fields).map(Self::Request),
            (Some("load"), None) => read(fields).map(Self::Load),
            (Some("command"), None) => read(fields).map(Self::Command),
            (Some(_), None) => read(fields).map(Self::Restart),
            _ => Err(format!("{fields}: a step has exactly one of {}", actions.join(", "))),
        };
        step.map_err(D::Error::custom)
    }
}

fn read<T: DeserializeOwned>(fields: Value) -> Result<T, String> {
    let text = fields.to_string();
    serde_json::from_value(fields).map_err(|error| format!("{text}: {error}"))
}

impl Case {
    fn read(path: &Path, folder: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().display().to_string();
        let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let content: CaseContent =
            toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        if content.steps.is_empty() {
            return Err(format!("{name}: has no steps"));
        }
        Ok(Self { name, folder: folder.to_owned(), content })
    }

    /// How the first server is started.
    pub(super) fn server(&self) -> ServerSettings {
        let CaseContent { features, settings, .. } = &self.content;
        ServerSettings { features: features.clone(), settings: settings.clone() }
    }

    /// The path of an input file.
    pub(super) fn path(&self, input: &Path) -> PathBuf {
        self.folder.join(input)
    }

    /// The files that the case names.
    fn inputs(&self) -> impl Iterator<Item = PathBuf> {
        let features = self.content.features.iter();
        let of_steps = self.content.steps.iter().flat_map(|step| match step {
            Step::Request(step) => step.body.iter().collect(),
            Step::Load(step) => step.load.files.iter().chain([&step.load.mapping]).collect(),
            Step::Command(_) => Vec::new(),
            Step::Restart(step) => step.restart.features.iter().collect(),
        });
        features.chain(of_steps).map(|input| self.path(input))
    }
}

/// Reads every `*.toml` directly in the folder. Returns the cases, and the faults of files.
pub(super) fn read_cases(folder: &Path) -> (Vec<Case>, Vec<String>) {
    let (mut cases, mut faults) = (Vec::new(), Vec::new());
    for path in files_in(folder).into_iter().filter(|path| is_case(path, folder)) {
        match Case::read(&path, folder) {
            Ok(case) => cases.push(case),
            Err(fault) => faults.push(fault),
        }
    }
    (cases, faults)
}

/// Files of the folder that no case names.
pub(super) fn unused_inputs(folder: &Path, cases: &[Case]) -> Vec<String> {
    let used: BTreeSet<PathBuf> = cases.iter().flat_map(Case::inputs).collect();
    let inputs = files_in(folder).into_iter().filter(|path| !is_case(path, folder));
    inputs
        .filter(|path| path.file_name() != Some("README.md".as_ref()) && !used.contains(path))
        .map(|path| format!("{}: no case names this file", path.display()))
        .collect()
}

/// Inputs are in folders beside the cases, also those that are TOML files.
fn is_case(path: &Path, folder: &Path) -> bool {
    path.parent() == Some(folder) && path.extension() == Some("toml".as_ref())
}

/// Every file below the folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder);
    for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files
}
