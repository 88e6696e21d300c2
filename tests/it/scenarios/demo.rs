//! `segmentd demo` in a folder of its own: what it shows is true, and a second start goes on.

use std::path::Path;

use serde_json::Value;

use crate::support::open_to_all;
use crate::support::process::user_command;

/// The output of a demo that ends when it is ready.
fn run_demo(folder: &Path) -> String {
    let ended = user_command(folder, folder)
        .args(["demo", "--exit-when-ready"])
        .args(["--set", "http.bind=127.0.0.1:0", "--set", "admin.bind=127.0.0.1:0"])
        .output()
        .unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{text}\n{}", String::from_utf8_lossy(&ended.stderr));
    text
}

fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let found = text.lines().find_map(|line| line.strip_prefix(start));
    found.unwrap_or_else(|| panic!("no line begins with {start}:\n{text}"))
}

#[test]
fn the_demo_runs_in_any_folder_and_shows_a_real_household() {
    let folder = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let first = run_demo(folder.path());
    let rows = line(&first, "rows ").split(',').next().unwrap();
    assert!(line(&first, "rows ").starts_with(&format!("{rows}, accepted {rows}, ")), "{first}");

    // The caption, the request and the answer are about one household.
    let caption = line(&first, "Household ");
    let answer: Value = serde_json::from_str(&format!("{{{}", line(&first, "{"))).unwrap();
    let segment = format!("is in “{}”.", answer["segment_name"].as_str().unwrap());
    assert!(caption.contains(&segment), "{caption}\n{answer}");
    let confidence = answer["confidence"].as_f64().unwrap();
    assert!(caption.contains(&format!("confidence is {confidence:.2}: ")), "{caption}\n{answer}");
    assert_eq!((&answer["fallback"], &answer["outlier"]), (&false.into(), &false.into()));
    let body = line(&first, "  -d '").trim_end_matches('\'');
    let request: Value = serde_json::from_str(body).unwrap();
    assert!(request["features"].as_object().unwrap().len() >= 12, "{request}");
    // Each segment has a row, with its forecasts.
    assert!(line(&first, "│ segment").contains("expected"), "{first}");
    assert!(first.matches(" days ago ").count() >= 4, "{first}");

    let second = run_demo(folder.path());
    assert!(second.contains("The data has been loaded by an earlier start."), "{second}");
    assert_eq!(line(&second, "KEY="), line(&first, "KEY="));
    assert_eq!(line(&second, "Household "), caption);
}
