//! `segmentd experiment`: plan, assignment and analysis from tables.

use std::fmt::Write as _;
use std::path::Path;

use segmentd::domain::stats::RandomStream;

/// Runs the command in a folder; returns whether it succeeded, its output and its messages.
fn run(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_segmentd"))
        .arg("experiment")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.success(), text(ended.stdout), text(ended.stderr))
}

/// An experiment in which the coupon lifts the spend of one of two segments by 10, to about 30.
fn write_results(folder: &Path, lost_share: f64) {
    let mut rng = RandomStream::new(24, 6);
    let mut csv = "customer_id,variation,spend,before,segment,day\n".to_owned();
    for customer in 0..8_000 {
        let before = 20.0 + 5.0 * rng.standard_normal();
        let is_loyal = rng.uniform_unit() < 0.5;
        let is_treated = rng.uniform_unit() < 0.5;
        let effect = if is_treated && is_loyal { 10.0 } else { 0.0 };
        let spend = before + effect + 5.0 * rng.standard_normal();
        let is_lost = is_treated && rng.uniform_unit() < lost_share;
        if is_lost {
            continue;
        }
        let variation = if is_treated { "coupon" } else { "none" };
        let segment = if is_loyal { "Loyal" } else { "Occasional" };
        let day = 1 + customer % 7;
        writeln!(csv, "c{customer},{variation},{spend:.2},{before:.2},{segment},2026-03-0{day}")
            .unwrap();
    }
    std::fs::write(folder.join("results.csv"), csv).unwrap();
}

const ANALYSE: [&str; 15] = [
    "analyse",
    "--from",
    "results.csv",
    "--variation",
    "variation",
    "--control",
    "none",
    "--metric",
    "spend",
    "--covariate",
    "before",
    "--segment",
    "segment",
    "--day",
    "day",
];

/// The number after `label` in a row of a table, such as `10.1 (9.8 to 10.4)`.
fn figures(shown: &str, row: &str, column: usize) -> Vec<f64> {
    let line = shown.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("{shown}"));
    let cell = line.split('┆').nth(column).unwrap_or_else(|| panic!("{line}"));
    let numbers = cell.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn effects_are_measured_overall_and_by_segment() {
    let folder = tempfile::tempdir().unwrap();
    write_results(folder.path(), 0.0);
    let with_picture = [&ANALYSE[..], &["--picture", "effects.svg"]].concat();
    let (succeeded, shown, errors) = run(folder.path(), &with_picture);
    assert!(succeeded, "{errors}");
    let picture = std::fs::read_to_string(folder.path().join("effects.svg")).unwrap();
    for text in ["Difference in spend, against none", "coupon: all customers", "coupon: Loyal"] {
        assert!(picture.contains(text), "{picture}");
    }
    assert!(shown.contains("sample ratio: as planned"), "{shown}");
    assert!(shown.contains("coupon against none"), "{shown}");
    let [plain, adjusted] = ["all customers", "less variance"].map(|row| figures(&shown, row, 3));
    for [effect, low, high] in [&plain, &adjusted].map(|f| [f[0], f[1], f[2]]) {
        assert!(low < 5.0 && 5.0 < high && low < effect && effect < high, "{shown}");
    }
    // Half of the variance is known before.
    assert!(adjusted[2] - adjusted[1] < 0.9 * (plain[2] - plain[1]), "{shown}");
    let [loyal, occasional] = ["Loyal", "Occasional"].map(|row| figures(&shown, row, 2));
    assert!((9.0..11.0).contains(&loyal[0]), "{shown}");
    assert!((-1.0..1.0).contains(&occasional[0]), "{shown}");
    assert!(shown.contains("different effects in different segments: p < 0.0001"), "{shown}");
    assert!(
        shown.contains("evidence for treating the segments with the larger effects first"),
        "{shown}"
    );
}

