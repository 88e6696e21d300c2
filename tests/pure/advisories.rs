//! `make advisories` is skipped with one warning if the advisory database cannot be
//! reached, and never if a database is configured.

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
fn an_unreachable_database_gives_one_warning_and_no_failure() {
    let skipped = advisories(None, "false");
    let output = String::from_utf8(skipped.stderr).unwrap();
    assert!(skipped.status.success(), "{output}");
    assert!(output.starts_with("WARNING: ADVISORIES NOT CHECKED: "), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[test]
fn a_configured_database_is_used_or_an_error() {
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
    // The status of the check is the status of the script.
    assert!(advisories(Some(clone.path()), "true").status.success());
    assert!(!advisories(Some(clone.path()), "false").status.success());
}
