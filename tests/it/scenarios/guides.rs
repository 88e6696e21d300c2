//! Runs every command and request of the guides, in the order in which a reader meets them.

use std::path::Path;

use crate::support::TestApp;
use crate::support::clients::has_program;

/// The guides in reading order; later ones use the key and the customers of the first.
const GUIDES: [(&str, &str); 9] = [
    ("quick-start.md", include_str!("../../../config/guides/quick-start.md")),
    ("events.md", include_str!("../../../config/guides/events.md")),
    ("features.md", include_str!("../../../config/guides/features.md")),
    ("training.md", include_str!("../../../config/guides/training.md")),
    ("value.md", include_str!("../../../config/guides/value.md")),
    ("audiences.md", include_str!("../../../config/guides/audiences.md")),
    ("experiments.md", include_str!("../../../config/guides/experiments.md")),
    ("drift-and-alerts.md", include_str!("../../../config/guides/drift-and-alerts.md")),
    ("security.md", include_str!("../../../config/guides/security.md")),
];

/// The address of the service in the guides.
const ADDRESS: &str = "http://127.0.0.1:8080";

/// A request that is refused fails the script.
const PREAMBLE: &str = "PATH=\"$PROGRAM:$PATH\"\n\
    curl() { command curl --fail-with-body --silent --show-error \"$@\"; }\n";

/// The shell blocks of a guide as one script, which prints the heading of each block first.
fn script(guide: &str, text: &str) -> String {
    let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let blocks = blocks.enumerate();
    let titled =
        blocks.map(|(at, block)| [format!("echo '== {guide}, block {at}'\n"), block.into()]);
    titled.flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_and_request_of_the_guides_works() {
    if !has_program("curl") {
        return;
    }
    let app = TestApp::start().await;
    let program = Path::new(env!("CARGO_BIN_EXE_segmentd")).parent().unwrap();
    let scripts: String = GUIDES.iter().map(|(guide, text)| script(guide, text)).collect();
    let script = PREAMBLE.to_owned() + &scripts.replace(ADDRESS, &app.url);
    let folder = tempfile::tempdir().unwrap();
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(folder.path()).kill_on_drop(true);
    shell.env("PROGRAM", program).env("DATABASE_URL", &app.database_url);
    let ended = shell.output().await.unwrap();
    let output = String::from_utf8_lossy(&ended.stdout);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{output}\n{errors}");
    assert!(output.contains(r#""fallback":true"#), "before the training: {output}");
    app.stop().await;
}
