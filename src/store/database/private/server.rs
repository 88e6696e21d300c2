//! The server process: started under a supervisor, stopped with a deadline,
//! cleared away when an earlier process left one behind.

use std::io::{self, PipeWriter};
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::AtFlags;
use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tracing::warn;

use crate::store::database::private::binaries::Binaries;
use crate::store::database::private::error::PrivateError;
use crate::store::database::private::place::Place;
use crate::store::database::private::{PORT, Settings, access, files};

/// Runs the server given as arguments until it ends or the pipe on standard
/// input closes; then asks for a fast shutdown.
///
/// - Hang-up, interrupt and terminate are ignored: a signal to every process
///   of a terminal or service must not take the database away from a segmentd
///   that still finishes its requests. (The server sets its own handlers.)
/// - The watcher is a process of its own, so the pipe is obeyed even when the
///   supervisor itself is killed. It must go first when the server ends by
///   itself, as it would later signal a process id that means another process.
/// - Standard input of a background command is `/dev/null`, hence the copy.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ read -r _; kill -INT "$server"; } <&3 &
watcher=$!
exec 3<&- </dev/null
wait "$server"
status=$?
kill -KILL "$watcher" 2>/dev/null
exit "$status"
"#;

/// Time for a fast shutdown: it writes every dirty page before it ends.
const FAST_SHUTDOWN: Duration = Duration::from_secs(30);
/// Of a server that an earlier process left. Shorter: the service waits for it, and what
/// was committed is replayed from the log at the next start.
const LEFT_OVER_SHUTDOWN: Duration = Duration::from_secs(5);
/// Time for an immediate one, which writes nothing; the log is replayed at the
/// next start.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// Written by PostgreSQL, with its process id first.
const PID_FILE: &str = "postmaster.pid";

/// The supervisor of a running server.
#[derive(Debug)]
pub(crate) struct Server {
    supervisor: Child,
    /// Closing it stops the server.
    life_line: Option<PipeWriter>,
}

impl Server {
    pub(crate) fn spawn(
        place: &Place,
        binaries: &Binaries,
        socket_directory: &str,
        settings: &Settings,
    ) -> Result<Self, PrivateError> {
        let shell = Path::new("/bin/sh");
        let access = access::write(place)?;
        let (log, error_log) = place.open_log()?;
        let (end, life_line) = io::pipe().map_err(PrivateError::io("making a pipe for", shell))?;
        let mut command = place.command(shell);
        command.args(["-c", SUPERVISOR, "segmentd-postgres"]).arg(binaries.postgres());
        command.arg("-D").arg(place.data());
        for setting in server_settings(socket_directory, settings).into_iter().chain(access) {
            command.arg("-c").arg(setting);
        }
        let supervisor = command
            .stdin(Stdio::from(end))
            .stdout(log)
            .stderr(error_log)
            // Ctrl-C in a terminal goes to segmentd's process group only.
            .process_group(0)
            .spawn()
            .map_err(PrivateError::io("running", shell))?;
        Ok(Self { supervisor, life_line: Some(life_line) })
    }

    /// Whether the server has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool, PrivateError> {
        let status = self.supervisor.try_wait();
        let status = status.map_err(PrivateError::io("waiting for", Path::new("postgres")))?;
        Ok(status.is_some())
    }

    /// Waits until the server has ended by itself; how it ended. May be dropped and
    /// called again.
    pub(crate) async fn ended(&mut self) -> String {
        match self.supervisor.wait().await {
            // A shell's status for a program that a signal ended.
            Ok(status) => match status.code() {
                Some(code @ 129..) => format!("signal {}", code - 128),
                _ => status.to_string(),
            },
            Err(error) => error.to_string(),
        }
    }

    /// Fast shutdown, then an immediate one when that takes too long; also of a server
    /// whose supervisor ended without it.
    pub(crate) async fn stop(&mut self, place: &Place) -> Result<(), PrivateError> {
        drop(self.life_line.take());
        let waited = tokio::time::timeout(FAST_SHUTDOWN, self.supervisor.wait()).await;
        if !waited.is_ok_and(|ended| ended.is_ok_and(|status| status.success())) {
            end_left_over(place).await?;
        }
        Ok(())
    }
}

