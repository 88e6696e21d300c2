//! The real binary as a process: it can be killed, and several share a database.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `segmentd serve`; killed at the latest when the test ends.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
}

/// Settings every process of a test has: free ports, a state directory.
fn command(state: &Path, database_url: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segmentd"));
    for setting in ["http.bind=127.0.0.1:0", "admin.bind=127.0.0.1:0", "log.format=json"] {
        command.args(["--set", setting]);
    }
    command.args(["--set", "training.schedule="]);
    command.args(["--set", &format!("database.state_directory={}", state.display())]);
    command.env_remove("DATABASE_URL");
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    command
}

impl Process {
    /// Starts one and waits until it listens. Without a `database_url` it runs
    /// a private Postgres in `state`.
    pub(crate) fn start(state: &Path, database_url: Option<&str>) -> Self {
        Self::start_with(state, database_url, &[])
    }

    /// As [`Self::start`], with settings of its own.
    pub(crate) fn start_with(state: &Path, database_url: Option<&str>, settings: &[&str]) -> Self {
        let mut command = command(state, database_url);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::spawn(command)
    }

    /// As [`Self::start_with`] without a `database_url`, with at most so many open files.
    pub(crate) fn start_within(state: &Path, settings: &[&str], open_files: u32) -> Self {
        let mut inner = command(state, None);
        for setting in settings {
            inner.args(["--set", setting]);
        }
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {open_files}; exec \"$0\" \"$@\"")]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.env_remove("DATABASE_URL");
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.arg("serve").stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let [url, admin] = log
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
            .find(|line| line["message"] == "listening")
            .map(|line| {
                ["api", "admin"].map(|name| format!("http://{}", line[name].as_str().unwrap()))
            })
            .unwrap();
        // A full pipe would stop it.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, url, admin }
    }

    /// A key with every scope, made by the command.
    pub(crate) fn key(state: &Path, database_url: Option<&str>) -> String {
        let made = command(state, database_url).args(["keys", "create", "test"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
