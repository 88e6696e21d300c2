//! One snapshot: all customers, valued now and at earlier snapshots, added up by segment and by flow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::feature::{CustomerState, DayPeriod, KnownOrders};
use crate::domain::id::ModelId;
use crate::domain::model::{Model, NamedSegment};
use crate::domain::segment_value::{
    OUTLOOK_DAYS, PastCustomer, SegmentTotals, SegmentValueTally, SnapshotCustomer, ValueFlow,
};
use crate::domain::time::Timestamp;
use crate::domain::train::backtest::CustomerAssignments;
use crate::domain::value::{CustomerOutlook, ValueModel};
use crate::service::limits::heavy::{Cancellation, HeavyWorkPool};
use crate::service::limits::resource_user::ResourceUser;
use crate::service::scoring::deployment::Deployment;
use crate::service::segment_value::gap::usable_value;
use crate::service::{ServiceError, rebuild};
use crate::store::customers::past_assignments::{StatePages, StateWithChanges};
use crate::store::customers::rebuild::StateSnapshot;
use crate::store::{ReadOnlyDatabase, segment_values};

/// Whole days of past revenue.
const REVENUE_DAYS: u32 = 365;
/// Longest pause after a page; otherwise the pause is as long as the page took, so that half of the time
/// is left to other work.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An earlier snapshot to compare with.
#[derive(Debug, Clone, Copy)]
pub(super) struct EarlierSnapshot {
    pub(super) taken_at: Timestamp,
    /// The days from then to now.
    pub(super) period: DayPeriod,
}

/// What to compute for each customer.
#[derive(Debug)]
pub(super) struct SnapshotPlan {
    deployment: Arc<Deployment>,
    model: Arc<Model>,
    earlier: Vec<EarlierSnapshot>,
    now: Timestamp,
    /// No day: orders of the present day, which is not complete, do not count.
    today: DayPeriod,
    year: DayPeriod,
}

/// A complete snapshot.
#[derive(Debug)]
pub(super) struct TakenSnapshot {
    pub(super) taken_at: Timestamp,
    pub(super) model: ModelId,
    pub(super) unit: Box<str>,
    pub(super) segments: Vec<(NamedSegment, SegmentTotals)>,
    /// By instant of the earlier snapshot.
    pub(super) flows: Vec<(Timestamp, Vec<ValueFlow>)>,
}

/// The sums of one page.
struct PageSums {
    tally: SegmentValueTally,
    /// Customers with a state of another feature set.
    unreadable: Vec<StateWithChanges>,
}

impl SnapshotPlan {
    pub(super) fn new(
        deployment: Arc<Deployment>,
        model: Arc<Model>,
        earlier: Vec<EarlierSnapshot>,
        now: Timestamp,
    ) -> Self {
        let features = &deployment.features;
        let today = DayPeriod::before(now, 0, features);
        let year = DayPeriod::before(now, REVENUE_DAYS, features);
        Self { deployment, model, earlier, now, today, year }
    }

    /// The instant after which changes of assignments are needed.
    fn changes_since(&self) -> Timestamp {
        self.earlier.iter().map(|earlier| earlier.taken_at).min().unwrap_or(self.now)
    }

    fn empty_tally(&self) -> SegmentValueTally {
        SegmentValueTally::new(self.earlier.len())
    }

    fn add_page(&self, page: Vec<StateWithChanges>) -> PageSums {
        let mut sums = PageSums { tally: self.empty_tally(), unreadable: Vec::new() };
        for customer in page {
            let stored = &customer.state.stored;
            match CustomerState::from_bytes(&self.deployment.features, &stored.state) {
                Ok(state) => self.add_customer(&mut sums.tally, &customer, &state),
                Err(_) => sums.unreadable.push(customer),
            }
        }
        sums
    }

