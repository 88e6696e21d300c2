//! The private Postgres with real server binaries, killed in every way.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use segmentd::store::database::private::{
    PrivatePostgres, PrivateServerError, PrivateServerSettings, ServerAccess,
};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

/// The environment variable of the child process that a test kills: its state directory.
const VICTIM: &str = "SEGMENTD_TEST_STATE_DIRECTORY";
const PATIENCE: Duration = Duration::from_secs(30);

/// A state directory that the account of the server can reach.
fn state_directory() -> TempDir {
    directory_with_mode(0o755)
}

fn directory_with_mode(mode: u32) -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempdir().unwrap()
}

async fn start(state: &Path) -> PrivatePostgres {
    try_start(state).await.unwrap()
}

async fn try_start(state: &Path) -> Result<PrivatePostgres, PrivateServerError> {
    PrivatePostgres::start(state, &PrivateServerSettings { binaries: None, max_connections: 20 })
        .await
}

async fn write_row(postgres: &PrivatePostgres) {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let sql = "create table kept (value text); insert into kept values ('row')";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

async fn rows(postgres: &PrivatePostgres) -> Vec<String> {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::query_scalar("select value from kept").fetch_all(&mut connection).await.unwrap()
}

fn server_pid(data: &Path) -> Pid {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap()).unwrap()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !condition() {
        assert!(asked.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A child process with this program; killed at the latest when the test fails.
struct Victim(Child);

impl Victim {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `test` in a child process that can be killed; returns when it has written its row.
async fn victim(test: &str, state: &Path) -> Victim {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(VICTIM, state)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = Victim(child);
    let ready = state.join("ready");
    eventually("the victim writes its row", || ready.exists()).await;
    child
}

/// In the child process: writes the row, then waits to be killed.
#[expect(clippy::disallowed_methods, reason = "how a test tells its copy what to be")]
async fn be_victim_if_asked() {
    let Some(state) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let postgres = start(&state).await;
    write_row(&postgres).await;
    fs::write(state.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn data_survives_a_restart() {
    let state = state_directory();
    let postgres = start(state.path()).await;
    write_row(&postgres).await;
    postgres.stop().await.unwrap();
    assert!(!state.path().join("postgres/data/postmaster.pid").exists());

    let postgres = start(state.path()).await;
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_segmentd_stops_its_server() {
    be_victim_if_asked().await;
    let state = state_directory();
    let mut child = victim("a_killed_segmentd_stops_its_server", state.path()).await;
    let server = server_pid(&state.path().join("postgres/data"));
    child.kill();
    eventually("the server ends", || !is_running(server)).await;

    let postgres = start(state.path()).await;
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_segmentd_started_at_once_after_a_kill_waits_for_the_old_server() {
    be_victim_if_asked().await;
    let state = state_directory();
    let name = "a_segmentd_started_at_once_after_a_kill_waits_for_the_old_server";
    let mut child = victim(name, state.path()).await;
    child.kill();

    let postgres = start(state.path()).await;
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_whose_supervisor_was_killed_too_is_stopped() {
    be_victim_if_asked().await;
    let state = state_directory();
    let name = "a_server_whose_supervisor_was_killed_too_is_stopped";
    let mut child = victim(name, state.path()).await;
    let server = server_pid(&state.path().join("postgres/data"));
    let shells = shells_in_group_of(server);
    assert_eq!(shells.len(), 2, "supervisor and watcher");
    for shell in shells {
        rustix::process::kill_process(shell, Signal::KILL).unwrap();
    }
    child.kill();
    // A sleep, because it proves a negative: no process is left that stops the server.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(is_running(server), "the server is stopped without its supervisor");

    let postgres = start(state.path()).await;
    assert!(!is_running(server));
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn one_state_directory_has_one_segmentd() {
    let state = state_directory();
    let first = start(state.path()).await;
    let refusal = try_start(state.path()).await.unwrap_err();
    let own = std::process::id();
    assert!(
        matches!(refusal, PrivateServerError::InUse { process: Some(process), .. } if process == own),
        "{refusal}"
    );
    assert!(PrivatePostgres::check_unused(state.path()).is_err());
    first.stop().await.unwrap();
    PrivatePostgres::check_unused(state.path()).unwrap();
}

async fn open(state: &Path, may_create: bool) -> Result<ServerAccess, PrivateServerError> {
    let settings = PrivateServerSettings { binaries: None, max_connections: 20 };
    ServerAccess::open(state, &settings, may_create).await
}

/// The rows of the test's table, as another process on the server sees them.
async fn rows_at(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select value from kept").fetch_all(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_command_uses_the_running_server_and_leaves_it_running() {
    let state = state_directory();
    let service = start(state.path()).await;
    write_row(&service).await;
    for may_create in [true, false] {
        let ServerAccess::Shared(shared) = open(state.path(), may_create).await.unwrap() else {
            panic!("the command started a server of its own")
        };
        assert_eq!(rows_at(&shared.url()).await, ["row"]);
    }
    assert_eq!(rows(&service).await, ["row"]);
    // The service does not wait for commands.
    let _shared = open(state.path(), false).await.unwrap();
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_stops_its_server_only_after_the_other_commands() {
    let state = state_directory();
    let ServerAccess::Owned(owned) = open(state.path(), true).await.unwrap() else {
        panic!("another process runs the server")
    };
    write_row(&owned).await;
    let shared = open(state.path(), false).await.unwrap();
    let ServerAccess::Shared(ref other) = shared else { panic!("two servers on one directory") };
    let url = other.url();
    let mut stopping = Box::pin(owned.stop_when_unused());
    // A timeout, because it proves a negative: the server is not stopped.
    let waited = tokio::time::timeout(Duration::from_millis(500), &mut stopping).await;
    assert!(waited.is_err(), "the server was stopped under another command");
    assert_eq!(rows_at(&url).await, ["row"]);
    drop(shared);
    tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_command_that_needs_data_creates_none() {
    let state = state_directory();
    let refusal = open(state.path(), false).await.unwrap_err();
    assert!(matches!(refusal, PrivateServerError::NoDatabase { .. }), "{refusal}");
    assert!(refusal.to_string().contains("segmentd serve"), "{refusal}");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    let absent = state.path().join("absent");
    assert!(open(&absent, false).await.is_err());
    assert!(!absent.exists());
}

#[tokio::test]
async fn files_left_behind_by_a_crash_are_cleaned_up() {
    let state = state_directory();
    start(state.path()).await.stop().await.unwrap();
    let place = state.path().join("postgres");
    // A process id that was reused: that of this process.
    let stale = format!("{}\n{}\n", std::process::id(), place.join("data").display());
    fs::write(place.join("data/postmaster.pid"), stale).unwrap();
    fs::write(place.join("run/.s.PGSQL.5432.lock"), "999999\n").unwrap();
    start(state.path()).await.stop().await.unwrap();

    // An interrupted initdb.
    fs::rename(place.join("data"), place.join("data.new-1")).unwrap();
    fs::remove_file(place.join("data.new-1/PG_VERSION")).unwrap();
    start(state.path()).await.stop().await.unwrap();
    assert!(!place.join("data.new-1").exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_replaced() {
    let state = state_directory();
    let deep = state.path().join("a rather long name, with a comma ".repeat(4));
    fs::create_dir(&deep).unwrap();
    fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
    let postgres = start(&deep).await;
    assert!(postgres.url().contains("host=/tmp/segmentd-"), "{}", postgres.url());
    write_row(&postgres).await;
    let directory =
        postgres.url().split_once("host=").unwrap().1.split_once('&').unwrap().0.to_owned();
    postgres.stop().await.unwrap();
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_directory_that_the_servers_account_cannot_reach_is_replaced() {
    if !rustix::process::geteuid().is_root() {
        return; // Another account's server runs as that account.
    }
    let state = directory_with_mode(0o700);
    let postgres = start(state.path()).await;
    let elsewhere = fs::read_link(state.path().join("postgres")).unwrap();
    assert!(elsewhere.starts_with("/var/lib/segmentd"));
    write_row(&postgres).await;
    postgres.stop().await.unwrap();

    let postgres = start(state.path()).await;
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
    fs::remove_dir_all(&elsewhere).unwrap();
    for ending in ["lock", "log", "log.old", "hba.conf", "ident.conf"] {
        fs::remove_file(elsewhere.with_extension(ending)).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn root_runs_the_server_as_the_owner_of_its_data() {
    use std::os::unix::fs::{MetadataExt as _, chown};

    const OWNER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return; // Only root can choose.
    }
    let state = state_directory();
    let place = state.path().join("postgres");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    chown(&place, Some(OWNER), Some(OWNER)).unwrap();
    let postgres = start(state.path()).await;
    let pid = server_pid(&place.join("data")).as_raw_pid();
    assert_eq!(fs::metadata(place.join("data")).unwrap().uid(), OWNER);
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == OWNER));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn databases_are_created_once() {
    let state = state_directory();
    let postgres = start(state.path()).await;
    for _ in 0..2 {
        postgres.create_database("one \"test\"").await.unwrap();
    }
    let url = postgres.url_for("one \"test\"");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut connection).await.unwrap();
    assert_eq!(name, "one \"test\"");
    // Open sessions do not delay a shutdown.
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_restarted() {
    let state = state_directory();
    let mut postgres = start(state.path()).await;
    write_row(&postgres).await;
    let data = state.path().join("postgres/data");
    rustix::process::kill_process(server_pid(&data), Signal::KILL).unwrap();
    let ended = tokio::time::timeout(PATIENCE, postgres.wait_for_exit()).await.unwrap();
    assert_eq!(ended.status, "signal 9");
    assert!(ended.log.contains("ready to accept connections"), "{}", ended.log);
    restarted(&mut postgres).await;
    assert_eq!(rows(&postgres).await, ["row"]);

    // A missing data directory is not recreated.
    fs::rename(&data, state.path().join("away")).unwrap();
    rustix::process::kill_process(server_pid(&state.path().join("away")), Signal::KILL).unwrap();
    postgres.wait_for_exit().await;
    let refusal = postgres.restart().await.unwrap_err();
    assert!(matches!(refusal, PrivateServerError::DataMissing { .. }), "{refusal}");
    fs::rename(state.path().join("away"), &data).unwrap();
    restarted(&mut postgres).await;
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
}

/// Restarts, with retries: for a moment the children of a killed server hold its shared
/// memory.
async fn restarted(postgres: &mut PrivatePostgres) {
    let asked = Instant::now();
    while let Err(refusal) = postgres.restart().await {
        assert!(asked.elapsed() < PATIENCE, "{refusal}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_is_restarted_after_its_supervisor_was_killed() {
    let state = state_directory();
    let mut postgres = start(state.path()).await;
    write_row(&postgres).await;
    let server = server_pid(&state.path().join("postgres/data"));
    let parent = parent_of(server).unwrap();
    rustix::process::kill_process(parent, Signal::KILL).unwrap();
    postgres.wait_for_exit().await;
    postgres.restart().await.unwrap();
    assert!(!is_running(server), "two servers on one directory");
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();
}

/// The account that owns the directory of the server plants symbolic links in it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn symbolic_links_planted_by_the_account_of_the_server_are_not_followed() {
    use std::os::unix::fs::{chown, symlink};

    const OWNER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return; // Another account has nothing to lose to itself.
    }
    let precious = tempfile::NamedTempFile::new().unwrap();
    fs::write(precious.path(), "precious").unwrap();
    let state = state_directory();
    let place = state.path().join("postgres");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    for name in ["lock", "server.log", "server.log.old"] {
        symlink(precious.path(), place.join(name)).unwrap();
    }
    chown(&place, Some(OWNER), Some(OWNER)).unwrap();
    let postgres = start(state.path()).await;
    write_row(&postgres).await;
    postgres.stop().await.unwrap();
    assert_eq!(fs::read_to_string(precious.path()).unwrap(), "precious");

    // A link instead of a file or directory is refused.
    for name in ["data/postmaster.pid", "data/PG_VERSION"] {
        let (link, real) = (place.join(name), place.join(format!("{name}.real")));
        let had = fs::rename(&link, &real).is_ok();
        symlink(precious.path(), &link).unwrap();
        assert!(try_start(state.path()).await.is_err(), "{name}");
        fs::remove_file(&link).unwrap();
        if had {
            fs::rename(&real, &link).unwrap();
        }
    }
    let elsewhere = tempfile::tempdir().unwrap();
    fs::remove_dir_all(place.join("run")).unwrap();
    symlink(elsewhere.path(), place.join("run")).unwrap();
    assert!(try_start(state.path()).await.is_err());
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(elsewhere.path()).unwrap());
    assert_eq!(owner, 0, "the target of a link was given away");
    fs::remove_file(place.join("run")).unwrap();
    assert_eq!(fs::read_to_string(precious.path()).unwrap(), "precious");
    let postgres = start(state.path()).await;
    assert_eq!(rows(&postgres).await, ["row"]);
    postgres.stop().await.unwrap();

    // As root, a state directory of another account is not used at all.
    chown(state.path(), Some(OWNER), Some(OWNER)).unwrap();
    let refusal = try_start(state.path()).await.unwrap_err();
    assert!(matches!(refusal, PrivateServerError::Untrusted { owner: OWNER, .. }), "{refusal}");
}

/// The account of the server owns its files, and is no superuser in SQL.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn only_root_and_its_own_account_can_connect() {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;

    let Some(psql) = psql() else { return };
    if !rustix::process::geteuid().is_root() {
        return; // Only root can become another account.
    }
    let state = state_directory();
    let postgres = start(state.path()).await;
    let owner = fs::metadata(state.path().join("postgres")).unwrap();
    assert_ne!(owner.uid(), 0);
    let ask = |account: Option<(u32, u32)>| {
        let mut command = Command::new(&psql);
        command.args([&*postgres.url(), "-Atc", "select current_user"]).current_dir("/");
        if let Some((uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    assert_eq!(ask(None), (true, "segmentd\n".to_owned()));
    let (is_admitted, output) = ask(Some((owner.uid(), owner.gid())));
    assert!(!is_admitted && output.contains("Peer authentication failed"), "{output}");
    postgres.stop().await.unwrap();
}

/// The `psql` of the server programs.
#[cfg(target_os = "linux")]
fn psql() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin/psql")).find(|path| path.exists())
}

/// Second field after the name in `/proc/PID/stat`.
#[cfg(target_os = "linux")]
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    Pid::from_raw(stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?)
}

/// Whether the process exists and has not ended (a zombie has).
fn is_running(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())) {
        Ok(stat) => !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
        Err(_) if Path::new("/proc/self/stat").exists() => false,
        Err(_) => rustix::process::test_kill_process(pid).is_ok(),
    }
}

/// The other processes in the process group of `server`: supervisor, watcher.
/// (Postgres gives each process that it starts a group of its own.)
#[cfg(target_os = "linux")]
fn shells_in_group_of(server: Pid) -> Vec<Pid> {
    let group = group_of(server);
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|&pid| pid != server && group_of(pid) == group)
        .collect()
}

/// Third field after the name in `/proc/PID/stat`.
#[cfg(target_os = "linux")]
fn group_of(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(2).map(str::to_owned)
}
