//! Clients that standard generators make from the OpenAPI document: they cover every operation,
//! pass strict type checks, and work.

use std::path::Path;
use std::process::Command;

use segmentd::api::openapi_document;
use serde_json::{Value, json};

use crate::support::clients::{node_modules, python_venv};
use crate::support::{TestApp, ndjson, orders};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/generated");

/// An app with customers and a model.
async fn trained_app() -> TestApp {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 3))).await;
    app.train().await;
    app
}

/// A folder with the document and a source file of `tests/clients/generated`.
fn folder_with(sources: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let document = openapi_document().to_string();
    std::fs::write(folder.path().join("openapi.json"), document).unwrap();
    for source in sources {
        std::fs::copy(Path::new(SOURCES).join(source), folder.path().join(source)).unwrap();
    }
    folder
}

/// Runs a program in a folder; returns its output.
fn run(folder: &Path, program: &Path, arguments: &[&str]) -> String {
    let ended = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let output = String::from_utf8_lossy(&ended.stdout);
    let errors = String::from_utf8_lossy(&ended.stderr);
    let command = format!("{} {}", program.display(), arguments.join(" "));
    assert!(ended.status.success(), "{command}\n{output}\n{errors}");
    output.into_owned()
}

/// The operation ids of the document, with their tags.
fn operations() -> Vec<(String, String)> {
    let document = openapi_document();
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    operations.map(|one| (text(&one["operationId"]), text(&one["tags"][0]))).collect()
}

/// What both clients print.
fn assert_used(printed: &str) {
    let printed: Value = serde_json::from_str(printed).unwrap();
    assert_eq!(printed["accepted"], 1, "{printed}");
    assert!(printed["segment_id"].is_string(), "{printed}");
    assert!(printed["score"]["segment_id"].is_string(), "{printed}");
    assert_eq!(printed["changes"], 1, "{printed}");
    assert_eq!(printed["field"], json!("segment_id"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_client_is_complete_strictly_typed_and_works() {
    let packages =
        ["openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20"];
    let Some(home) = node_modules("generated", &packages) else { return };
    let app = trained_app().await;
    let folder = folder_with(&["client.ts"]);
    let folder = folder.path();
    std::os::unix::fs::symlink(home.join("node_modules"), folder.join("node_modules")).unwrap();
    std::fs::write(folder.join("package.json"), r#"{"type":"module"}"#).unwrap();
    let node = Path::new("node");
    let generator = "node_modules/openapi-typescript/bin/cli.js";
    run(folder, node, &[generator, "openapi.json", "--output", "schema.d.ts"]);
    let types = std::fs::read_to_string(folder.join("schema.d.ts")).unwrap();
    for (operation, _) in operations() {
        assert!(types.contains(&format!("\n    {operation}: {{")), "{operation}");
    }
    let compile = ["--strict", "--module", "nodenext", "--target", "es2022", "--outDir", "out"];
    let compile = [&["node_modules/typescript/bin/tsc"], &compile[..], &["client.ts"]].concat();
    run(folder, node, &compile);
    assert_used(&run(folder, node, &["out/client.js", &app.url, &app.key]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_is_complete_strictly_typed_and_works() {
    let requirements = ["openapi-python-client==0.29.1", "mypy==2.4.1"];
    let Some(python) = python_venv("generated", &requirements) else { return };
    let app = trained_app().await;
    let folder = folder_with(&["client.py", "openapi-python-client.yaml"]);
    let folder = folder.path();
    let generate = ["-m", "openapi_python_client", "generate", "--path", "openapi.json"];
    let output = ["--output-path", "segmentd_client", "--meta", "none", "--fail-on-warning"];
    let config = ["--config", "openapi-python-client.yaml"];
    run(folder, &python, &[&generate[..], &output, &config].concat());
    for (operation, tag) in operations() {
        let tag = tag.to_lowercase().replace(' ', "_");
        let file = folder.join(format!("segmentd_client/api/{tag}/{operation}.py"));
        assert!(file.exists(), "{}", file.display());
    }
    run(folder, &python, &["-m", "mypy", "--strict", "-p", "segmentd_client"]);
    run(folder, &python, &["-m", "mypy", "--strict", "client.py"]);
    assert_used(&run(folder, &python, &["client.py", &app.url, &app.key]));
    app.stop().await;
}
