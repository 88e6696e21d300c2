//! Answer bounds: until the computed instant, time alone does not change the score. Checked
//! by scoring at instants before it.

use proptest::prelude::*;
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use segmentd::domain::hysteresis::{HysteresisPolicy, PreviousSegment, ScoredRow};
use segmentd::domain::model::{Model, ScoringScratch};
use segmentd::domain::rescore_schedule::{
    AnswerSource, MIN_INTERVAL_MILLIS, ModelAnswer, QuietCustomer, RescoreSchedule,
};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::domain::train::{self, TrainingSpec};

use crate::feature::support::{event, state_of};
use crate::model::decision_function::{Parts, found, parts};
use crate::model::support::{Quiet, spec};

const START: i64 = 19_700 * MILLIS_PER_DAY;
/// The days without events.
const QUIET_DAYS: i64 = 120;
const OUTLIER_ALPHA: f64 = 0.1;

/// Every feature that changes with time, in every encoding.
const RESTLESS: [(&str, &str); 21] = [
    ("recency", "fold = 'recency' \n from = BUYS \n encoding = { NUMBER, transform = 'log1p' }"),
    (
        "away",
        "fold = 'recency' \n encoding = { NUMBER, winsorise = [0.0, 0.8], scale = 'min-max' }",
    ),
    (
        "tenure",
        "fold = 'tenure' \n encoding = { NUMBER, transform = 'yeo-johnson', scale = 'robust' }",
    ),
    (
        "buys_3d",
        "fold = 'count' \n from = BUYS \n window = { rolling_days = 3 } \n encoding = { NUMBER, weight = 2 }",
    ),
    (
        "spend_30d",
        "fold = 'sum' \n POSITIVE \n window = { rolling_days = 30 } \n \
         encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "spend_fading",
        "fold = 'sum' \n POSITIVE \n window = { half_life_days = 5 } \n \
         encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "net_fading",
        "fold = 'sum' \n property = 'amount' \n window = { half_life_days = 2.5 } \n \
         encoding = { NUMBER, transform = 'yeo-johnson' }",
    ),
    (
        "mean_fading",
        "fold = 'mean' \n POSITIVE \n window = { half_life_days = 0.5 } \n \
         encoding = { NUMBER, scale = 'robust' }",
    ),
    (
        "web_fading",
        "fold = 'share' \n property = 'channel' \n values = ['web'] \n \
         window = { half_life_days = 7 } \n encoding = { NUMBER, missing_flag = true }",
    ),
    (
        "sessions_2d",
        "fold = 'sessions' \n gap_minutes = 600 \n window = { rolling_days = 2 } \n \
         encoding = { NUMBER, scale = 'none' }",
    ),
    (
        "gap_20d",
        "fold = 'mean-gap' \n window = { rolling_days = 20 } \n \
         encoding = { NUMBER, missing_flag = true }",
    ),
    (
        "quiet",
        "fold = 'ratio' \n numerator = 'recency' \n denominator = 'tenure' \n encoding = { NUMBER }",
    ),
    (
        "pace",
        "fold = 'ratio' \n numerator = 'spend_fading' \n denominator = 'away' \n \
         encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "dear",
        "fold = 'ratio' \n numerator = 'pace' \n denominator = 'net_fading' \n \
         encoding = { NUMBER, winsorise = [0.1, 0.9] }",
    ),
    (
        "orders_20d",
        "fold = 'count' \n from = 'orders' \n skip_first = true \n \
         window = { rolling_days = 20 } \n encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "orders_fading",
        "fold = 'sum' \n from = 'orders' \n window = { half_life_days = 4 } \n \
         encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "order_age",
        "fold = 'recency' \n from = 'orders' \n encoding = { NUMBER, missing_flag = true }",
    ),
    (
        "signed_fading",
        "fold = 'sum' \n property = 'amount' \n from = [BUYS, { name = 'Look', weight = -0.5 }] \n \
         floor = 0 \n window = { half_life_days = 6 } \n encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "apart",
        "fold = 'difference' \n minuend = 'spend_fading' \n subtrahend = 'orders_fading' \n \
         encoding = { NUMBER, transform = 'yeo-johnson' }",
    ),
    (
        "ahead",
        "fold = 'difference' \n minuend = 'away' \n subtrahend = 'spend_fading' \n floor = 1 \n \
         encoding = { NUMBER, transform = 'log1p' }",
    ),
    (
        "channel",
        "fold = 'last' \n property = 'channel' \n kind = 'text' \n encoding = { as = 'one-hot' }",
    ),
];

