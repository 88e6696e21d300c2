//! Floods of every kind at the same time, with a well-behaved caller.

use std::process::Command;
use std::time::Duration;

use crate::attack::Target;
use crate::caller::{self, Measured};
use crate::service::Service;
use crate::{runtime, soak_seconds};

/// The well-behaved caller alone, before and after.
const CALM: Duration = Duration::from_secs(20);
/// Scoring's 99th percentile under siege, against undisturbed.
const MAX_P99_RATIO: f64 = 3.0;

pub(crate) fn run() {
    let service = Service::new(&[]);
    let own_key = service.key("own", "ingest,score,read,train");
    let duration = soak_seconds();
    let ingest_key = service.key("ingest", "ingest");
    let browser_key = service.key("browser", "track");
    let read_key = service.key("read", "read");
    let train_key = service.key("train", "train");
    let running = service.start();
    let address = running.url.trim_start_matches("http://").parse().unwrap();
    let target = Target { address, ingest_key, browser_key, read_key, train_key, duration };
    runtime().block_on(async {
        caller::prepare(&running, &own_key).await;
        caller::run(&running.url, &own_key, Duration::from_secs(5)).await;
        let (calm_scores, calm_events) = caller::run(&running.url, &own_key, CALM).await;
        report("undisturbed", &calm_scores, &calm_events);
        println!(
            "  memory before: {} MiB, highest {} MiB",
            running.memory_mib().0,
            running.memory_mib().1
        );
        // An attacker on another machine would use none of these cores. With the idle
        // policy it gets only unused time, and is preempted at once; at a low priority it
        // would be after some milliseconds.
        let mut attacker = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(target.arguments())
            .spawn()
            .unwrap();
        let (scores, events) = caller::run(&running.url, &own_key, duration).await;
        let memory = running.memory_mib();
        assert!(attacker.wait().unwrap().success());
        report("under siege", &scores, &events);
        println!("  memory: {} MiB, highest {} MiB", memory.0, memory.1);
        let ratio = scores.percentile(99).as_secs_f64() / calm_scores.percentile(99).as_secs_f64();
        println!("  scoring p99: {ratio:.2} times undisturbed");
        let (again, _) = caller::run(&running.url, &own_key, CALM).await;
        println!(
            "  undisturbed again: p99 {:.1?}, memory {} MiB",
            again.percentile(99),
            running.memory_mib().0
        );
        let budget = memory_budget_mib(&running.admin).await;
        println!("  declared budget: {budget} MiB");
        assert_eq!((scores.failed(), events.failed()), (0, 0));
        assert!(memory.1 < budget, "{} of {budget} MiB", memory.1);
        assert!(ratio <= MAX_P99_RATIO, "{ratio}");
    });
    running.stop();
}

fn report(when: &str, scores: &Measured, events: &Measured) {
    for (what, measured) in [("scores", scores), ("events", events)] {
        println!(
            "  {when}: {} {what}, p50 {:.1?}, p99 {:.1?}, worst {:.1?}, failures {:?}",
            measured.times.len(),
            measured.percentile(50),
            measured.percentile(99),
            measured.percentile(100),
            measured.failures,
        );
    }
}

async fn memory_budget_mib(admin: &str) -> u64 {
    let metrics = caller::client().get(format!("{admin}/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let parts = metrics.lines().filter(|line| line.starts_with("segmentd_memory_budget_bytes{"));
    let bytes: f64 =
        parts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let mib = (bytes / 1_048_576.0) as u64;
    mib
}
