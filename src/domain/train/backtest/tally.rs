//! Tally of a back-test: what customers did, by the segment that they had before.

use std::collections::BTreeMap;

use crate::domain::feature::{
    DayPeriod, FeatureRow, FeatureSet, FeatureValue, KnownOrders, PeriodOrders,
};
use crate::domain::id::ModelId;
use crate::domain::model::NamedSegment;
use crate::domain::stats::{AnalysisOfVariance, GroupLift, RunningPairs};
use crate::domain::time::Timestamp;
use crate::domain::train::backtest::past_assignment::CustomerAssignments;
use crate::domain::train::backtest::report::{
    AssigningModel, BacktestGap, BacktestOutcome, BacktestReport, HorizonBacktest, OutcomeBacktest,
    SegmentOutcome,
};
use crate::domain::train::spec::TrainingSpec;

/// Fewest customers of a compared segment. Smaller ones are left out of the base rate too, so
/// that the figures of a few customers are not the difference of published ones.
const LEAST_CUSTOMERS: u64 = 30;

/// Collects outcomes. Its size depends on the number of segments and horizons, not on that of
/// customers.
#[derive(Debug)]
pub struct BacktestTally {
    horizons: Vec<HorizonTally>,
    has_orders: bool,
    unit: Box<str>,
}

/// Models and segment names of past deployments, and how far back changes are known.
#[derive(Debug, Default)]
pub struct PastDeployments {
    /// By generation.
    pub models: BTreeMap<i64, ModelId>,
    /// By generation and segment id.
    pub names: BTreeMap<(i64, Box<str>), Box<str>>,
    /// Retention has deleted changes of assignments before this instant; `None`: none.
    pub changes_deleted_before: Option<Timestamp>,
}

#[derive(Debug)]
struct HorizonTally {
    days: u32,
    period: DayPeriod,
    /// The outcome features whose values depend on the period alone.
    features: Vec<OutcomeFeature>,
    /// By segment id.
    segments: BTreeMap<Box<str>, SegmentTally>,
    /// Customers by the generation of their assignment.
    generations: BTreeMap<i64, u64>,
}

#[derive(Debug)]
struct OutcomeFeature {
    name: Box<str>,
    /// Index in the feature set.
    index: usize,
    /// A lift is a ratio of means, which needs numbers of one sign.
    may_be_negative: bool,
}

#[derive(Debug, Default)]
struct SegmentTally {
    /// The latest of its assignments: the name of the segment is that in its model.
    generation: i64,
    /// In the order of [`BacktestOutcome::OF_ORDERS`], beside the days with an order before the
    /// period.
    of_orders: [RunningPairs; BacktestOutcome::OF_ORDERS.len()],
    /// Of the outcome features in their order, beside the same days.
    of_features: Vec<RunningPairs>,
}

impl BacktestTally {
    /// Compares, for each horizon, the whole days before `now`. Without horizons, nothing. An outcome
    /// feature is compared over horizons that cover its window: its value is then made of events
    /// after the assignment alone.
    pub fn new(spec: &TrainingSpec, features: &FeatureSet, now: Timestamp) -> Self {
        let horizons = spec.backtest_horizons_days.iter().map(|days| HorizonTally {
            days: *days,
            period: DayPeriod::before(now, *days, features),
            features: outcomes_within(spec, features, *days),
            segments: BTreeMap::new(),
            generations: BTreeMap::new(),
        });
        Self {
            horizons: horizons.collect(),
            has_orders: features.declares_orders(),
            unit: features.monetary_unit().into(),
        }
    }

    /// The instant after which changes of assignments are needed; `None`: none are.
    pub fn changes_since(&self) -> Option<Timestamp> {
        let starts = self.horizons.iter().map(|horizon| horizon.period.from);
        starts.min().filter(|_| self.has_orders)
    }