/// The clock of New York changes within the quiet days.
const RULES: &str = "
    [time]
    zone = 'America/New_York'
    [orders]
    id = 'channel'
    value = 'amount'
    placed = [BUYS]
    cancelled = [{ name = 'Look' }]
    repeated = 'add'
    unmatched = 'newest'
    [rfm]
    recency = { feature = 'away', cuts = [0.5, 2, 7, 30] }
    frequency = { feature = 'spend_fading', cuts = [0.1, 1, 10, 60] }
    monetary = { feature = 'pace', cuts = [0.01, 0.1, 1, 10] }";

fn restless() -> FeatureSet {
    let features = RESTLESS.map(|(name, rest)| {
        format!(
            "[[feature]]\nname = '{name}'\ntitle = '{name}'\nunit = '1'\n\
             owner = 'qa@example.com'\nsensitivity = 'internal'\n{rest}\n"
        )
    });
    let positive = "property = 'amount' \n where = [{ property = 'amount', above = 0 }]";
    let toml = (features.concat() + RULES)
        .replace("BUYS", "{ kind = 'track', name = 'Buy' }")
        .replace("NUMBER", "as = 'number'")
        .replace("POSITIVE", positive);
    FeatureSet::parse(&toml).unwrap()
}

/// Up to a dozen events in the six weeks before `START`, or shortly after it.
fn customer(set: &FeatureSet, rng: &mut RandomStream) -> CustomerState {
    let events: Vec<CustomerEvent> = (0..=rng.uniform_below(12))
        .map(|_| {
            let before =
                (rng.uniform_unit() * rng.uniform_unit() * 42.0 - 0.01) * MILLIS_PER_DAY as f64;
            let at = Timestamp::from_millis(START + MILLIS_PER_DAY / 3 - before as i64);
            let amount = if rng.uniform_below(6) == 0 { -9.0 } else { 90.0 * rng.uniform_unit() };
            let channel = ["web", "shop", "app"][rng.uniform_below(3)];
            let properties = vec![
                ("amount", PropertyValue::Number(amount)),
                ("channel", PropertyValue::Text(channel.into())),
            ];
            let name = if rng.uniform_below(5) == 0 { "Look" } else { "Buy" };
            event("c", EventKind::Track, name, at, properties)
        })
        .collect();
    state_of(set, &events)
}

fn model(
    set: &FeatureSet,
    states: &[CustomerState],
    form: Option<Parts>,
    rng: &mut RandomStream,
) -> Option<Model> {
    let rows: Vec<FeatureRow> = states
        .iter()
        .map(|state| {
            let day = (rng.uniform_unit() * QUIET_DAYS as f64) as i64;
            state.feature_row(set, Timestamp::from_millis(START + day * MILLIS_PER_DAY))
        })
        .collect();
    let segments = 1 + rng.uniform_below(6);
    let spec = TrainingSpec { starts: 1, minimum_rows: 20, seed: 0, ..spec(segments) };
    let as_of = Timestamp::from_millis(START);
    let spec = spec.check().unwrap();
    let (feature_set, defs) = (set.id(), set.features());
    let data = train::TrainingData { feature_set, defs, rows: &rows, as_of };
    let trained = match form {
        None => train::train_model(&spec, &data, &Quiet),
        Some(parts) => train::train_with_algorithm(&spec, &data, &Quiet, |fitted| {
            let points: Vec<Vec<f32>> =
                (0..fitted.rows()).map(|row| fitted.row(row).to_vec()).collect();
            Ok(found(parts, &points, rng))
        }),
    };
    trained.ok().map(|trained| trained.model)
}

struct Case<'a> {
    set: &'a FeatureSet,
    model: Option<&'a Model>,
    policy: HysteresisPolicy,
    scratch: ScoringScratch,
}

/// No hysteresis, weak, strong; and with a minimum stay.
fn policies() -> impl Strategy<Value = HysteresisPolicy> {
    let hysteresis = prop_oneof![Just(0.0), Just(0.1), Just(0.5)];
    let stay_days = prop_oneof![2 => Just(0), 1 => Just(9_i64)];
    (hysteresis, stay_days).prop_map(|(hysteresis, days)| HysteresisPolicy {
        hysteresis,
        minimum_stay_millis: days * MILLIS_PER_DAY,
    })
}

