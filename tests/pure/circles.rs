//! No circles of files: if a file imports another, that one does not import it back, not
//! even through a third. Read from the sources, as the compiler allows circles.
//!
//! A `mod.rs` and the files below it count as one idea and may import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

/// Segments of a path: `domain`, `event`, `Event`.
type Names = Vec<String>;

/// The sources of one crate, by module.
#[derive(Default)]
struct Sources {
    imports: BTreeMap<Names, Vec<Names>>,
    /// By module and exported name: the path behind a `pub use`.
    exports: BTreeMap<(Names, String), Names>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.read_folder(root, &[]);
        sources
    }

    fn read_folder(&mut self, folder: &Path, module: &[String]) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let below = [module, std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                self.read_folder(&path, &below);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                let module = if name == "mod" || name == "lib" { module.to_vec() } else { below };
                self.add(module, &text);
            }
        }
    }

    fn add(&mut self, module: Names, text: &str) {
        let tokens: TokenStream = text.parse().expect("a source file is Rust");
        let words = words_of(tokens);
        for (is_public, path) in paths_in(&words, &module) {
            if let (true, Some(name)) = (is_public, path.last()) {
                self.exports.insert((module.clone(), name.clone()), path.clone());
            }
            self.imports.entry(module.clone()).or_default().push(path);
        }
        self.imports.entry(module).or_default();
    }

    /// The module that defines what `path` names, through `pub use`.
    fn home_of(&self, path: &[String]) -> Option<Names> {
        let mut path = path;
        let mut seen = BTreeSet::new();
        loop {
            let length = (1..=path.len()).rev().find(|&n| self.imports.contains_key(&path[..n]))?;
            let (module, rest) = path.split_at(length);
            let exported =
                rest.first().and_then(|name| self.exports.get(&(module.to_vec(), name.clone())));
            // `pub use glob::glob`, where `glob` is another crate, seems to export itself.
            match exported.filter(|target| seen.insert(*target)) {
                Some(target) => path = target,
                None => return Some(module.to_vec()),
            }
        }
    }

    /// Which modules each module imports, but for those above and below it.
    fn edges(&self) -> BTreeMap<Names, BTreeSet<Names>> {
        let mut edges = BTreeMap::new();
        for (module, imports) in &self.imports {
            let homes = imports.iter().filter_map(|path| self.home_of(path));
            let others =
                homes.filter(|home| !home.starts_with(module) && !module.starts_with(home));
            edges.insert(module.clone(), others.collect());
        }
        edges
    }

    fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let reachable: BTreeMap<_, _> =
            edges.keys().map(|module| (module.clone(), reached(&edges, module))).collect();
        let mut circles = BTreeSet::new();
        for (module, reached) in &reachable {
            let circle: BTreeSet<String> = reached
                .iter()
                .filter(|other| reachable.get(*other).is_some_and(|back| back.contains(module)))
                .map(|names| names.join("::"))
                .collect();
            if circle.len() > 1 {
                circles.insert(circle.into_iter().collect::<Vec<_>>().join(" <-> "));
            }
        }
        circles.into_iter().collect()
    }
}

fn reached(edges: &BTreeMap<Names, BTreeSet<Names>>, from: &Names) -> BTreeSet<Names> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(module) = open.pop() {
        for other in edges.get(&module).into_iter().flatten() {
            if reached.insert(other.clone()) {
                open.push(other.clone());
            }
        }
    }
    reached
}

/// Identifiers and punctuation in order, groups opened; tests inside of a file left out.
fn words_of(tokens: TokenStream) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(name) => words.push(name.to_string()),
            TokenTree::Punct(mark) => words.push(mark.as_char().to_string()),
            TokenTree::Literal(_) => words.push("\"\"".into()),
            TokenTree::Group(group) => {
                if words.ends_with(&["mod".into(), "tests".into()]) {
                    continue;
                }
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    _ => ("(", ")"),
                };
                words.push(open.into());
                words.extend(words_of(group.stream()));
                words.push(close.into());
            }
        }
    }
    words
}

