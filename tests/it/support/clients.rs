//! Third-party client libraries and programs, installed below `target/clients` by their
//! package managers.
//!
//! Python, Node and curl come from `tests/ensure-clients.sh`, which `make test` runs. Where they
//! are missing and this account may not install them, a test is skipped with a notice that
//! the test harness does not capture. Everywhere else, and in CI (`CI` is set, as by
//! `.ci/run`), a client that cannot be installed is a failed test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;

/// The Python interpreter of a virtual environment with these requirements.
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

/// The folder with these packages in its `node_modules`.
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

/// A program of a Debian package, by its path in the package. The package is unpacked, not
/// installed: installed, it would start a service.
pub(crate) fn debian_program(package: &str, program: &str) -> Option<PathBuf> {
    let home = home("debian", package);
    installed(&home, &[package], || unpack(package, &home)).then(|| home.join(program))
}

/// Downloads a Debian package, and unpacks it in `home`.
fn unpack(package: &str, home: &Path) -> Result<(), String> {
    let download = || run(Command::new("apt-get").arg("download").arg(package).current_dir(home));
    // The package list may be missing, or name a version that no longer exists.
    download().or_else(|_| run(Command::new("apt-get").arg("update")).and_then(|()| download()))?;
    let files = std::fs::read_dir(home).map_err(|error| error.to_string())?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    let file = files.flatten().map(|file| file.path()).find(is_package);
    let file = file.ok_or("nothing was downloaded")?;
    run(Command::new("dpkg").arg("-x").args([&file, home]))
}

fn home(language: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(language).join(name)
}

/// Installs the packages unless exactly these are installed. Returns `false` if the test is
/// to be skipped.
fn installed(home: &Path, packages: &[&str], install: impl Fn() -> Result<(), String>) -> bool {
    // One test at a time: two that need the same packages would remove each other's.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _guard = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let marker = home.join("installed");
    let packages = packages.join("\n");
    if std::fs::read_to_string(&marker).is_ok_and(|present| present == packages) {
        return true;
    }
    std::fs::create_dir_all(home).unwrap();
    if let Err(why) = install() {
        skip_unless_installable(&packages, &why);
        return false;
    }
    std::fs::write(marker, packages).unwrap();
    true
}

/// Whether the machine has this program, which `tests/ensure-clients.sh` installs.
pub(crate) fn has_program(name: &str) -> bool {
    match run(Command::new(name).arg("--version")) {
        Ok(()) => true,
        Err(why) => {
            skip_unless_installable(name, &why);
            false
        }
    }
}

/// Prints a notice if the test is to be skipped, and fails otherwise.
fn skip_unless_installable(packages: &str, why: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test asks whether it runs in CI")]
    let in_ci = std::env::var_os("CI").is_some();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ensure-clients.sh");
    // Debian packages exist on Debian only, and there with `apt-get`.
    let has_apt = run(Command::new("apt-get").arg("--version")).is_ok();
    let is_elsewhere = why.contains("apt-get") && !has_apt;
    let check = Command::new("sh").arg(&script).arg("--check").status().unwrap();
    let is_skipped = !in_ci && (is_elsewhere || check.code() == Some(3));
    assert!(
        is_skipped,
        "{packages} cannot be installed: {why}\n\
         `sh tests/ensure-clients.sh` installs Python, Node and curl, or says what to type"
    );
    super::print_skipped(&format!(
        "{packages} cannot be installed: {why}\n\
         `sh tests/ensure-clients.sh` says what to type"
    ));
}

/// The directory in which Debian's Alertmanager looks for its templates.
const TEMPLATES: &[u8] = b"/usr/share/prometheus/alertmanager";

/// Alertmanager of Debian, as a command with its working directory.
///
/// The program has the absolute path of its templates compiled in. Here the package is
/// unpacked elsewhere, so a copy of the program gets a relative path of the same length,
/// which is valid in its working directory.
pub(crate) fn alertmanager() -> Option<Command> {
    let home = alertmanager_home()?;
    let mut command = Command::new(home.join("relocated"));
    command.current_dir(&home);
    Some(command)
}

/// The command-line tool of Alertmanager.
pub(crate) fn amtool() -> Option<PathBuf> {
    alertmanager_home().map(|home| home.join("usr/bin/amtool"))
}

fn alertmanager_home() -> Option<PathBuf> {
    let package = "prometheus-alertmanager";
    let home = home("debian", package);
    let is_installed = installed(&home, &[package, "relocated"], || {
        unpack(package, &home)?;
        relocate(&home, &home.join("usr/bin").join(package))
    });
    is_installed.then_some(home)
}

/// Writes `home/relocated`, a copy of `program` with a relative path of its templates.
fn relocate(home: &Path, program: &Path) -> Result<(), String> {
    let relative = [b".", &TEMPLATES[..TEMPLATES.len() - 1]].concat();
    let mut bytes = std::fs::read(program).map_err(|error| error.to_string())?;
    let windows = bytes.windows(TEMPLATES.len()).enumerate();
    let places: Vec<usize> =
        windows.filter(|(_, window)| *window == TEMPLATES).map(|(place, _)| place).collect();
    if places.is_empty() {
        return Err("this Alertmanager has its templates in another directory".into());
    }
    for place in places {
        bytes[place..place + relative.len()].copy_from_slice(&relative);
    }
    let patched = home.join("patched");
    std::fs::write(&patched, bytes).map_err(|error| error.to_string())?;
    let shortened = home.join(String::from_utf8_lossy(&relative).as_ref());
    let _ = std::fs::remove_file(&shortened);
    std::os::unix::fs::symlink("alertmanager", shortened).map_err(|error| error.to_string())?;
    // By another process: a file that this process has open for writing cannot be executed,
    // and a child that another test forks meanwhile inherits it.
    run(Command::new("cp").arg(&patched).arg(home.join("relocated")))?;
    run(Command::new("chmod").arg("755").arg(home.join("relocated")))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&text)))
}

/// Runs a script of `tests/clients`; returns its output as JSON.
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