impl<'a> Case<'a> {
    /// Segment and outlier flag by full recomputation for a customer previously in
    /// `before`, and the score of the model.
    fn answer(
        &mut self,
        state: &CustomerState,
        before: Option<PreviousSegment>,
        at: i64,
    ) -> (Option<usize>, bool, Option<ModelAnswer<'a>>) {
        let now = Timestamp::from_millis(at);
        let row = state.feature_row(self.set, now);
        let Some(model): Option<&'a Model> = self.model else {
            return (Some(self.set.rfm().score_row(&row).index), false, None);
        };
        let (policy, scratch) = (self.policy, &mut self.scratch);
        let score = model.score(&row, scratch);
        let assignment = policy.assign_segment(
            ScoredRow { model, row: &row, score: &score },
            before,
            now,
            scratch,
        );
        let by = ModelAnswer {
            model,
            outlier_alpha: OUTLIER_ALPHA,
            hysteresis: policy,
            score,
            assignment,
        };
        (assignment.segment, score.is_outlier(OUTLIER_ALPHA), Some(by))
    }

    /// Moves a customer through `QUIET_DAYS`, rescoring when due or up to 15 seconds late.
    /// Returns the number of rescorings.
    fn sit_still(
        &mut self,
        watch: &RescoreSchedule,
        state: &CustomerState,
        rng: &mut RandomStream,
    ) -> usize {
        let set = self.set;
        let (mut at, mut looks) = (START + MILLIS_PER_DAY / 3, 0);
        let mut before: Option<PreviousSegment> = None;
        let end = START + QUIET_DAYS * MILLIS_PER_DAY;
        while at < end {
            let now = Timestamp::from_millis(at);
            let row = state.feature_row(set, now);
            let (segment, outlier, by) = self.answer(state, before, at);
            let answerer = AnswerSource { features: set, model: by };
            let here = (segment, outlier);
            before = segment.map(|segment| match before {
                Some(before) if before.segment == segment => before,
                Some(_) => PreviousSegment { segment, moved_at: Some(now) },
                None => PreviousSegment { segment, moved_at: None },
            });
            let until = watch.next_rescore_at(
                answerer,
                QuietCustomer { state, row: &row, now },
                None,
                &mut self.scratch,
            );
            let until = until.map_or(end, Timestamp::millis);
            assert!(until > at);
            let from = state.last_event_at().map_or(at, |newest| newest.millis().max(at));
            // A jump before the minimal interval counts as that interval.
            if until - from > MIN_INTERVAL_MILLIS {
                let within = |share: f64| at + ((until - 1 - at) as f64 * share) as i64;
                let mut instants = vec![at + 1, within(0.5), within(0.9), until - 1];
                instants.extend((0..3).map(|_| within(rng.uniform_unit())));
                let midnight = within(rng.uniform_unit()) / MILLIS_PER_DAY * MILLIS_PER_DAY;
                instants.extend([midnight - 1, midnight]);
                for instant in instants.into_iter().filter(|instant| (at..until).contains(instant))
                {
                    let there = self.answer(state, before, instant);
                    assert_eq!(
                        (there.0, there.1),
                        here,
                        "at {instant}, of {at} to {until}: {state:?}"
                    );
                }
            }
            looks += 1;
            at = until + (15_000.0 * rng.uniform_unit()) as i64;
        }
        looks
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn before_it_is_time_nothing_changes(
        seed in any::<u64>(),
        form in prop::option::weighted(0.25, parts()),
        policy in policies(),
    ) {
        let set = restless();
        let mut rng = RandomStream::new(seed, 0);
        let states: Vec<CustomerState> = (0..60).map(|_| customer(&set, &mut rng)).collect();
        let model = model(&set, &states, form, &mut rng);
        for model in [None, model.as_ref()] {
            let watch = RescoreSchedule::new(&set, model, &[]);
            let mut case = Case { set: &set, model, policy, scratch: ScoringScratch::default() };
            for state in &states[..12] {
                let looks = case.sit_still(&watch, state, &mut rng);
                // Three scores with four cuts each, and windows of weeks: about as often as
                // something changes.
                prop_assert!(model.is_some() || looks <= 80, "{looks} looks at {state:?}");
            }
        }
    }
}
