//! A load balancer on TCP: it forwards each connection to a replica whose `/readyz` succeeds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::process::Process;

/// Interval of the readiness checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs until it is dropped.
pub(crate) struct ReadinessProxy {
    pub(crate) url: String,
    targets: Targets,
    _running: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Targets(Arc<Mutex<Vec<Target>>>);

/// A replica behind the proxy.
#[derive(Clone)]
struct Target {
    api: SocketAddr,
    admin: String,
    is_ready: bool,
}

impl Target {
    fn new(process: &Process) -> Self {
        let api = process.url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { api, admin: process.admin.clone(), is_ready: false }
    }
}

impl Targets {
    fn lock(&self) -> MutexGuard<'_, Vec<Target>> {
        self.0.lock().unwrap()
    }

    fn ready(&self) -> Vec<SocketAddr> {
        self.lock().iter().filter(|target| target.is_ready).map(|target| target.api).collect()
    }
}

impl ReadinessProxy {
    pub(crate) async fn start(replicas: &[Process]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let targets = Targets(Arc::new(Mutex::new(replicas.iter().map(Target::new).collect())));
        let mut running = JoinSet::new();
        running.spawn(check_readiness(targets.clone()));
        running.spawn(forward_connections(listener, targets.clone()));
        Self { url, targets, _running: running }
    }

    /// Forwards to `process` in place of the replica at `index`, once it is ready.
    pub(crate) fn replace(&self, index: usize, process: &Process) {
        self.targets.lock()[index] = Target::new(process);
    }

    pub(crate) fn ready_replicas(&self) -> usize {
        self.targets.ready().len()
    }
}

async fn check_readiness(targets: Targets) {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    loop {
        let checked = targets.lock().clone();
        for target in checked {
            let answer = client.get(format!("{}/readyz", target.admin)).send().await;
            let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
            // It may have been replaced meanwhile.
            if let Some(same) = targets.lock().iter_mut().find(|other| other.api == target.api) {
                same.is_ready = is_ready;
            }
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

async fn forward_connections(listener: TcpListener, targets: Targets) {
    let mut connections = JoinSet::new();
    for turn in 0.. {
        let (mut client, _) = listener.accept().await.unwrap();
        let ready = targets.ready();
        // Without a ready replica the connection is closed, and its request fails.
        let Some(address) = ready.get(turn % ready.len().max(1)).copied() else { continue };
        connections.spawn(async move {
            client.set_nodelay(true).unwrap();
            let Ok(mut server) = TcpStream::connect(address).await else { return };
            server.set_nodelay(true).unwrap();
            // Fails when one side resets the connection, which closes the other.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
