//! Layers of settings, merged by key and type; the sections validate values.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::config::load::environment::Environment;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::nearest::nearest_name;

const DEFAULTS: &str = include_str!("../../../config/default.toml");

/// The value of a setting. The variant of the default is the setting's type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SettingValue {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// The origin of a value, for fault texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingOrigin {
    Default,
    /// Line in the file, counted from 1.
    File(usize),
    /// Name of the variable.
    Environment(String),
    CommandLine,
}

impl SettingValue {
    /// Type name with article, for fault texts.
    fn type_name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
        }
    }

    /// Converts to the type of `known`: an integer is accepted as a number.
    fn like(self, known: &Self) -> Option<Self> {
        match (self, known) {
            #[expect(clippy::cast_precision_loss, reason = "no setting has 16 digits")]
            (Self::Integer(value), Self::Float(_)) => Some(Self::Float(value as f64)),
            (value, known) => {
                (std::mem::discriminant(&value) == std::mem::discriminant(known)).then_some(value)
            }
        }
    }

    /// Parses `text` as the type of this value.
    fn parse_like(&self, text: &str) -> Option<Self> {
        match self {
            Self::Boolean(_) => text.parse().ok().map(Self::Boolean),
            Self::Integer(_) => text.replace('_', "").parse().ok().map(Self::Integer),
            Self::Float(_) => text.parse().ok().map(Self::Float),
            Self::Text(_) => Some(Self::Text(text.to_owned())),
        }
    }
}

impl SettingOrigin {
    /// A fault in the value of `path` from this origin.
    pub(crate) fn fault(&self, path: &str, problem: &str) -> ValidationFault {
        match self {
            Self::Default => ValidationFault::new(path, problem),
            Self::File(line) => ValidationFault::at_line(*line, path, problem),
            Self::Environment(name) => {
                ValidationFault::new(path, format!("{problem} (set by {name})"))
            }
            Self::CommandLine => {
                ValidationFault::new(path, format!("{problem} (set on the command line)"))
            }
        }
    }
}

/// The settings merged so far, by `section.key`, and the faults found.
#[derive(Debug)]
pub(crate) struct SettingLayers {
    pub(crate) values: BTreeMap<String, (SettingValue, SettingOrigin)>,
    pub(crate) faults: ValidationFaults,
}

impl SettingLayers {
    /// The built-in layer; its keys and types are the schema of all other layers.
    pub(crate) fn defaults() -> Self {
        let mut layers = Self { values: BTreeMap::new(), faults: ValidationFaults::default() };
        layers.for_each_in(DEFAULTS, |layers, _, path, value| {
            if let Some(value) = scalar(value) {
                layers.values.insert(path, (value, SettingOrigin::Default));
            }
        });
        layers
    }

    pub(crate) fn add_file(&mut self, text: &str) {
        self.for_each_in(text, |layers, line, path, value| {
            let origin = SettingOrigin::File(line);
            let Some((known, _)) = layers.values.get(&path) else {
                layers.refuse_unknown(&path, &origin);
                return;
            };
            if let Some(value) = scalar(value).and_then(|value| value.like(known)) {
                layers.set(path, value, origin);
            } else {
                let problem = format!("is of type {}, not {}", value.type_str(), known.type_name());
                layers.faults.push(origin.fault(&path, &problem));
            }
        });
    }

    pub(crate) fn add_environment(&mut self, environment: &Environment) {
        let (variables, faults) = environment.settings(self.values.keys().map(String::as_str));
        self.faults.0.extend(faults);
        for variable in variables {
            self.set_text(
                &variable.key,
                &variable.value,
                SettingOrigin::Environment(variable.name),
            );
        }
    }

    pub(crate) fn add_overrides(&mut self, overrides: &[(String, String)]) {
        for (path, text) in overrides {
            self.set_text(path, text, SettingOrigin::CommandLine);
        }
    }

    pub(crate) fn refuse(&mut self, path: String, problem: String) {
        self.faults.push(ValidationFault::new(path, problem));
    }

    /// Sets a value from text, parsed as the type of the default.
    fn set_text(&mut self, path: &str, text: &str, origin: SettingOrigin) {
        let Some((known, _)) = self.values.get(path) else {
            self.refuse_unknown(path, &origin);
            return;
        };
        if let Some(value) = known.parse_like(text) {
            self.set(path.to_owned(), value, origin);
        } else {
            let problem = format!("`{text}` is not {}", known.type_name());
            self.faults.push(origin.fault(path, &problem));
        }
    }

    fn set(&mut self, path: String, value: SettingValue, origin: SettingOrigin) {
        self.values.insert(path, (value, origin));
    }

    fn refuse_unknown(&mut self, path: &str, origin: &SettingOrigin) {
        let known = self.values.keys().map(String::as_str);
        let problem = match nearest_name(path, known) {
            Some(meant) => format!("is not a setting; did you mean `{meant}`?"),
            None => "is not a setting".to_owned(),
        };
        self.faults.push(origin.fault(path, &problem));
    }

    /// Calls `each` with the line, path and value of every key in TOML `text`, and records
    /// every syntax error.
    fn for_each_in(&mut self, text: &str, each: impl Fn(&mut Self, usize, String, &DeValue<'_>)) {
        let (document, errors) = DeTable::parse_recoverable(text);
        // The parser recovers from a broken line with keys that the file does not contain: skip
        // them.
        let mut broken_lines = Vec::new();
        for error in errors {
            let line = error.span().map(|span| line_of(text, &span));
            broken_lines.extend(line);
            let problem = error.message().to_owned();
            self.faults.push(ValidationFault { line, path: "TOML".to_owned(), problem });
        }
        for (section, content) in document.get_ref() {
            let line = line_of(text, &section.span());
            let name = section.get_ref();
            let DeValue::Table(keys) = content.get_ref() else {
                each(self, line, name.to_string(), content.get_ref());
                continue;
            };
            for (key, value) in keys {
                let line = line_of(text, &key.span());
                if broken_lines.contains(&line) {
                    continue;
                }
                each(self, line, format!("{name}.{}", key.get_ref()), value.get_ref());
            }
        }
    }
}

/// `None` for arrays, tables, dates, and numbers beyond the range of their type.
fn scalar(value: &DeValue<'_>) -> Option<SettingValue> {
    Some(match value {
        DeValue::Boolean(value) => SettingValue::Boolean(*value),
        DeValue::Integer(value) => {
            SettingValue::Integer(i64::from_str_radix(value.as_str(), value.radix()).ok()?)
        }
        DeValue::Float(value) => SettingValue::Float(value.as_str().parse().ok()?),
        DeValue::String(value) => SettingValue::Text(value.to_string()),
        _ => return None,
    })
}

/// Line of the start of `span`, counted from 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()
}