    /// Adds a customer with known orders, and its present features.
    pub fn add(
        &mut self,
        assignments: &CustomerAssignments<'_>,
        orders: &KnownOrders,
        row: &FeatureRow,
    ) {
        for horizon in &mut self.horizons {
            let Some(assigned) = assignments.at(horizon.period.from) else { continue };
            *horizon.generations.entry(assigned.generation).or_default() += 1;
            // Looked up first: an entry would copy the id for every customer.
            if !horizon.segments.contains_key(&assigned.segment_id) {
                horizon.segments.insert(assigned.segment_id.clone(), SegmentTally::default());
            }
            if let Some(segment) = horizon.segments.get_mut(&assigned.segment_id) {
                segment.generation = segment.generation.max(assigned.generation);
                segment.add(orders.in_period(&horizon.period), &horizon.features, row);
            }
        }
    }

    /// The generations of the added assignments.
    pub fn generations(&self) -> Vec<i64> {
        let all = self.horizons.iter().flat_map(|horizon| horizon.generations.keys().copied());
        let mut generations: Vec<i64> = all.collect();
        generations.sort_unstable();
        generations.dedup();
        generations
    }

    /// `deployed` has the [`Self::generations`]. `None` without horizons.
    pub fn finish(self, deployed: &PastDeployments) -> Option<BacktestReport> {
        if self.horizons.is_empty() {
            return None;
        }
        let mut horizons = Vec::with_capacity(self.horizons.len());
        for horizon in self.horizons {
            horizons.push(horizon.finish(self.has_orders, deployed));
        }
        Some(BacktestReport { horizons, unit: self.unit })
    }
}

/// The outcome features whose window is at most `days`.
fn outcomes_within(spec: &TrainingSpec, features: &FeatureSet, days: u32) -> Vec<OutcomeFeature> {
    let known = spec.outcomes.iter().filter_map(|name| features.index_of(name));
    known
        .filter(|index| features.rolling_days(*index).is_some_and(|window| window <= days))
        .map(|index| OutcomeFeature {
            name: features.features()[index].name.clone(),
            index,
            may_be_negative: features.bounds_at(index).minimum.is_none_or(|least| least < 0.0),
        })
        .collect()
}

impl SegmentTally {
    fn add(&mut self, orders: PeriodOrders, features: &[OutcomeFeature], row: &FeatureRow) {
        let has_ordered = orders.order_days > 0;
        let previous = f64::from(orders.previous_order_days);
        let [ordered, order_days, spend, churned] = &mut self.of_orders;
        ordered.add(previous, f64::from(u8::from(has_ordered)));
        order_days.add(previous, f64::from(orders.order_days));
        spend.add(previous, orders.value);
        if orders.has_earlier_order {
            churned.add(previous, f64::from(u8::from(!has_ordered)));
        }
        self.of_features.resize(features.len(), RunningPairs::default());
        for (feature, pairs) in features.iter().zip(&mut self.of_features) {
            if let Some(FeatureValue::Number(value)) = row.0.get(feature.index) {
                pairs.add(previous, *value);
            }
        }
    }
}

impl HorizonTally {
    fn finish(self, has_orders: bool, deployed: &PastDeployments) -> HorizonBacktest {
        let gap = self.gap(has_orders, deployed.changes_deleted_before);
        let of_orders = BacktestOutcome::OF_ORDERS.into_iter().enumerate();
        let of_features = self.features.iter().enumerate();
        let mut outcomes = Vec::new();
        if gap.is_none() {
            outcomes.extend(of_orders.filter_map(|(place, outcome)| {
                self.compare(outcome, |segment| segment.of_orders[place], true, deployed)
            }));
            outcomes.extend(of_features.filter_map(|(place, feature)| {
                let outcome = BacktestOutcome::Feature(feature.name.clone());
                let has_lift = !feature.may_be_negative;
                self.compare(outcome, |segment| segment.of_features[place], has_lift, deployed)
            }));
        }
        HorizonBacktest {
            horizon_days: self.days,
            from: self.period.from,
            until: self.period.until,
            customers: self.generations.values().sum(),
            models: self.models(deployed),
            outcomes,
            gap: gap.map(|gap| gap.to_string().into()),
        }
    }