    fn add_customer(
        &self,
        tally: &mut SegmentValueTally,
        customer: &StateWithChanges,
        state: &CustomerState,
    ) {
        let Ok(value) = usable_value(&self.model) else { return };
        let orders = state.known_orders(&self.deployment.features, self.now);
        let present = customer.state.assigned.as_ref();
        let assignments = CustomerAssignments { present, changes: &customer.changes };
        let mut past = Vec::with_capacity(self.earlier.len());
        for EarlierSnapshot { taken_at, period } in &self.earlier {
            let outlook = outlook_before(value, orders.as_ref(), period);
            let spend = outlook.and_then(|outlook| outlook.spend);
            past.push(PastCustomer {
                segment_id: assignments.at(*taken_at).map(|assigned| &*assigned.segment_id),
                spend: spend.map_or(0.0, |spend| spend.expected),
            });
        }
        let now = SnapshotCustomer {
            segment_id: present.map(|assigned| &*assigned.segment_id),
            outlook: outlook_before(value, orders.as_ref(), &self.today),
            revenue: orders.as_ref().map_or(0.0, |orders| orders.in_period(&self.year).value),
        };
        tally.add(&now, &past);
    }
}

/// The forecast of a customer by the orders before a period; `None` without one.
fn outlook_before(
    value: &ValueModel,
    orders: Option<&KnownOrders>,
    period: &DayPeriod,
) -> Option<CustomerOutlook> {
    Some(value.outlook(&orders?.history_before(period)?, OUTLOOK_DAYS))
}

/// Takes a snapshot. Long and paced: a thousand customers at a time.
pub(super) async fn take_snapshot(
    db: &ReadOnlyDatabase,
    heavy: &HeavyWorkPool,
    plan: SnapshotPlan,
) -> Result<TakenSnapshot, ServiceError> {
    let plan = Arc::new(plan);
    let mut tally = plan.empty_tally();
    // Two connections: states are rebuilt on the second.
    let own = db.dedicated_pool(2);
    let mut pages = StatePages::open(&own, plan.changes_since()).await?;
    loop {
        let started = Instant::now();
        let Some(page) = pages.next_page().await? else { break };
        let job = Arc::clone(&plan);
        let work = move |_: &Cancellation| job.add_page(page);
        let sums = heavy.run_job(ResourceUser::SEGMENT_VALUE, work).await?;
        tally.merge(&sums.tally);
        for customer in &sums.unreadable {
            let events = &mut StateSnapshot::open(&own).await?;
            let id = &customer.state.stored.customer;
            let state = rebuild::rebuild_state(events, &plan.deployment.features, id).await?;
            plan.add_customer(&mut tally, customer, &state);
        }
        tokio::time::sleep(started.elapsed().min(LONGEST_PAUSE)).await;
    }
    drop(pages);
    let flows = plan.earlier.iter().enumerate();
    let flows = flows.map(|(index, earlier)| (earlier.taken_at, tally.flows_since(index)));
    Ok(TakenSnapshot {
        taken_at: plan.now,
        model: plan.model.id().clone(),
        unit: usable_value(&plan.model).map(|value| value.unit.clone()).unwrap_or_default(),
        flows: flows.collect(),
        segments: name_segments(db, &plan, &tally).await?,
    })
}

/// The figures of each segment of the active model, and of others with customers now or at an earlier
/// snapshot, with their names.
async fn name_segments(
    db: &ReadOnlyDatabase,
    plan: &SnapshotPlan,
    tally: &SegmentValueTally,
) -> Result<Vec<(NamedSegment, SegmentTotals)>, ServiceError> {
    let mut named = Vec::new();
    for segment in plan.model.segments() {
        let totals = tally.totals().find(|(id, _)| *id == &*segment.id);
        let totals = totals.map(|(_, totals)| *totals).unwrap_or_default();
        named.push((NamedSegment::from(segment), totals));
    }
    let known = segment_values::list_names(db).await?;
    for (id, totals) in tally.totals() {
        if plan.model.segments().iter().any(|segment| *segment.id == *id) {
            continue;
        }
        let of_canary = plan.deployment.find_segment(id);
        let stored = known.iter().find(|segment| *segment.id == *id);
        let segment = of_canary.map(|(_, segment)| NamedSegment::from(segment));
        let segment = segment.or_else(|| stored.cloned());
        named.push((segment.unwrap_or_else(|| NamedSegment::of_rules(id)), *totals));
    }
    Ok(named)
}
