//! The server process: started under a supervisor, stopped with a deadline, removed when
//! left by an earlier process.

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

use crate::store::database::private::binaries::ServerBinaries;
use crate::store::database::private::error::PrivateServerError;
use crate::store::database::private::server_directory::ServerDirectory;
use crate::store::database::private::{PORT, PrivateServerSettings, access, files};

/// Runs the server given as arguments until it ends or the pipe on standard input closes;
/// then requests a fast shutdown.
///
/// - Hang-up, interrupt and terminate are ignored: a signal to every process of a terminal
///   or service must not stop the database under a segmentd that still finishes its
///   requests. (The server sets its own handlers.)
/// - The watcher is a separate process, so closing the pipe works even after the supervisor
///   was killed. It must end first when the server ends by itself; else it would later
///   signal a process id that belongs to another process.
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

/// Deadline of a fast shutdown, which writes every dirty page before it ends.
const FAST_SHUTDOWN: Duration = Duration::from_secs(30);
/// Deadline for a server left by an earlier process. Shorter, because the service waits for
/// it; committed data is replayed from the log at the next start.
const LEFT_OVER_SHUTDOWN: Duration = Duration::from_secs(5);
/// Deadline of an immediate shutdown, which writes no page; the next start replays the log.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// PostgreSQL's pid file; its first line is the process id.
const PID_FILE: &str = "postmaster.pid";

/// The supervisor of a running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    supervisor: Child,
    /// Closing this pipe stops the server.
    stop_pipe: Option<PipeWriter>,
}

impl ServerProcess {
    pub(crate) fn spawn(
        server_directory: &ServerDirectory,
        binaries: &ServerBinaries,
        socket_directory: &str,
        settings: &PrivateServerSettings,
    ) -> Result<Self, PrivateServerError> {
        let shell = Path::new("/bin/sh");
        let access = access::write(server_directory)?;
        let (log, error_log) = server_directory.open_log()?;
        let (read_end, stop_pipe) =
            io::pipe().map_err(PrivateServerError::io("make a pipe for", shell))?;
        let mut command = server_directory.command(shell);
        command.args(["-c", SUPERVISOR, "segmentd-postgres"]).arg(binaries.postgres());
        command.arg("-D").arg(server_directory.data());
        for setting in server_settings(socket_directory, settings).into_iter().chain(access) {
            command.arg("-c").arg(setting);
        }
        let supervisor = command
            .stdin(Stdio::from(read_end))
            .stdout(log)
            .stderr(error_log)
            // Ctrl-C in a terminal signals only segmentd's process group.
            .process_group(0)
            .spawn()
            .map_err(PrivateServerError::io("run", shell))?;
        Ok(Self { supervisor, stop_pipe: Some(stop_pipe) })
    }

    /// Whether the server has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool, PrivateServerError> {
        let status = self.supervisor.try_wait();
        let status = status.map_err(PrivateServerError::io("wait for", Path::new("postgres")))?;
        Ok(status.is_some())
    }

    /// Waits until the server ends by itself; returns its status. Cancel-safe: may be
    /// dropped and called again.
    pub(crate) async fn ended(&mut self) -> String {
        match self.supervisor.wait().await {
            // A shell reports a program ended by signal N with status 128 + N.
            Ok(status) => match status.code() {
                Some(code @ 129..) => format!("signal {}", code - 128),
                _ => status.to_string(),
            },
            Err(error) => error.to_string(),
        }
    }

    /// Fast shutdown, then an immediate one after the deadline. Also ends a server that
    /// outlived its supervisor.
    pub(crate) async fn stop(
        &mut self,
        server_directory: &ServerDirectory,
    ) -> Result<(), PrivateServerError> {
        drop(self.stop_pipe.take());
        let waited = tokio::time::timeout(FAST_SHUTDOWN, self.supervisor.wait()).await;
        if !waited.is_ok_and(|ended| ended.is_ok_and(|status| status.success())) {
            stop_left_over_server(server_directory).await?;
        }
        Ok(())
    }
}

