//! The real binary as a child process: a test can kill it, and several share a database.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::eventually;

/// A running `segmentd serve`; killed at the latest when the test ends.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    /// Metrics and health.
    pub(crate) admin: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// Settings of every process of a test: free ports, a state directory.
fn command(state: &Path, database_url: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segmentd"));
    for setting in ["http.bind=127.0.0.1:0", "admin.bind=127.0.0.1:0", "log.format=json"] {
        command.args(["--set", setting]);
    }
    command.args(["--set", "training.schedule=", "--set", "http.shutdown_delay_seconds=0"]);
    command.args(["--set", &format!("database.state_directory={}", state.display())]);
    command.env_remove("DATABASE_URL");
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    command
}

/// A command of a user, whose state is in `state_home`, in the working directory `folder`.
pub(crate) fn user_command(state_home: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segmentd"));
    command.current_dir(folder).env_remove("DATABASE_URL").env("XDG_STATE_HOME", state_home);
    command.args(["--set", "training.schedule="]);
    command
}

impl Process {
    /// Starts one and waits until it listens. Without a `database_url` it runs
    /// a private Postgres in `state`.
    pub(crate) fn start(state: &Path, database_url: Option<&str>) -> Self {
        Self::start_with(state, database_url, &[])
    }

    /// As [`Self::start`], with additional settings.
    pub(crate) fn start_with(state: &Path, database_url: Option<&str>, settings: &[&str]) -> Self {
        let mut command = command(state, database_url);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::spawn(command)
    }

    /// Starts one with the private Postgres of a user, whose state is in `state_home`, in the
    /// working directory `folder`.
    pub(crate) fn start_as_user(state_home: &Path, folder: &Path) -> Self {
        let mut command = user_command(state_home, folder);
        for setting in ["http.bind=127.0.0.1:0", "admin.bind=127.0.0.1:0", "log.format=json"] {
            command.args(["--set", setting]);
        }
        Self::spawn(command)
    }

    /// As [`Self::start_with`] without a `database_url`, with a limit of open files.
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
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(Vec::new()));
        let addresses = lines.by_ref().find_map(|line| {
            let addresses = addresses(&line);
            log.lock().unwrap().push(line);
            addresses
        });
        let [url, admin] = addresses.unwrap_or_else(|| panic!("it ended: {log:#?}"));
        // A full pipe would block the process.
        let rest = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| rest.lock().unwrap().push(line)));
        Self { child, url, admin, log }
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The lines of its JSON log so far with this message.
    pub(crate) fn log_with(&self, message: &str) -> Vec<Value> {
        let lines = self.log();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["message"].as_str().is_some_and(|m| m.starts_with(message)))
            .collect()
    }

    /// Sends `SIGTERM`.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits until it ends by itself; returns its exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    /// Creates a key with every scope by the command line.
    pub(crate) fn key(state: &Path, database_url: Option<&str>) -> String {
        let made = command(state, database_url)
            .args(["keys", "create", "test", "--scopes", "ingest,score,read,replay,train,admin"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// The peak of its resident memory so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends `SIGKILL`, and waits for the end.
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

/// The addresses of the API and of the admin listener in the line that states them, in either
/// format of the log.
fn addresses(line: &str) -> Option<[String; 2]> {
    let address = |name: &str| -> Option<String> {
        let text = match serde_json::from_str::<Value>(line) {
            Ok(line) => line[name].as_str()?.to_owned(),
            Err(_) => line
                .split(' ')
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?
                .to_owned(),
        };
        Some(format!("http://{text}"))
    };
    line.contains("listening").then(|| Some([address("api")?, address("admin")?])).flatten()
}

/// The process id in `postmaster.pid` of a data directory.
pub(crate) fn postmaster_pid(data: &Path) -> Pid {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap()).unwrap()
}

/// Ends the private Postgres of a state directory by an immediate shutdown (`SIGQUIT`): what
/// it has not written by then is lost.
pub(crate) fn end_postgres_at_once(state: &Path) {
    kill_process(postmaster_pid(&state.join("postgres/data")), Signal::QUIT).unwrap();
}