#[test]
fn results_with_lost_customers_are_withheld() {
    let folder = tempfile::tempdir().unwrap();
    write_results(folder.path(), 0.2);
    let (succeeded, shown, errors) = run(folder.path(), &ANALYSE);
    assert!(!succeeded && shown.contains("sample ratio: NOT as planned"), "{shown}");
    assert!(!shown.contains("coupon against none"), "{shown}");
    assert!(errors.contains("the results are withheld"), "{errors}");
    let reason =
        [&ANALYSE[..], &["--override-mismatch", "a fifth of the coupons bounced"]].concat();
    let (succeeded, shown, _) = run(folder.path(), &reason);
    assert!(succeeded && shown.contains("coupon against none"), "{shown}");
    assert!(shown.contains("a fifth of the coupons bounced"), "{shown}");
    // As planned, if the coupon was meant for fewer customers.
    let (succeeded, shown, _) =
        run(folder.path(), &[&ANALYSE[..], &["--shares", "none=0.5,coupon=0.4"]].concat());
    assert!(succeeded && shown.contains("sample ratio: as planned"), "{shown}");
}

#[test]
fn faulty_tables_are_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("results.csv"), text).unwrap();
    for (text, expected) in [
        (
            "customer_id,variant,spend\n",
            "no column `variation`; the columns are `customer_id`, `variant`, `spend`",
        ),
        ("variation,spend\nnone,x\n", "line 2: the metric: `x`"),
        ("variation,spend\n,1\n", "line 2: the variation is empty"),
        ("variation,spend\ncoupon,1\nmail,2\n", "no row has the control `none`"),
        ("variation,spend\nnone,1\n", "every row is in the control"),
    ] {
        write(text);
        let arguments = &ANALYSE[..9];
        let (succeeded, _, errors) = run(folder.path(), arguments);
        assert!(!succeeded && errors.contains(expected), "{text}: {errors}");
    }
    // A customer in both variations is left out, a repeated one is refused.
    let rows = "customer_id,variation,spend\na,none,1\nb,coupon,2\nc,none,1\nd,coupon,2\n";
    let by_customer = [&ANALYSE[..9], &["--customer", "customer_id"]].concat();
    write(&format!("{rows}a,coupon,3\n"));
    let (succeeded, shown, errors) = run(folder.path(), &by_customer);
    assert!(succeeded && shown.contains("left out, in several variations: 1"), "{shown}{errors}");
    write(&format!("{rows}a,none,3\n"));
    let (_, _, errors) = run(folder.path(), &by_customer);
    assert!(errors.contains("the customer `a` occurs twice"), "{errors}");
}

#[test]
fn assignment_and_plan_need_no_service() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = "customer_id\n".to_owned();
    for customer in 0..2_000 {
        writeln!(ids, "c{customer}").unwrap();
    }
    std::fs::write(folder.path().join("customers.csv"), ids).unwrap();
    let assign = [
        "assign",
        "--from",
        "customers.csv",
        "--key",
        "coupon-march",
        "--variations",
        "none,coupon",
        "--holdout-seed",
        "2026",
        "--holdout-share",
        "0.1",
    ];
    let (succeeded, first, notes) = run(folder.path(), &assign);
    assert!(succeeded, "{notes}");
    assert_eq!(run(folder.path(), &assign).1, first);
    let count = |variation: &str| first.lines().filter(|line| line.ends_with(variation)).count();
    assert!((800..1_000).contains(&count(",none")), "{notes}");
    assert!((800..1_000).contains(&count(",coupon")), "{notes}");
    assert!(notes.contains("not in the experiment:"), "{notes}");

    let plan = ["plan", "--baseline", "0.1", "--lift", "0.1", "--daily-customers", "1000"];
    let (_, shown, _) = run(folder.path(), &plan);
    assert!(
        shown.contains("customers: 14751 in the control and 14751 in the treatment"),
        "{shown}"
    );
    assert!(shown.contains("days: 30, with 1000 new customers a day"), "{shown}");
    let detectable = ["plan", "--baseline", "0.1", "--customers", "14751"];
    let (_, shown, _) = run(folder.path(), &detectable);
    assert!(shown.contains("minimum detectable effect: 0.01 (10.0 % of the baseline"), "{shown}");
    let (succeeded, _, errors) = run(folder.path(), &["plan", "--baseline", "12", "--lift", "0.1"]);
    assert!(
        !succeeded && errors.contains("for a mean, give its standard deviation too"),
        "{errors}"
    );
}
