//! A cron pattern (`training.schedule`): the next time is strictly later, from any
//! instant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::config::CronSchedule;
use segmentd_fuzz::NOW;

fuzz_target!(|pattern: &str| {
    let Ok(schedule) = CronSchedule::parse(pattern) else { return };
    let mut instant = NOW;
    for _ in 0..3 {
        let Some(next) = schedule.next_after(instant) else { return };
        assert!(next > instant);
        instant = next;
    }
    assert_eq!(CronSchedule::parse(&schedule.to_string()).as_ref(), Ok(&schedule));
});