    fn gap(&self, has_orders: bool, deleted_before: Option<Timestamp>) -> Option<BacktestGap> {
        if !has_orders {
            return Some(BacktestGap::NoOrders);
        }
        if let Some(since) = deleted_before.filter(|since| self.period.from < *since) {
            return Some(BacktestGap::ChangesDeleted(since));
        }
        if self.segments.is_empty() {
            return Some(BacktestGap::NoAssignments(self.period.from));
        }
        // Every customer has the first outcome.
        let ordered = self.segments.values().map(|segment| segment.of_orders[0].outcome);
        let compared: Vec<_> = ordered.filter(|one| one.rows >= LEAST_CUSTOMERS).collect();
        if compared.len() < 2 {
            return Some(BacktestGap::FewSegments {
                compared: compared.len(),
                least: LEAST_CUSTOMERS,
                at: self.period.from,
            });
        }
        let has_outcome = compared.iter().any(|ordered| ordered.non_zero > 0);
        (!has_outcome).then_some(BacktestGap::NoOrdersInPeriod)
    }

    /// One outcome, the figures of which `pairs_of` takes from each segment; `None` with fewer than
    /// two segments large enough.
    fn compare(
        &self,
        outcome: BacktestOutcome,
        pairs_of: impl Fn(&SegmentTally) -> RunningPairs,
        has_lift: bool,
        deployed: &PastDeployments,
    ) -> Option<OutcomeBacktest> {
        let mut all = RunningPairs::default();
        let mut groups = Vec::new();
        let mut compared = Vec::new();
        for (id, segment) in &self.segments {
            let pairs = pairs_of(segment);
            if pairs.outcome.rows < LEAST_CUSTOMERS {
                continue;
            }
            all = all.merged_with(&pairs);
            groups.push(pairs.outcome);
            compared.push((deployed.named_segment(segment.generation, id), pairs.outcome));
        }
        if compared.len() < 2 {
            return None;
        }
        let mut segments: Vec<SegmentOutcome> = compared
            .into_iter()
            .map(|(segment, moments)| {
                let lift = GroupLift::measure(&moments, &all.outcome).filter(|_| has_lift);
                SegmentOutcome {
                    segment,
                    customers: moments.rows,
                    mean: moments.mean,
                    lift: lift.map(|lift| lift.ratio),
                    interval: lift.and_then(|lift| lift.interval),
                }
            })
            .collect();
        // A stable sort: equal segments stay in the order of their ids.
        segments.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        let analysis = AnalysisOfVariance::measure(&groups);
        Some(OutcomeBacktest {
            outcome,
            customers: all.outcome.rows,
            base: all.outcome.mean,
            explained_share: analysis.map(|analysis| analysis.explained_share),
            p_value: analysis.map(|analysis| analysis.p_value),
            explained_by_previous_orders: all.explained_share(),
            segments,
        })
    }

    fn models(&self, deployed: &PastDeployments) -> Vec<AssigningModel> {
        let mut customers: BTreeMap<&ModelId, u64> = BTreeMap::new();
        for (generation, count) in &self.generations {
            if let Some(model) = deployed.models.get(generation) {
                *customers.entry(model).or_default() += count;
            }
        }
        let mut models: Vec<AssigningModel> = customers
            .into_iter()
            .map(|(model, customers)| AssigningModel { model_id: model.clone(), customers })
            .collect();
        models.sort_by_key(|model| std::cmp::Reverse(model.customers));
        models
    }
}

impl PastDeployments {
    fn named_segment(&self, generation: i64, id: &str) -> NamedSegment {
        match self.names.get(&(generation, id.into())) {
            Some(name) => NamedSegment { id: id.into(), name: name.clone() },
            None => NamedSegment::of_rules(id),
        }
    }
}
