//! Habits of customers from quarter hours of activity.

use proptest::prelude::*;
use segmentd::domain::feature::FeatureSet;
use segmentd::domain::persona::habits::{ActivityCounts, Habits, QuarterHour};
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::feature::support::{RETAIL, at};

fn quarter(begins: &str, weight: f64) -> QuarterHour {
    QuarterHour { begins: at(begins), weight }
}

fn features(zone: &str) -> FeatureSet {
    FeatureSet::parse(&format!("{RETAIL}\n[time]\nzone = \"{zone}\"\n")).unwrap()
}

#[test]
fn habits_are_said_beside_those_of_all_in_local_time() {
    // In Nepal it is 5:45 later: Saturday, 23:45, and Sunday, 0:45.
    let evening = ActivityCounts {
        quarters: vec![
            quarter("2026-05-02T18:00:00Z", 20.0),
            quarter("2026-05-02T19:00:00Z", 10.0),
            quarter("2026-05-04T03:30:00Z", 10.0),
        ],
        web: 5.0,
        app: 15.0,
    };
    let set = features("Asia/Kathmandu");
    let own = Habits::measure(&evening, &set).unwrap();
    assert_eq!(own.customers, 40);
    let found = own.busiest_hours();
    assert_eq!((found.from, found.until), (22, 1));
    assert!((found.share - 0.75).abs() < 1e-12);
    let all = ActivityCounts {
        quarters: vec![
            quarter("2026-05-04T03:30:00Z", 60.0),
            quarter("2026-05-02T17:30:00Z", 40.0),
        ],
        web: 6.0,
        app: 4.0,
    };
    assert_eq!(
        own.describe(&Habits::measure(&all, &set).unwrap()),
        "Most active from 22:00 to 1:00: 75 % of their visits and orders (40 % for all customers), \
         and on Saturdays: 50 % (40 %). 75 % of their visits are in the app (40 %)."
    );
    // A few customers are never described.
    let few = ActivityCounts { quarters: evening.quarters[1..].to_vec(), web: 1.0, app: 0.0 };
    assert_eq!(Habits::measure(&few, &set), None);
    assert_eq!(Habits::measure(&ActivityCounts::default(), &set), None);
}

/// The hour that is repeated when summer time ends counts twice as the same hour.
#[test]
fn hours_follow_daylight_saving_time() {
    let set = features("Europe/Berlin");
    let quarters = vec![
        quarter("2026-10-25T00:15:00Z", 30.0),
        quarter("2026-10-25T01:15:00Z", 30.0),
        quarter("2026-10-25T02:15:00Z", 30.0),
    ];
    let habits = Habits::measure(&ActivityCounts { quarters, web: 0.0, app: 0.0 }, &set).unwrap();
    assert!((habits.hours[2] - 2.0 / 3.0).abs() < 1e-12 && habits.hours[3] > 0.3);
    assert!((habits.weekdays[6] - 1.0).abs() < 1e-12, "{habits:?}");
    assert_eq!(habits.app_share, None);
}

proptest! {
    #[test]
    fn shares_add_up(
        weights in prop::collection::vec((0_i64..35_000, 0.1..50.0_f64), 0..60),
        app in 0.0..1.0_f64,
    ) {
        let begins = |quarters: i64| Timestamp::from_millis(quarters * MILLIS_PER_DAY / 96);
        let quarters: Vec<QuarterHour> = weights
            .iter()
            .map(|(place, weight)| QuarterHour { begins: begins(*place), weight: *weight })
            .collect();
        let counts = ActivityCounts { quarters, web: 1.0 - app, app };
        if let Some(habits) = Habits::measure(&counts, &features("Australia/Lord_Howe")) {
            prop_assert!((habits.hours.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!((habits.weekdays.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!((habits.app_share.unwrap() - app).abs() < 1e-9);
            prop_assert!((0.125 - 1e-9..=1.0 + 1e-9).contains(&habits.busiest_hours().share));
        }
    }
}
