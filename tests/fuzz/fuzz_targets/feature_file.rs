//! A features file (TOML). An accepted one has an equivalent normal form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::feature::FeatureSet;

#[path = "../../pure/feature/normal_form.rs"]
mod normal_form;

fuzz_target!(|text: &str| {
    match FeatureSet::parse(text) {
        Ok(set) => {
            let again = FeatureSet::parse(&normal_form::as_toml(set.normal_form()));
            assert_eq!(again.expect("a normal form is valid").id(), set.id());
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
});