/// Ends a server that still runs on the data of `server_directory`: one still shutting down after
/// segmentd was killed, or one that outlived its killed supervisor.
///
/// The caller has locked `server_directory`, so no other live segmentd uses it.
pub(crate) async fn stop_left_over_server(
    server_directory: &ServerDirectory,
) -> Result<(), PrivateServerError> {
    let data = server_directory.data();
    let pid_file = data.join(PID_FILE);
    let Some(directory) = server_directory.open_data()? else { return Ok(()) };
    let text = files::read_small_file(&directory, PID_FILE);
    let text = text.map_err(PrivateServerError::io("read", &pid_file))?;
    let Some(pid) = text.as_deref().and_then(first_pid) else { return Ok(()) };
    let uid = server_directory.server_uid();
    match owner_of_pid(pid, &data, uid) {
        PidOwner::PrivateServer => {}
        PidOwner::Other => {
            // PostgreSQL takes any live process with this id for a running server.
            rustix::fs::unlinkat(&directory, PID_FILE, AtFlags::empty())
                .map_err(io::Error::from)
                .map_err(PrivateServerError::io("remove", &pid_file))?;
            return Ok(());
        }
        PidOwner::Unknown => return Ok(()),
    }
    warn!(pid = pid.as_raw_pid(), "waiting for the server of an earlier process to stop");
    // A second request to a server that is already shutting down is harmless.
    for (signal, patience) in [
        (Signal::INT, LEFT_OVER_SHUTDOWN),
        (Signal::QUIT, IMMEDIATE_SHUTDOWN),
        (Signal::KILL, POLL * 10),
    ] {
        let Ok(()) = rustix::process::kill_process(pid, signal) else { return Ok(()) };
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if owner_of_pid(pid, &data, uid) != PidOwner::PrivateServer {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Err(PrivateServerError::DoesNotStop { pid: pid.as_raw_pid() })
}

/// Settings on the command line, so that a newer segmentd also changes them for old data.
fn server_settings(socket_directory: &str, settings: &PrivateServerSettings) -> Vec<String> {
    // The socket option is a list: in quotes, a comma in the path is no separator.
    let quoted_directory = format!("\"{}\"", socket_directory.replace('"', "\"\""));
    vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={quoted_directory}"),
        "unix_socket_permissions=0700".to_owned(),
        format!("port={PORT}"),
        format!("max_connections={}", settings.max_connections),
        // Durability: an acknowledged event is on disk.
        "fsync=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "full_page_writes=on".to_owned(),
        // A million customers need about 900 MB, plus the index of their events. Pages
        // beyond this cache are read and written on every access. Memory is allocated only
        // as it is used.
        "shared_buffers=2GB".to_owned(),
        // After a checkpoint the first change of each page logs the whole page. With
        // customers spread over many pages, a checkpoint every gigabyte would log little
        // else.
        "max_wal_size=4GB".to_owned(),
        "checkpoint_timeout=15min".to_owned(),
        // Compiling a query costs more than any query here takes.
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

/// Current meaning of a process id from a pid file: process ids are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PidOwner {
    /// The server on this data.
    PrivateServer,
    /// Certainly another program, or a zombie process.
    Other,
    /// No such process, or one that cannot be inspected. PostgreSQL has its own, more
    /// careful test for these.
    Unknown,
}

/// Inspects the command line, which unlike the working directory is readable for another
/// account's process without capabilities. The server's account writes the pid file; a
/// process of another account in it must not be ended by root.
#[cfg(target_os = "linux")]
fn owner_of_pid(pid: Pid, data: &Path, uid: u32) -> PidOwner {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let Ok(found) = std::fs::metadata(&process) else { return PidOwner::Unknown };
    if found.uid() != uid {
        return PidOwner::Other;
    }
    let Ok(line) = std::fs::read(process.join("cmdline")) else { return PidOwner::Unknown };
    let data = data.as_os_str().as_encoded_bytes();
    let is_server = line.split(|&byte| byte == 0).any(|argument| argument == data);
    if is_server { PidOwner::PrivateServer } else { PidOwner::Other }
}

/// Systems without `/proc`: macOS and the BSDs, which always have `ps`. The system calls that
/// read the command line of a process need unsafe code there.
#[cfg(not(target_os = "linux"))]
fn owner_of_pid(pid: Pid, data: &Path, uid: u32) -> PidOwner {
    let number = pid.as_raw_pid().to_string();
    let said = std::process::Command::new("ps").args(["-o", "uid=,args=", "-p", &number]).output();
    let Ok(said) = said else { return PidOwner::Unknown };
    let text = String::from_utf8_lossy(&said.stdout);
    let Some((owner, line)) = text.trim().split_once(' ') else { return PidOwner::Unknown };
    let is_server = owner == uid.to_string() && line.contains(&*data.to_string_lossy());
    if is_server { PidOwner::PrivateServer } else { PidOwner::Other }
}
