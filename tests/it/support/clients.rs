//! Other people's clients, installed from their registries below `target/clients`.
//!
//! Where they cannot be, a test is skipped and says so past the capture of its
//! output; in CI (`CI` is set, as `.ci/run` does) that is a failure.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;

/// The interpreter of a virtual environment with these requirements.
pub(crate) fn python_venv(name: &str, requirements: &[&str]) -> Option<PathBuf> {
    let home = home("python", name);
    let python = home.join("bin/python");
    installed(&home, requirements, || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(requirements))
    })
    .then_some(python)
}

/// The folder whose `node_modules` holds these packages.
pub(crate) fn node_modules(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let home = home("node", name);
    installed(&home, packages, || {
        run(Command::new("node").arg("--version"))?;
        let quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
        run(Command::new("npm")
            .arg("install")
            .args(quiet)
            .arg("--prefix")
            .arg(&home)
            .args(packages))
    })
    .then_some(home)
}

/// A program of a Debian package, which is unpacked and not installed.
pub(crate) fn debian_program(package: &str, program: &str) -> Option<PathBuf> {
    let home = home("debian", package);
    installed(&home, &[package], || {
        let download =
            || run(Command::new("apt-get").arg("download").arg(package).current_dir(&home));
        // Without a list of packages, or with one of what is gone.
        download()
            .or_else(|_| run(Command::new("apt-get").arg("update")).and_then(|()| download()))?;
        let files = std::fs::read_dir(&home).map_err(|error| error.to_string())?;
        let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
        let file = files.flatten().map(|file| file.path()).find(is_package);
        let file = file.ok_or("nothing was downloaded")?;
        run(Command::new("dpkg").arg("-x").args([&file, &home]))
    })
    .then(|| home.join("usr/bin").join(program))
}

fn home(language: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(language).join(name)
}

/// Installs unless exactly this is there already; whether it is now.
fn installed(home: &Path, what: &[&str], install: impl Fn() -> Result<(), String>) -> bool {
    // Tests that want the same one would clear it under each other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let marker = home.join("installed");
    let what = what.join("\n");
    if std::fs::read_to_string(&marker).is_ok_and(|there| there == what) {
        return true;
    }
    std::fs::create_dir_all(home).unwrap();
    if let Err(why) = install() {
        skip(&what, &why);
        return false;
    }
    std::fs::write(marker, what).unwrap();
    true
}

/// Says so where people look, and fails in CI.
fn skip(what: &str, why: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test asks where it runs")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "{what} cannot be had: {why}");
    // Unlike `eprintln!`, this is not captured.
    let notice = format!("\n*** SKIPPED: {what} cannot be had: {why}\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
}

/// Alertmanager of Debian, which looks for its templates where the package would have
/// put them: they are shown to it there, and to nobody else.
pub(crate) fn alertmanager() -> Option<Command> {
    let program = debian_program("prometheus-alertmanager", "prometheus-alertmanager")?;
    let apart = |command: &mut Command| {
        command.args(["--mount", "--map-root-user"]);
    };
    let mut attempt = Command::new("unshare");
    apart(&mut attempt);
    if let Err(why) = run(attempt.arg("true")) {
        skip("a view of the files for Alertmanager alone", &why);
        return None;
    }
    let mut command = Command::new("unshare");
    apart(&mut command);
    command.args(["sh", "-c", r#"mount --bind "$0" /usr/share && exec "$@""#]);
    command.arg(program.ancestors().nth(3)?.join("usr/share")).arg(program);
    Some(command)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said)))
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