/// Every path of the crate that `words` name, in `use` and elsewhere, with whether it is
/// a `pub use`.
fn paths_in(words: &[String], module: &[String]) -> Vec<(bool, Names)> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let is_use = words[at] == "use";
        let start = if is_use { at + 1 } else { at };
        let is_inside = at > 1 && words[at - 1] == ":" && words[at - 2] == ":";
        let begins = words.get(start).is_some_and(|word| {
            ["crate", "self", "super"].contains(&word.as_str()) || is_use && is_name(word)
        });
        if !begins || is_inside {
            at += 1;
            continue;
        }
        let is_public = is_use && at > 0 && (words[at - 1] == "pub" || words[at - 1] == ")");
        let mut found = Vec::new();
        let end = read_tree(words, start, &[], &mut found);
        for names in found {
            if let Some(path) = absolute(&names, module, is_use) {
                paths.push((is_public, path));
            }
        }
        at = end.max(at + 1);
    }
    paths
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads `a::b::{c, d::e}` from `at` on; returns where it ends.
fn read_tree(words: &[String], mut at: usize, head: &[String], found: &mut Vec<Names>) -> usize {
    let mut names = head.to_vec();
    while let Some(word) = words.get(at) {
        if word == "{" {
            at += 1;
            while words.get(at).is_some_and(|word| word != "}") {
                let end = read_tree(words, at, &names, found);
                at = if words.get(end).is_some_and(|word| word == ",") { end + 1 } else { end };
                if at == end && words.get(at).is_some_and(|word| word != "}") {
                    at += 1;
                }
            }
            return at + 1;
        }
        if !is_name(word) {
            break;
        }
        if word != "self" || names.is_empty() {
            names.push(word.clone());
        }
        at += 1;
        let goes_on = words.get(at..at + 2).is_some_and(|next| next[0] == ":" && next[1] == ":");
        if !goes_on {
            if words.get(at).is_some_and(|word| word == "as") {
                at += 2;
            }
            break;
        }
        at += 2;
    }
    found.push(names);
    at
}

/// From the root of the crate; `None` for paths of other crates.
fn absolute(names: &[String], module: &[String], is_use: bool) -> Option<Names> {
    let (first, rest) = names.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" if is_use => Some([module, rest].concat()),
        "self" => None,
        "super" => {
            let above = &module[..module.len().checked_sub(1)?];
            match rest.first().map(String::as_str) {
                Some("super") => absolute(rest, above, is_use),
                _ => Some([above, rest].concat()),
            }
        }
        // `use child::Name` in the file that declares `mod child`; other crates resolve
        // to no module.
        _ => Some([module, names].concat()),
    }
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let circles = Sources::read(&root).circles();
    assert!(circles.is_empty(), "\n{}\n", circles.join("\n"));
}

/// A crate with these files, by module and text.
fn sources(files: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::default();
    for (module, text) in files {
        sources.add(module.split("::").map(str::to_owned).collect(), text);
    }
    sources
}

#[test]
fn a_circle_is_found_in_each_of_its_forms() {
    let circles: [&[(&str, &str)]; 5] = [
        &[("a", "use crate::b::B;"), ("b", "use crate::a::A;")],
        &[("a", "use crate::{b::B, c};"), ("b", ""), ("c", "fn f() { crate::a::g() }")],
        &[("d::a", "use super::b::B;"), ("d::b", "use crate::d::a::{self, A};")],
        &[
            ("a", "use crate::d::B;"),
            ("d", "pub use b::B;"),
            ("d::b", "use crate::c::C;"),
            ("c", "use crate::a::A;"),
        ],
        &[("a", "fn f() { vec![crate::b::f()] }"), ("b", "/// [`a`]\nuse crate::a::A as B;")],
    ];
    for files in circles {
        assert_eq!(sources(files).circles().len(), 1, "{files:?}");
    }
}

#[test]
fn files_without_a_circle_pass() {
    let good: [&[(&str, &str)]; 5] = [
        &[("a", "use crate::b::B;"), ("b", "use std::fmt; const A: &str = \"crate::a\";")],
        &[("d", "mod b; use b::B;"), ("d::b", "use super::D;")],
        &[("a", "use crate::b::B;"), ("b", "mod tests { use crate::a::A; }")],
        &[("a", "use crate::b::B; // crate::c"), ("b", "use crate::c::C;"), ("c", "")],
        &[("a", "pub use self::glob::glob; pub use crate::a::glob;"), ("b", "use crate::a::glob;")],
    ];
    for files in good {
        assert_eq!(sources(files).circles(), [""; 0], "{files:?}");
    }
}
