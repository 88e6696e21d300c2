//! The layering and naming rules, checked by reading the sources.
//!
//! A folder imports from smaller levels only, and a crate is named only in its folders.
//! `circles` checks that files do not import each other in circles.

use std::fs;
use std::path::{Path, PathBuf};

/// *A folder under `src/` imports only from smaller levels; equal levels never import each
/// other.*
const LEVELS: [(&str, u8); 12] = [
    ("main", 7),
    ("cli", 6),
    ("app", 5),
    ("api", 4),
    ("web", 4),
    ("stream", 4),
    ("service", 3),
    ("store", 2),
    ("outbound", 2),
    ("config", 1),
    ("telemetry", 1),
    ("domain", 0),
];

/// Who may name what. A name that is not here may be named anywhere.
const HOMES: [(&str, &[&str]); 5] = [
    ("sqlx", &["store"]),
    ("axum", &["api", "web", "app"]),
    ("hyper", &["app"]),
    ("hyper_util", &["app", "outbound"]),
    ("lettre", &["outbound"]),
];

/// `domain` is pure: no I/O, no clock, no environment, no async.
const NOT_IN_DOMAIN: [&str; 10] = [
    "tokio",
    "tracing",
    "prometheus",
    "reqwest",
    "async",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::env",
    "std::net",
];

#[test]
fn the_sources_follow_the_layering_and_naming_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for path in files_in(&root) {
        let text = fs::read_to_string(&path).expect("a source file is text");
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        broken.extend(check(&name, &text).into_iter().map(|rule| format!("{name}: {rule}")));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Every rule that the file `name` (below `src/`) with `text` breaks.
fn check(name: &str, text: &str) -> Vec<String> {
    let folder = folder_of(name);
    let code = code_of(text);
    let mut broken = Vec::new();
    if !text.starts_with("//!") {
        broken.push("does not open with `//!` and why it exists".to_owned());
    }
    let markers = ["TODO", "FIXME", "XXX"];
    broken.extend(markers.iter().filter(|m| names(text, m)).map(|m| format!("has a {m}")));
    let unfinished = ["todo!", "unimplemented!", "super::super"];
    broken.extend(unfinished.iter().filter(|m| code.contains(**m)).map(|m| format!("has `{m}`")));

    if name != "lib.rs" {
        broken.extend(check_level(folder, &code));
    }
    for (crate_name, homes) in HOMES {
        if names(&code, crate_name) && !homes.contains(&folder) {
            broken.push(format!("names {crate_name}, which only {} may", homes.join(", ")));
        }
    }
    if folder == "domain" {
        let impure = NOT_IN_DOMAIN.iter().filter(|word| names(&code, word));
        broken.extend(impure.map(|word| format!("names {word}, and domain is pure")));
    }
    broken
}

fn check_level(folder: &str, code: &str) -> Vec<String> {
    let level =
        |name: &str| LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level);
    let Some(own) = level(folder) else {
        return vec![format!("`{folder}` has no level; give it one in tests/pure/tidy.rs")];
    };
    // The binary sees the library by its name.
    let imported = [imports(code, "crate::"), imports(code, "segmentd::")].concat();
    imported
        .iter()
        .filter(|import| *import != folder)
        .filter_map(|import| Some((import, level(import)?)))
        .filter(|(_, theirs)| *theirs >= own)
        .map(|(import, theirs)| {
            format!("`{folder}` (level {own}) imports `{import}` (level {theirs})")
        })
        .collect()
}

/// `domain` for `domain/event/mod.rs`; `main` for `main.rs`.
fn folder_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name).trim_end_matches(".rs")
}

/// The first name after each `prefix`, braces opened: `a` and `b` for
/// `crate::a::X` and `crate::{b, c::{d, e}}` … and `c`.
fn imports(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first_word(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut at_start = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && is_word(c) => {
                    found.push(first_word(&group[i..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|&c| is_word(c)).collect()
}

/// Whether `text` contains `word` as a whole word.
fn names(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` without comments and without the content of strings.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if !code.ends_with(is_word) => raw_string_length(rest),
            '"' => string_length(rest),
            // A quote as a character opens no string.
            '\'' if rest.starts_with("'\"'") => 3,
            '\'' if rest.starts_with(r#"'\"'"#) => 4,
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
        }
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return i + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Length of the raw string that `text` begins with; 0 when it does not.
fn raw_string_length(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|&byte| byte == b'#').count();
    let Some(content) = text[1 + hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - content.len();
    content.find(&end).map_or(text.len(), |at| start + at + end.len())
}

pub(crate) fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The rules that a file with `code` below its opening line breaks.
fn broken(name: &str, code: &str) -> Vec<String> {
    check(name, &format!("//! Why.\n{code}\n"))
}

#[test]
fn sources_that_follow_the_rules_pass() {
    let good: [(&str, &str); 9] = [
        ("domain/feature/mod.rs", "use crate::domain::{event::Event, time};"),
        ("domain/event/mod.rs", "use crate::domain::event::properties;"),
        ("store/customers/events.rs", "use sqlx::query; use crate::domain::event::Event;"),
        ("config/log.rs", "/// Such as `info,sqlx=warn`.\nlet level = \"sqlx=warn\";"),
        ("config/log.rs", "let quote = '\"'; let text = r#\"\"axum::Router\"#; // crate::api"),
        ("service/scoring/assignment.rs", "let superb = crate::store::x(crate::service::y);"),
        ("main.rs", "use segmentd::cli;"),
        ("cli/mod.rs", "use crate::{app::App, config::Config};"),
        ("domain/time.rs", "/* crate::store */ fn instantly() {}"),
    ];
    for (name, code) in good {
        assert_eq!(broken(name, code), [""; 0], "{name}: {code}");
    }
}

#[test]
fn each_broken_rule_is_reported() {
    let bad: [(&str, &str, &str); 16] = [
        ("domain/event/mod.rs", "use crate::store::Tx;", "`domain` (level 0) imports `store`"),
        ("domain/time.rs", "use std::time::SystemTime;", "names SystemTime"),
        ("domain/time.rs", "let text = std::fs::read(path);", "names std::fs"),
        ("domain/time.rs", "async fn wait() {}", "names async"),
        ("domain/time.rs", "tracing::info!(\"no\");", "names tracing"),
        ("config/mod.rs", "use crate::telemetry::Metrics;", "imports `telemetry`"),
        ("config/mod.rs", "use crate::{domain::fault, store::{a, b}};", "imports `store`"),
        ("store/mod.rs", "fn f(x: crate::service::Clock) {}", "imports `service`"),
        ("api/models/mod.rs", "let rows = sqlx::query(text);", "names sqlx"),
        ("api/models/mod.rs", "use crate::web::session;", "imports `web`"),
        ("service/scoring/deployment.rs", "use axum::Router;", "names axum"),
        ("app/mod.rs", "use segmentd::cli;", "imports `cli`"),
        ("extra/mod.rs", "", "`extra` has no level"),
        ("app/mod.rs", "use super::super::config;", "super::super"),
        ("app/mod.rs", "todo!()", "todo!"),
        ("app/mod.rs", "// TODO: later", "has a TODO"),
    ];
    for (name, code, rule) in bad {
        let broken = broken(name, code);
        assert!(broken.len() == 1 && broken[0].contains(rule), "{name}: {code}\n{broken:#?}");
    }
    assert_eq!(check("app/mod.rs", "use std::fs;\n//! Too late.").len(), 1);
}