/// Ends the server that still runs on the data of `place`, if any: one that shuts down
/// because its segmentd was killed, or one whose supervisor was killed too.
///
/// The caller holds the lock of the place, so no live segmentd uses it.
pub(crate) async fn end_left_over(place: &Place) -> Result<(), PrivateError> {
    let data = place.data();
    let pid_file = data.join(PID_FILE);
    let Some(directory) = place.open_data()? else { return Ok(()) };
    let text = files::read_small(&directory, PID_FILE);
    let text = text.map_err(PrivateError::io("reading", &pid_file))?;
    let Some(pid) = text.as_deref().and_then(first_pid) else { return Ok(()) };
    let program = || program_of(pid, &data, place.server_uid());
    match program() {
        Program::Server => {}
        Program::Other => {
            // PostgreSQL takes any live process for a running server.
            rustix::fs::unlinkat(&directory, PID_FILE, AtFlags::empty())
                .map_err(io::Error::from)
                .map_err(PrivateError::io("removing", &pid_file))?;
            return Ok(());
        }
        Program::Unknown => return Ok(()),
    }
    warn!(pid = pid.as_raw_pid(), "waiting for the server of an earlier process to stop");
    // Asking a server that already shuts down once more does no harm.
    for (signal, patience) in [
        (Signal::INT, LEFT_OVER_SHUTDOWN),
        (Signal::QUIT, IMMEDIATE_SHUTDOWN),
        (Signal::KILL, POLL * 10),
    ] {
        let Ok(()) = rustix::process::kill_process(pid, signal) else { return Ok(()) };
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if program() != Program::Server {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Err(PrivateError::DoesNotStop { pid: pid.as_raw_pid() })
}

/// Given on the command line, so that a newer segmentd changes them on old data too.
fn server_settings(socket_directory: &str, settings: &Settings) -> Vec<String> {
    // The socket option is a list: quoted, a comma in the path is no separator.
    let quoted_directory = format!("\"{}\"", socket_directory.replace('"', "\"\""));
    vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={quoted_directory}"),
        "unix_socket_permissions=0700".to_owned(),
        format!("port={PORT}"),
        format!("max_connections={}", settings.max_connections),
        // An acknowledged event is on disk.
        "fsync=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "full_page_writes=on".to_owned(),
        // A million customers are some 900 MB, and their events' index comes on top: what
        // has no room here is read and written at every turn. Memory is only taken as it
        // is used.
        "shared_buffers=2GB".to_owned(),
        // After a checkpoint each page is logged whole, once: with customers on many
        // pages, checkpoints at every gigabyte would log little else.
        "max_wal_size=4GB".to_owned(),
        "checkpoint_timeout=15min".to_owned(),
        // Compiling a query costs more than any of ours takes.
        "jit=off".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        "logging_collector=off".to_owned(),
    ]
}

/// The process id on the first line of `postmaster.pid`.
fn first_pid(text: &str) -> Option<Pid> {
    let number = text.lines().next()?.trim().parse().ok()?;
    Pid::from_raw(number)
}

/// What a process id from a pid file means by now: they are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// The server on this data.
    Server,
    /// Certainly something else, or a process that ended and waits to be reaped.
    Other,
    /// There is no such process, or it cannot be inspected: PostgreSQL has its
    /// own, more careful, test for these.
    Unknown,
}

/// Reads the command line, which unlike the working directory can be read for
/// another account's process without any capability. The server's account writes the pid
/// file, so a process of another account is none of its own to have ended by root.
#[cfg(target_os = "linux")]
fn program_of(pid: Pid, data: &Path, uid: u32) -> Program {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let Ok(found) = std::fs::metadata(&process) else { return Program::Unknown };
    if found.uid() != uid {
        return Program::Other;
    }
    let Ok(line) = std::fs::read(process.join("cmdline")) else { return Program::Unknown };
    let data = data.as_os_str().as_encoded_bytes();
    let is_server = line.split(|&byte| byte == 0).any(|argument| argument == data);
    if is_server { Program::Server } else { Program::Other }
}

/// Systems without `/proc`: macOS and the BSDs, which always have `ps`. The system calls that
/// read the command line of a process need unsafe code there.
#[cfg(not(target_os = "linux"))]
fn program_of(pid: Pid, data: &Path, uid: u32) -> Program {
    let number = pid.as_raw_pid().to_string();
    let said = std::process::Command::new("ps").args(["-o", "uid=,args=", "-p", &number]).output();
    let Ok(said) = said else { return Program::Unknown };
    let text = String::from_utf8_lossy(&said.stdout);
    let Some((owner, line)) = text.trim().split_once(' ') else { return Program::Unknown };
    let is_server = owner == uid.to_string() && line.contains(&*data.to_string_lossy());
    if is_server { Program::Server } else { Program::Other }
}
