//! The release binary as a process with a private Postgres.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// State directory, settings and keys; outlives any one process on it.
pub(crate) struct Service {
    state: PathBuf,
    settings: Vec<String>,
    _directory: Option<TempDir>,
}

/// A running `segmentd serve`.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
    /// Lines of its log, warnings and errors only.
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// With a new state directory.
    pub(crate) fn new(settings: &[&str]) -> Self {
        // The private Postgres runs under another account, which needs access.
        let open_to_all = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(open_to_all).tempdir().unwrap();
        let state = directory.path().to_owned();
        Self { _directory: Some(directory), ..Self::at(&state, settings) }
    }

    /// With an existing state directory.
    pub(crate) fn at(state: &Path, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self { state: state.to_owned(), settings, _directory: None }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_segmentd"));
        let state = format!("database.state_directory={}", self.state.display());
        let own = ["http.bind=127.0.0.1:0", "admin.bind=127.0.0.1:0", "log.format=json"];
        let own =
            own.into_iter().chain(["training.schedule=", "http.shutdown_delay_seconds=0", &state]);
        for setting in own.chain(self.settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        command.env_remove("DATABASE_URL");
        command
    }

    /// Makes a key, while no process runs.
    pub(crate) fn key(&self, name: &str, scopes: &str) -> String {
        let made =
            self.command().args(["keys", "create", name, "--scopes", scopes]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// Starts a process and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        let mut child = self.command().arg("serve").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let listening = lines.by_ref().find_map(|line| {
            let entry = serde_json::from_str::<Value>(&line).ok();
            seen.push(line);
            entry.filter(|entry| entry["message"] == "listening")
        });
        let listening = listening.unwrap_or_else(|| panic!("it did not start: {seen:#?}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.filter(|line| !line.contains(r#""level":"INFO""#)) {
                kept.lock().unwrap().push(line);
            }
        });
        let address = |name: &str| format!("http://{}", listening[name].as_str().unwrap());
        Running { child, url: address("api"), admin: address("admin"), log }
    }

    /// The process id of the private Postgres, if one runs.
    pub(crate) fn postmaster(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.state.join("postgres/data/postmaster.pid")).ok()?;
        let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok()?)?;
        fs::exists(format!("/proc/{}", pid.as_raw_nonzero())).ok()?.then_some(pid)
    }

    /// Runs SQL by `psql`, while no process runs; one value.
    pub(crate) fn query(&self, sql: &str) -> String {
        let psql = format!(r#"psql -X -A -t "$DATABASE_URL" -c "{sql}""#);
        let output = self.command().args(["postgres", "--", "sh", "-c", &psql]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Running {
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Resident memory in MiB: now, and the highest ever.
    pub(crate) fn memory_mib(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
        };
        (field("VmRSS"), field("VmHWM"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Child processes of `parent`.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let of_parent = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The fields after the command in parentheses: state, parent.
        let after = stat.rsplit_once(')')?.1;
        (after.split_whitespace().nth(1)? == parent)
            .then(|| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))?
    });
    of_parent.collect()
}
