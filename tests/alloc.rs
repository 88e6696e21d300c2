//! Scoring and rate limits do not allocate. A separate test binary, because it replaces the allocator.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "pure/model/support.rs"]
mod model_support;
#[expect(dead_code, reason = "only customers are drawn here")]
#[path = "pure/value/support.rs"]
mod value_support;

use std::sync::Arc;

use allocation_counter::measure;
use segmentd::domain::drift::{CountedRow, ScoreSource, WindowLayout};
use segmentd::domain::experiment::{
    Allocation, BucketRange, ExperimentDefinition, HashVersion, Holdout, Namespace,
    VariationAssigner,
};
use segmentd::domain::model::ScoringScratch;
use segmentd::domain::objective::ObjectiveTargets;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::Timestamp;
use segmentd::domain::value::{PurchaseModelKind, fit_value_model};
use segmentd::service::limits::rate_limits::{KeyRateLimiter, LimitedResource, RateLimitDefaults};
use segmentd::service::limits::resource_user::ResourceUser;
use segmentd::service::scoring::observations::{BatchCounts, DriftCounters};
use segmentd::telemetry::ServiceMetrics;

use model_support::{shop_features, shop_model, shoppers, spec, train};

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![1_u8; 100]))).count_total, 1);
}

#[test]
fn encoding_and_scoring_never_allocate() {
    let model = shop_model().model;
    let rows = shoppers(500, 9);
    let mut scratch = model.scratch();
    let mut vector = vec![0.0; model.encoder().width()];
    let mut flagged = 0;
    let counted = measure(|| {
        for row in &rows {
            model.encoder().encode(row, &mut vector);
            let score = model.score(row, &mut scratch);
            flagged += usize::from(score.is_outlier(0.05));
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(flagged > 0);
}

#[test]
fn counting_scores_never_allocates() {
    let model = shop_model().model;
    let rows = shoppers(500, 9);
    let layout = WindowLayout::of(&model);
    let (mut scratch, mut window) = (model.scratch(), layout.empty());
    let counted = measure(|| {
        for row in &rows {
            let score = model.score(row, &mut scratch);
            layout.count_row(&mut window, &CountedRow::new(row, &score, score.is_outlier(0.05)));
        }
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(layout.view(&window).unwrap().scored(), 500);
}

#[test]
fn a_shared_scratch_grows_once() {
    let model = shop_model().model;
    let rows = shoppers(300, 9);
    let narrow = train(spec(2), &shop_features(), &rows).unwrap().model;
    let mut scratch = ScoringScratch::default();
    let first = measure(|| {
        model.score(&rows[0], &mut scratch);
    });
    assert_eq!(first.count_total, 1);
    let later = measure(|| {
        for row in &rows {
            narrow.score(row, &mut scratch);
            model.score(row, &mut scratch);
        }
    });
    assert_eq!(later.count_total, 0);
}

#[test]
fn counting_allocates_once_however_many_rows() {
    let model = shop_model().model;
    let rows = shoppers(500, 9);
    let counter = DriftCounters::new(true).counter_for(&model, Timestamp::from_millis(0)).unwrap();
    let mut scratch = model.scratch();
    // The first rows of a key allocate its counters.
    let score = model.score(&rows[0], &mut scratch);
    let mut first = BatchCounts::new(ScoreSource::Rows);
    first.count_row(&counter, &CountedRow::new(&rows[0], &score, false));
    first.publish_for_key("key");
    let counted = measure(|| {
        let mut tally = BatchCounts::new(ScoreSource::Rows);
        for row in &rows {
            let score = model.score(row, &mut scratch);
            tally.count_row(&counter, &CountedRow::new(row, &score, score.is_outlier(0.05)));
        }
        tally.publish_for_key("key");
    });
    assert_eq!(counted.count_total, 1);
}

/// Only the first request of a key allocates: its bucket.
#[test]
fn rate_limits_never_allocate_for_a_known_key() {
    let metrics = ServiceMetrics::new(Timestamp::from_millis(0), ObjectiveTargets::default());
    let limits = RateLimitDefaults {
        requests_per_second: Some(1_000_000),
        events_per_second: None,
        expensive_requests_per_minute: None,
        events_per_request: 5000,
    };
    let limiter = KeyRateLimiter::new(limits, Arc::new(metrics.unwrap()));
    let take = |resource, units| limiter.take(ResourceUser::of_key("key"), resource, units);
    let first = measure(|| take(LimitedResource::Requests, 1).unwrap());
    assert!(first.count_total > 0, "the bucket is stored");
    let later = measure(|| {
        for _ in 0..500 {
            take(LimitedResource::Requests, 1).unwrap();
            take(LimitedResource::Events, 1000).unwrap();
        }
    });
    assert_eq!(later.count_total, 0);
}

#[test]
fn valuing_a_customer_never_allocates() {
    let kinds = [
        (PurchaseModelKind::BgNbd, [0.7, 40.0, 0.5, 2.5]),
        (PurchaseModelKind::MbgNbd, [0.9, 40.0, 0.7, 3.0]),
        (PurchaseModelKind::ParetoNbd, [0.8, 40.0, 0.4, 200.0]),
    ];
    for (kind, parameters) in kinds {
        let mut rng = RandomStream::new(1, 0);
        let drawn = value_support::model(kind, parameters);
        let orders = value_support::draw_customers(&mut rng, &drawn, 900, 2_000);
        let fitted = fit_value_model(&orders, value_support::no_pause).unwrap();
        let now = Timestamp::from_millis(0);
        let mut spend = 0.0;
        let counted = measure(|| {
            for customer in &orders.customers {
                spend += fitted.summarise(&customer.history, now).predicted_spend.unwrap();
                spend += fitted.forecast(&customer.history, now).lifetime_value.unwrap().expected;
            }
        });
        assert_eq!(counted.count_total, 0, "{kind:?}");
        assert!(spend > 0.0);
    }
}

#[test]
fn assignment_to_variations_never_allocates() {
    let assigner = VariationAssigner::new(&ExperimentDefinition {
        key: "checkout".into(),
        hash_seed: Some("seed".into()),
        hash_version: HashVersion::V2,
        allocation: Allocation::Weights { weights: vec![0.2, 0.3, 0.5], coverage: 0.9 },
        namespace: Some(Namespace {
            name: "payments".into(),
            range: BucketRange { start: 0.1, end: 0.9 },
        }),
        holdout: Some(Holdout { hash_seed: "2026-q4".into(), share: 0.05 }),
    })
    .unwrap();
    let customers: Vec<String> = (0..1_000).map(|number| format!("kundin-ü-{number}")).collect();
    let mut assigned = 0;
    let counted = measure(|| {
        for customer in &customers {
            assigned += usize::from(assigner.assign(customer).is_ok());
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!((550..820).contains(&assigned), "{assigned} of 1000");
}
