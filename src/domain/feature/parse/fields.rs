//! Reader of the keys of a table, which collects every fault.

use std::cell::RefCell;

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::parse::document::{DocumentNode, NodeData, TableEntry};
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};

/// Collector of faults, shared by all readers of a document.
#[derive(Debug, Default)]
pub(super) struct FaultSink(RefCell<ValidationFaults>);

impl FaultSink {
    pub(super) fn add(
        &self,
        line: Option<usize>,
        path: impl Into<String>,
        problem: impl Into<String>,
    ) {
        let (path, problem) = (path.into(), problem.into());
        self.0.borrow_mut().push(ValidationFault { line, path, problem });
    }

    pub(super) fn into_faults(self) -> ValidationFaults {
        self.0.into_inner()
    }
}

/// A name with its line.
#[derive(Debug)]
pub(super) struct LocatedName {
    pub(super) name: Box<str>,
    pub(super) line: Option<usize>,
}

/// A table being read. Keys that were not requested by the end are faults.
pub(super) struct TableReader<'d, 'f> {
    /// Dotted path from the root; empty at the root.
    pub(super) path: String,
    pub(super) line: Option<usize>,
    entries: &'d [TableEntry],
    known: Vec<&'static str>,
    faults: &'f FaultSink,
}

impl<'d, 'f> TableReader<'d, 'f> {
    /// Returns `None`, and records a fault, unless `node` is a table.
    pub(super) fn open(
        node: &'d DocumentNode,
        path: String,
        faults: &'f FaultSink,
    ) -> Option<Self> {
        let NodeData::Table(entries) = &node.data else {
            faults.add(node.line, path, format!("must be a table; it is {}", node.noun()));
            return None;
        };
        Some(Self { path, line: node.line, entries, known: Vec::new(), faults })
    }

