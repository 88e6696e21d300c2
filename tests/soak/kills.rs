//! `SIGKILL` of the service, its Postgres or one of its backends, at random, under load:
//! every acknowledged event is stored once, and the service recovers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rustix::process::{Signal, kill_process};

use crate::caller::{Over, client, order};
use crate::service::{Running, Service, children};
use crate::{bound, percentile, runtime};

const SENDERS: u64 = 4;
const CUSTOMERS: u64 = 200;
/// Longest wait for the service to answer again.
const GIVE_UP: Duration = Duration::from_mins(2);

/// The target of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Service,
    Postmaster,
    Backend,
}

/// The shared state of the senders.
#[derive(Debug)]
struct Load {
    url: RwLock<String>,
    key: String,
    next: AtomicU64,
    /// Acknowledged events by customer.
    acknowledged: Mutex<HashMap<String, u64>>,
    /// When an event that was sent at this instant or later was acknowledged last.
    last_good: Mutex<Instant>,
    over: Over,
}

pub(crate) fn run() {
    let kills = bound("SOAK_KILLS", 1000);
    let mut random = ChaCha8Rng::seed_from_u64(bound("SOAK_SEED", 1));
    let service = Service::new(&[]);
    let key = service.key("soak", "ingest,read");
    let mut running = service.start();
    let load = Arc::new(Load {
        url: RwLock::new(running.url.clone()),
        key,
        next: AtomicU64::new(0),
        acknowledged: Mutex::default(),
        last_good: Mutex::new(Instant::now()),
        over: Over::default(),
    });
    let runtime = runtime();
    let senders: Vec<_> = (0..SENDERS).map(|_| runtime.spawn(Arc::clone(&load).send())).collect();
    let mut outages = BTreeMap::<Victim, Vec<Duration>>::new();
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(100 + random.next_u64() % 900));
        let victim = match random.next_u64() % 3 {
            0 => Victim::Service,
            1 => Victim::Postmaster,
            _ => Victim::Backend,
        };
        let killed_at = Instant::now();
        if victim.strike(&service, &mut running, &mut random) {
            load.url.write().unwrap().clone_from(&running.url);
            outages.entry(victim).or_default().push(load.recover(killed_at, victim, &running));
        }
        if kill % 50 == 0 {
            println!("  {kill} kills, {} events acknowledged", load.count());
        }
    }
    load.over.store(true, Ordering::Relaxed);
    for sender in senders {
        runtime.block_on(sender).unwrap();
    }
    running.stop();
    for (victim, mut times) in outages {
        times.sort();
        println!(
            "  {victim:?}: {} kills, next good answer after {:.2?} in the median, {:.2?} at worst",
            times.len(),
            percentile(&times, 50),
            percentile(&times, 100),
        );
    }
    load.verify(&service);
}

impl Victim {
    /// Kills the target; returns false if it was not running.
    fn strike(self, service: &Service, running: &mut Running, random: &mut ChaCha8Rng) -> bool {
        match self {
            Self::Service => {
                running.kill();
                // Restarts it, as a process supervisor does.
                *running = service.start();
                true
            }
            Self::Postmaster => service
                .postmaster()
                .is_some_and(|postmaster| kill_process(postmaster, Signal::KILL).is_ok()),
            Self::Backend => {
                let backends = service.postmaster().map(children).unwrap_or_default();
                let drawn = random.next_u64() % (backends.len() as u64).max(1);
                let drawn = usize::try_from(drawn).unwrap();
                backends.get(drawn).is_some_and(|pid| kill_process(*pid, Signal::KILL).is_ok())
            }
        }
    }
}

impl Load {
    /// Sends events one after another; repeats each with the same id until it is
    /// acknowledged.
    async fn send(self: Arc<Self>) {
        let client = client();
        while !self.over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let customer = format!("c{:03}", number % CUSTOMERS);
            let body = order(&format!("m{number}"), &customer).to_string();
            loop {
                let started = Instant::now();
                let url = format!("{}/v1/events", self.url.read().unwrap());
                let request = client.post(url).bearer_auth(&self.key).body(body.clone());
                let answer = request.timeout(Duration::from_secs(5)).send().await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    let mut last = self.last_good.lock().unwrap();
                    *last = started.max(*last);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            *self.acknowledged.lock().unwrap().entry(customer).or_default() += 1;
        }
    }

    /// Waits until an event that was sent after the kill is acknowledged.
    fn recover(&self, killed_at: Instant, victim: Victim, running: &Running) -> Duration {
        while *self.last_good.lock().unwrap() <= killed_at {
            let log = || running.log.lock().unwrap().clone();
            assert!(killed_at.elapsed() < GIVE_UP, "after {victim:?}: {:#?}", log());
            std::thread::sleep(Duration::from_millis(2));
        }
        killed_at.elapsed()
    }

    fn count(&self) -> u64 {
        self.acknowledged.lock().unwrap().values().sum()
    }

    /// Compares acknowledged and stored events, and the orders in the customer state, by
    /// customer.
    fn verify(&self, service: &Service) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let stored = service.query(
            "select customer_id, count(*), count(distinct message_id) from event group by 1",
        );
        let mut stored: HashMap<&str, (u64, u64)> = stored
            .lines()
            .map(|line| {
                let mut fields = line.split('|');
                let mut next = || fields.next().unwrap();
                (next(), (next().parse().unwrap(), next().parse().unwrap()))
            })
            .collect();
        let (mut lost, mut twice) = (0, 0);
        for (customer, count) in acknowledged.iter() {
            let (rows, ids) = stored.remove(customer.as_str()).unwrap_or_default();
            lost += count.saturating_sub(ids);
            twice += rows - ids;
        }
        let running = service.start();
        let counted = runtime().block_on(async {
            let client = client();
            let mut counted = 0.0;
            for customer in acknowledged.keys() {
                let url = format!("{}/v1/customers/{customer}", running.url);
                let answer = client.get(url).bearer_auth(&self.key).send().await.unwrap();
                let customer: serde_json::Value = answer.json().await.unwrap();
                counted += customer["features"]["orders_365d"].as_f64().unwrap();
            }
            counted
        });
        running.stop();
        let total: u64 = acknowledged.values().sum();
        println!("  {total} acknowledged, {lost} lost, {twice} stored twice, {counted} counted");
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 events")]
        let total = total as f64;
        assert_eq!((lost, twice), (0, 0));
        assert!((counted - total).abs() < 0.5, "{counted} in the states, {total} acknowledged");
    }
}
