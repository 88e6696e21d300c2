//! Environment variables; no other module reads the environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::fault::ValidationFault;

/// Environment variables by name, limited to settings and the user's directories.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the home of this call")]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .map(|(name, value)| {
                    (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                })
                .filter(|(name, _)| {
                    name.starts_with("SEGMENTD_")
                        || name.starts_with(DATABASE_URL)
                        || [STATE_HOME, HOME].contains(&name.as_str())
                })
                .collect(),
        )
    }

    /// Whether the variable `name` is set.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The default state directory, by the XDG Base Directory Specification:
    /// `$XDG_STATE_HOME/segmentd`, else `$HOME/.local/state/segmentd`, else
    /// `/var/lib/segmentd`. The specification has relative paths ignored.
    pub(crate) fn state_directory(&self) -> PathBuf {
        let absolute = |name| self.0.get(name).map(Path::new).filter(|path| path.is_absolute());
        let state_home = absolute(STATE_HOME).map(Path::to_owned);
        state_home
            .or_else(|| absolute(HOME).map(|home| home.join(".local/state")))
            .map_or_else(|| PathBuf::from(SYSTEM_STATE), |directory| directory.join("segmentd"))
    }

    /// Every variable that sets a setting, in order of precedence, and the faults of the
    /// others. `keys` are the known settings (`section.key`).
    pub(crate) fn settings<'a>(
        &self,
        keys: impl Iterator<Item = &'a str>,
    ) -> (Vec<SettingVariable>, Vec<ValidationFault>) {
        let by_name: BTreeMap<String, &str> = keys.map(|key| (variable_of(key), key)).collect();
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for (name, value) in &self.0 {
            match meaning(name, &by_name) {
                VariableMeaning::Setting { key, plain_name, in_file } => {
                    if in_file && self.0.contains_key(plain_name) {
                        let problem = format!("is set beside {plain_name}; unset one of them");
                        faults.push(ValidationFault::new(name, problem));
                        continue;
                    }
                    match if in_file { read_secret(value) } else { Ok(value.clone()) } {
                        Ok(value) => {
                            found.push(SettingVariable {
                                name: name.clone(),
                                key: key.to_owned(),
                                value,
                            });
                        }
                        Err(problem) => faults.push(ValidationFault::new(name, problem)),
                    }
                }
                VariableMeaning::Mistake(problem) => {
                    faults.push(ValidationFault::new(name, problem));
                }
                VariableMeaning::NotOurs => {}
            }
        }
        // DATABASE_URL is set by every platform, so it overrides SEGMENTD_DATABASE__URL.
        found.sort_by_key(|variable| variable.name.starts_with(DATABASE_URL));
        (found, faults)
    }
}

/// Builds an environment from literal variables, for tests.
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// A variable that sets `key`.
pub(crate) struct SettingVariable {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

const DATABASE_URL: &str = "DATABASE_URL";
const STATE_HOME: &str = "XDG_STATE_HOME";
const HOME: &str = "HOME";
/// State directory of an account without a home, such as root in a minimal container.
const SYSTEM_STATE: &str = "/var/lib/segmentd";

enum VariableMeaning<'a> {
    /// With `in_file`, the value is the path of a file that contains the setting.
    Setting {
        key: &'a str,
        plain_name: &'a str,
        in_file: bool,
    },
    Mistake(String),
    /// Container platforms derive variables from the names of services, such as
    /// `SEGMENTD_SERVICE_HOST`. A name without a double underscore is not a setting.
    NotOurs,
}

fn meaning<'a>(name: &'a str, by_name: &BTreeMap<String, &'a str>) -> VariableMeaning<'a> {
    if let Some(key) = key_of(name, by_name) {
        return VariableMeaning::Setting { key, plain_name: name, in_file: false };
    }
    if let Some(plain_name) = name.strip_suffix("_FILE")
        && let Some(key) = key_of(plain_name, by_name)
    {
        return VariableMeaning::Setting { key, plain_name, in_file: true };
    }
    let single = name.replace("__", "_");
    if let Some(meant) = by_name.keys().find(|known| known.replace("__", "_") == single) {
        return VariableMeaning::Mistake(format!("is not a setting; did you mean {meant}?"));
    }
    if name.starts_with("SEGMENTD_") && name.contains("__") {
        let known = by_name.keys().map(String::as_str);
        return VariableMeaning::Mistake(match crate::domain::nearest::nearest_name(name, known) {
            Some(meant) => format!("is not a setting; did you mean {meant}?"),
            None => "is not a setting".to_owned(),
        });
    }
    VariableMeaning::NotOurs
}

fn key_of<'a>(name: &str, by_name: &BTreeMap<String, &'a str>) -> Option<&'a str> {
    match name {
        DATABASE_URL => Some("database.url"),
        name => by_name.get(name).copied(),
    }
}

/// The variable of a key: `SEGMENTD_HTTP__BIND` for `http.bind`.
fn variable_of(key: &str) -> String {
    format!("SEGMENTD_{}", key.replace('.', "__").to_uppercase())
}

fn read_secret(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    // Editors and `echo` end a file with a newline.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
