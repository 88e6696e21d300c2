//! The disk of the private Postgres is full, and has space again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::caller::{client, order};
use crate::runtime;
use crate::service::Service;

const ROUNDS: usize = 3;
const FULL_FOR: Duration = Duration::from_secs(20);
const GIVE_UP: Duration = Duration::from_mins(2);
const DISK_MIB: u32 = 1024;

/// A small file system in memory; needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_MIB}m,mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path());
        let is_mounted = mount.status().is_ok_and(|done| done.success());
        is_mounted.then_some(Self(directory))
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }

    /// Fills the file system.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path: &Path = self.0.path();
        let _ = Command::new("umount").arg("--lazy").arg(path).status();
    }
}

pub(crate) fn run() {
    let Some(disk) = SmallDisk::mount() else {
        println!("  skipped: a small file system cannot be mounted here (it needs root)");
        return;
    };
    let state = disk.0.path().join("state");
    fs::create_dir(&state).unwrap();
    let service = Service::at(&state, &[]);
    let key = service.key("soak", "ingest,score");
    let running = service.start();
    let acknowledged = runtime().block_on(async {
        let client = client();
        let mut number = 0_u64;
        let mut acknowledged = 0_u64;
        // Sends one event; returns whether it was acknowledged.
        let send = async |number: u64| {
            let event = order(&format!("m{number}"), &format!("c{}", number % 500)).to_string();
            let post = client.post(format!("{}/v1/events", running.url)).bearer_auth(&key);
            let answer = post.body(event).timeout(Duration::from_secs(5)).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        };
        for round in 1..=ROUNDS {
            disk.fill();
            let (full, mut refused, mut scored) = (Instant::now(), 0, 0);
            while full.elapsed() < FULL_FOR {
                number += 1;
                let is_taken = send(number).await;
                acknowledged += u64::from(is_taken);
                refused += usize::from(!is_taken);
                let post = client.post(format!("{}/v1/score", running.url)).bearer_auth(&key);
                let answer = post.body(r#"{"features":{"recency_days":1}}"#).send().await.unwrap();
                assert_eq!(answer.status(), 200, "scoring needs no disk");
                scored += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fs::remove_file(disk.ballast()).unwrap();
            let room = Instant::now();
            loop {
                number += 1;
                if send(number).await {
                    acknowledged += 1;
                    break;
                }
                let log = || running.log.lock().unwrap().clone();
                assert!(room.elapsed() < GIVE_UP, "no event after room was made: {:#?}", log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            println!(
                "  round {round}: {refused} events refused and {scored} rows scored while full, \
                 the next good answer {:.2?} after there was room",
                room.elapsed()
            );
        }
        acknowledged
    });
    running.stop();
    let stored: u64 = service.query("select count(*) from event").parse().unwrap();
    println!("  {acknowledged} events acknowledged, {stored} stored");
    assert!(stored >= acknowledged, "an acknowledged event was lost");
}
