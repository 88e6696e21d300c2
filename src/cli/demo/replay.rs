//! The replay: the clock of the demo runs fast, and each event is sent at its own time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::api::ApiState;
use crate::cli::demo::sample_data;
use crate::cli::demo::sample_data::SampleEvent;
use crate::cli::demo::state::DemoState;
use crate::cli::load::BulkSender;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::change_feed::{ChangeFilter, ChangeReader, StartPosition};
use crate::store::customers::changes::AssignmentChange;

/// Seconds of the demo in one second.
pub(super) const SPEED: i64 = 300;
const TICK: Duration = Duration::from_millis(500);
/// Moves that are shown of one tick: a new model and a midnight move many customers at once.
const SHOWN_MOVES: usize = 3;
const MOVES_AT_ONCE: usize = 1000;

/// The replay of the later events.
pub(super) struct Replay<'a> {
    events: VecDeque<SampleEvent>,
    clock_millis: Arc<AtomicI64>,
    state: &'a ApiState,
    moves: ChangeReader,
    today: DaySummary,
}

/// What happened in a day of the demo.
#[derive(Debug, Default)]
struct DaySummary {
    day: i64,
    events: usize,
    moves: usize,
}

impl<'a> Replay<'a> {
    pub(super) async fn new(
        events: Vec<SampleEvent>,
        clock_millis: Arc<AtomicI64>,
        state: &'a ApiState,
    ) -> anyhow::Result<Self> {
        let filter = ChangeFilter { moves_only: true, ..ChangeFilter::default() };
        let moves = state
            .change_feed
            .open_reader("demo", StartPosition::Now, filter, MOVES_AT_ONCE)
            .await?;
        let day = day_of(state.ingestion.now());
        let today = DaySummary { day, ..DaySummary::default() };
        Ok(Self { events: events.into(), clock_millis, state, moves, today })
    }

    /// Sends the events until they end.
    pub(super) async fn run(
        mut self,
        sender: &BulkSender,
        demo: &mut DemoState,
    ) -> anyhow::Result<()> {
        let step = SPEED * i64::try_from(TICK.as_millis())?;
        let mut ticks = tokio::time::interval(TICK);
        while !self.events.is_empty() {
            ticks.tick().await;
            self.clock_millis.fetch_add(step, Ordering::Relaxed);
            let now = self.state.ingestion.now();
            let is_due = |event: &mut SampleEvent| event.at <= now;
            let mut due = Vec::new();
            while let Some(event) = self.events.pop_front_if(is_due) {
                due.push(event);
            }
            sample_data::send_batch(&due, sender).await?;
            self.today.events += due.len();
            self.show_moves(now).await?;
            self.show_day(now);
            demo.set_now(now).await?;
        }
        Ok(())
    }

    async fn show_moves(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let page = self.moves.next_page(Duration::ZERO).await?;
        // A first assignment is no move.
        let moves: Vec<&AssignmentChange> =
            page.changes.iter().filter(|change| change.before.is_some()).collect();
        for change in moves.iter().take(SHOWN_MOVES) {
            if let Some(before) = &change.before {
                println!(
                    "{}  household {} moved from “{}” to “{}”",
                    minute(now),
                    change.customer,
                    before.segment.name,
                    change.now.segment.name
                );
            }
        }
        if moves.len() > SHOWN_MOVES {
            println!("{}  … and {} more moved", minute(now), moves.len() - SHOWN_MOVES);
        }
        self.today.moves += moves.len();
        Ok(())
    }

    /// A line at the end of each day.
    fn show_day(&mut self, now: Timestamp) {
        let day = day_of(now);
        if day == self.today.day {
            return;
        }
        let deployment = self.state.deployments.snapshot();
        let model = deployment.active.as_ref().map_or("none", |model| model.id().short());
        let DaySummary { events, moves, .. } = self.today;
        println!("{}  a day: {events} events, {moves} moves; model {model}", minute(now));
        self.today = DaySummary { day, ..DaySummary::default() };
    }
}

fn day_of(at: Timestamp) -> i64 {
    at.millis().div_euclid(MILLIS_PER_DAY)
}

/// `2026-12-01 14:05`.
fn minute(at: Timestamp) -> String {
    at.to_string().replace('T', " ").chars().take(16).collect()
}