    /// The value of an optional key.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'d DocumentNode> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.peek(key)
    }

    /// The value of a key, without declaring that the key belongs to this table.
    pub(super) fn peek(&self, key: &str) -> Option<&'d DocumentNode> {
        self.entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.node)
    }

    /// The value of a required key; `such_as` is an example for the fault text.
    pub(super) fn need(&mut self, key: &'static str, such_as: &str) -> Option<&'d DocumentNode> {
        let node = self.get(key);
        if node.is_none() {
            self.fault(self.line, key, format!("is missing: give {such_as}"));
        }
        node
    }

    /// A required text that is not blank.
    pub(super) fn text(&mut self, key: &'static str, such_as: &str) -> Option<Box<str>> {
        let node = self.need(key, such_as)?;
        self.text_of(key, node, such_as)
    }

    /// A required text that is not blank, with its line.
    pub(super) fn named(&mut self, key: &'static str, such_as: &str) -> Option<LocatedName> {
        let node = self.need(key, such_as)?;
        let name = self.text_of(key, node, such_as)?;
        Some(LocatedName { name, line: node.line })
    }

    pub(super) fn text_of(
        &self,
        key: &str,
        node: &DocumentNode,
        such_as: &str,
    ) -> Option<Box<str>> {
        match &node.data {
            NodeData::Text(text) if text.trim().is_empty() => {
                self.fault(node.line, key, format!("must not be blank: give {such_as}"));
                None
            }
            NodeData::Text(text) => match text::check_free_text(key, text, MAX_FREE_TEXT_CHARS) {
                Ok(_) => Some(text.clone()),
                Err(fault) => {
                    self.fault(node.line, key, fault.problem);
                    None
                }
            },
            _ => {
                let noun = node.noun();
                self.fault(node.line, key, format!("must be a text, {such_as}; it is {noun}"));
                None
            }
        }
    }

    /// A required text from a closed list.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let node = self.need(key, &format!("one of {}", listed(choices.iter().map(|c| c.0))))?;
        self.choice_of(key, node, choices)
    }

    /// An optional text from a closed list; `default` if the key is absent.
    pub(super) fn choice_or<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> Option<T> {
        match self.get(key) {
            None => Some(default),
            Some(node) => self.choice_of(key, node, choices),
        }
    }

    fn choice_of<T: Copy>(
        &self,
        key: &str,
        node: &DocumentNode,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
        let NodeData::Text(text) = &node.data else {
            let (noun, names) = (node.noun(), names.join(", "));
            self.fault(node.line, key, format!("must be one of {names}; it is {noun}"));
            return None;
        };
        let found = choices.iter().find(|choice| *choice.0 == **text);
        if found.is_none() {
            let meant = did_you_mean(text, names.iter().copied());
            let names = names.join(", ");
            self.fault(node.line, key, format!("must be one of {names}; it is `{text}`{meant}"));
        }
        found.map(|choice| choice.1)
    }

    /// A number that satisfies `right`; `range` describes the condition for the fault text.
    pub(super) fn number_of(
        &self,
        key: &str,
        node: &DocumentNode,
        range: &str,
        right: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        match node.data {
            NodeData::Number(n) if n.is_finite() && right(n) => return Some(n),
            NodeData::LargeInteger(n) if right(n as f64) => return Some(n as f64),
            NodeData::LargeInteger(n) => {
                self.fault(node.line, key, format!("must be {range}; it is {n}"));
            }
            NodeData::Number(n) => {
                self.fault(node.line, key, format!("must be {range}; it is {n}"));
            }
            _ => self.fault(node.line, key, format!("must be {range}; it is {}", node.noun())),
        }
        None
    }

    /// An integer from `least` to `most`.
    pub(super) fn whole_of(
        &self,
        key: &str,
        node: &DocumentNode,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let range = format!("a whole number from {least} to {most}");
        self.number_of(key, node, &range, |n| {
            n.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(&n)
        })
        .map(|n| n as u32)
    }

    pub(super) fn flag_or(&mut self, key: &'static str, default: bool) -> Option<bool> {
        match self.get(key) {
            None => Some(default),
            Some(DocumentNode { data: NodeData::Bool(flag), .. }) => Some(*flag),
            Some(node) => {
                self.fault(node.line, key, format!("must be true or false; it is {}", node.noun()));
                None
            }
        }
    }

    /// The items of a list that must not be empty.
    pub(super) fn list_of(
        &self,
        key: &str,
        node: &'d DocumentNode,
        such_as: &str,
    ) -> Option<&'d [DocumentNode]> {
        match &node.data {
            NodeData::List(items) if !items.is_empty() => Some(items),
            NodeData::List(_) => {
                self.fault(node.line, key, format!("must not be empty: give {such_as}"));
                None
            }
            _ => {
                let noun = node.noun();
                self.fault(node.line, key, format!("must be a list, {such_as}; it is {noun}"));
                None
            }
        }
    }

    /// Opens a nested table.
    pub(super) fn table_of(&self, key: &str, node: &'d DocumentNode) -> Option<Self> {
        TableReader::open(node, self.below(key), self.faults)
    }

    /// Records a fault of one key.
    pub(super) fn fault(&self, line: Option<usize>, key: &str, problem: impl Into<String>) {
        self.faults.add(line, self.below(key), problem);
    }

    /// Ends the reading: records a fault for every key that was not requested. `subject` is that
    /// of "takes" in the fault text. Must not be called if the key that decides which
    /// other keys belong to the table is itself faulty.
    pub(super) fn finish(self, subject: &str) {
        for entry in self.entries {
            if !self.known.contains(&&*entry.key) {
                let meant = did_you_mean(&entry.key, self.known.iter().copied());
                let known = listed(self.known.iter().copied());
                self.fault(
                    entry.line,
                    &entry.key,
                    format!("does not belong here: {subject} takes {known}{meant}"),
                );
            }
        }
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// "; did you mean `x`?" for the nearest candidate, or an empty string.
pub(super) fn did_you_mean<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    let near = name.chars().count().div_ceil(3).min(3);
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// Joins names as `a, b, c`.
pub(super) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
