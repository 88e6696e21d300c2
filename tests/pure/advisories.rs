//! `make advisories`: skipped with one warning where the database cannot be had,
//! never skipped in silence, and never where a database is named.

use std::path::Path;
use std::process::{Command, Output};

fn advisories(database: Option<&Path>, cargo_deny: &str) -> Output {
    let mut command = Command::new("sh");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/advisories.sh"))
        .env("ADVISORY_DB_URL", "file:///nonexistent/advisory-db")
        .env("CARGO_DENY", cargo_deny)
        .env_remove("ADVISORY_DB");
    if let Some(database) = database {
        command.env("ADVISORY_DB", database);
    }
    command.output().unwrap()
}

#[test]
fn an_unreachable_database_is_one_warning_and_no_failure() {
    let skipped = advisories(None, "false");
    let said = String::from_utf8(skipped.stderr).unwrap();
    assert!(skipped.status.success(), "{said}");
    assert!(said.starts_with("WARNING: ADVISORIES NOT CHECKED: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_database_that_is_named_is_used_or_an_error() {
    let missing = advisories(Some(Path::new("/nonexistent")), "true");
    assert!(!missing.status.success());

    let clone = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let done = Command::new("git").arg("-C").arg(clone.path()).args(arguments).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet"]);
    let author = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
    git(&[&author[..], &["commit", "--quiet", "--allow-empty", "--message=empty"]].concat());
    // What the check says is what is answered.
    assert!(advisories(Some(clone.path()), "true").status.success());
    assert!(!advisories(Some(clone.path()), "false").status.success());
}
