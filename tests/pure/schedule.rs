//! Cron patterns found by fuzzing: each is refused, or has a next time.

use segmentd::config::CronSchedule;

/// The search for the next time of such a pattern takes seconds.
#[test]
fn a_list_with_an_empty_item_is_refused() {
    for pattern in
        [",  */2 12 */1 2", ", 5 * * *", ",   */1 */2 */6 * ", "1,, 3 * * *", "0 3 * * 1,"]
    {
        let problem = CronSchedule::parse(pattern).unwrap_err();
        assert!(problem.contains(pattern) && problem.contains("empty item"), "{problem}");
    }
    assert!(CronSchedule::parse("0,30 3 * * MON,FRI").is_ok());
}
