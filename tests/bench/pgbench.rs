//! The baseline of single events: pgbench on a Postgres with the settings of the private
//! one. Its clients connect over TCP, as segmentd does, and over the socket for comparison.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::server::{Server, settle};

const ROLE: &str = "bench";
/// One insert into a table with one index is a transaction.
const TABLE: &str = "create table single (id bigint generated always as identity primary key, \
    customer_id text not null, segment text not null, distance double precision not null, \
    scored_at timestamptz not null)";
const INSERT: &str = "\\set c random(0, 9999)\n\
    insert into single (customer_id, segment, distance, scored_at) \
    values ('c' || lpad(:c::text, 7, '0'), 's1', 1.2345, now());\n";

/// The connection of the pgbench clients to Postgres.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Over {
    Tcp,
    Socket,
}

/// A running Postgres, and pgbench.
pub(crate) struct Pgbench {
    directory: tempfile::TempDir,
    /// The account that may run Postgres.
    owner: (u32, u32),
    port: u16,
}

impl Pgbench {
    pub(crate) fn start(server: &Server) -> Self {
        let owner = std::fs::metadata(server.postgres_directory()).unwrap();
        let owner = (owner.uid(), owner.gid());
        let directory = tempfile::tempdir().unwrap();
        chown(directory.path(), Some(owner.0), Some(owner.1)).unwrap();
        std::fs::write(directory.path().join("insert.sql"), INSERT).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bench = Self { directory, owner, port };
        let data = bench.data();
        bench.postgres(
            "initdb",
            &["-D", &data, "-U", ROLE, "--auth", "trust", "--locale", "C", "--encoding", "UTF8"],
        );
        let settings = bench.settings(server);
        bench.postgres("pg_ctl", &["-D", &data, "-w", "-o", &settings, "-l", "/dev/null", "start"]);
        server.runtime.block_on(async {
            let url = format!("postgres://{ROLE}@127.0.0.1:{port}/postgres");
            let mut connection = PgConnection::connect(&url).await.unwrap();
            sqlx::query(TABLE).execute(&mut connection).await.unwrap();
            settle(&url).await;
        });
        bench
    }

    /// Transactions per second of 64 clients.
    pub(crate) fn run(&self, over: Over, duration: Duration) -> f64 {
        let host = match over {
            Over::Tcp => "127.0.0.1",
            Over::Socket => self.directory.path().to_str().unwrap(),
        };
        let output = Command::new(program("pgbench"))
            .args(["-n", "-M", "prepared", "-c", "64", "-j", "2"])
            .args(["-T", &duration.as_secs().to_string(), "-h", host, "-U", ROLE])
            .args(["-p", &self.port.to_string(), "-f"])
            .arg(self.directory.path().join("insert.sql"))
            .arg("postgres")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("tps = "));
        let line = line.unwrap_or_else(|| panic!("pgbench: {text}"));
        line.split(' ').nth(2).unwrap().parse().unwrap()
    }

    fn data(&self) -> String {
        self.directory.path().join("data").to_str().unwrap().to_owned()
    }

    /// The settings of the private server, except its addresses.
    fn settings(&self, server: &Server) -> String {
        let given: Vec<(String, String)> = server.runtime.block_on(async {
            let mut connection = PgConnection::connect(&server.database_url).await.unwrap();
            let query = "select name, current_setting(name) from pg_settings
                where source = 'command line' and context <> 'internal' and name not in
                ('listen_addresses', 'unix_socket_directories', 'port', 'data_directory')";
            sqlx::query_as(query).fetch_all(&mut connection).await.unwrap()
        });
        let place = self.directory.path().display();
        let own = format!("-p {} -k {place} -c listen_addresses=127.0.0.1", self.port);
        given.iter().fold(own, |all, (name, value)| format!("{all} -c {name}={value}"))
    }

    /// A program of Postgres, run under another account, because it refuses root.
    fn postgres(&self, name: &str, arguments: &[&str]) {
        let (uid, gid) = self.owner;
        let mut command = Command::new(program(name));
        command.args(arguments).current_dir(self.directory.path());
        // An unprivileged process cannot set even its own account.
        if uid != std::fs::metadata("/proc/self").unwrap().uid() {
            command.uid(uid).gid(gid);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        self.postgres("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

/// The newest installed version.
fn program(name: &str) -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian.map(|version| version.path().join("bin").join(name));
    newest.filter(|path| path.exists()).max().unwrap_or_else(|| Path::new(name).to_owned())
}
