//! Other people's clients, unmodified, from their registries.
//!
//! Each test has an environment of its own under `target/clients`, kept from
//! run to run. Where it cannot be made the test is skipped and says so; in CI,
//! where nobody reads what was skipped, it fails.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt as _;

/// The Python of an environment with these packages.
pub(crate) fn python_venv(name: &str, requirements: &[&str]) -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(name);
    let python = home.join("bin/python");
    // Written last: an environment without it was not finished.
    let stamp = home.join("requirements.txt");
    let wanted = requirements.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Some(python);
    }
    let made =
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home)).and_then(|()| {
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(&python).args(pip).args(requirements))
        });
    match made {
        Ok(()) => {
            fs::write(stamp, wanted).unwrap();
            Some(python)
        }
        Err(why) => skip(name, &why),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Not by `eprintln!`, which a test that passes keeps to itself.
#[expect(clippy::disallowed_methods, reason = "no setting of segmentd's")]
fn skip<T>(name: &str, why: &str) -> Option<T> {
    assert!(
        std::env::var_os("CI").is_none(),
        "the clients of `{name}` could not be installed: {why}"
    );
    let text = format!("\nSKIPPED: the test of the clients of `{name}`. {why}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    None
}

/// Runs a script of `tests/clients` and reads what it prints as JSON.
pub(crate) async fn answers(
    interpreter: &Path,
    script: &str,
    arguments: &[&str],
    input: &serde_json::Value,
) -> serde_json::Value {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut child = tokio::process::Command::new(interpreter)
        .arg(scripts.join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
