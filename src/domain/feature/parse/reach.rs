//! Check for values that no event can have.

use crate::domain::event::PropertyValue;
use crate::domain::feature::parse::declaration::DraftFeature;
use crate::domain::feature::parse::fields::FaultSink;
use crate::domain::feature::reading::filter::{NumberUse, PropertyTest, PropertyType};
use crate::domain::feature::source::{EventFeatureSource, FeatureFold};
use crate::domain::feature::validation::convert::MAX_NUMBER;

/// Refuses numbers to compare with beyond ±[`MAX_NUMBER`] if another feature adds the same
/// property of the same events: an event with such a number is refused.
pub(super) fn refuse_unreachable_numbers(features: &[DraftFeature], faults: &FaultSink) {
    for feature in features {
        let Some(source) = feature.event_source() else { continue };
        for (property, number) in compared_numbers(source) {
            let adding = features.iter().find(|other| {
                other
                    .event_source()
                    .is_some_and(|other| other.overlaps(source) && adds(other, property))
            });
            if let Some(adding) = adding.filter(|_| number.abs() > MAX_NUMBER) {
                let problem = format!(
                    "compares the property `{property}` with {number:e}, which no event can have: \
                     `{}` adds the property, so it lies within ±{MAX_NUMBER:e}",
                    adding.path
                );
                faults.add(feature.line, feature.path.clone(), problem);
            }
        }
    }
}

fn adds(source: &EventFeatureSource, property: &str) -> bool {
    let summed = PropertyType::Number(NumberUse::Summed);
    source.properties().into_iter().any(|(name, read_as)| name == property && read_as == summed)
}

/// The numbers with which the source compares properties.
fn compared_numbers(source: &EventFeatureSource) -> Vec<(&str, f64)> {
    let mut numbers = Vec::new();
    for condition in &source.conditions {
        let property = &*condition.property;
        match &condition.test {
            PropertyTest::OneOf(values) => add_numbers(&mut numbers, property, values),
            PropertyTest::Within { range, .. } => {
                numbers.extend(range.bounds().map(|bound| (property, bound)));
            }
            PropertyTest::Exists => {}
        }
    }
    if let FeatureFold::Share { property, values, .. } = &source.fold {
        add_numbers(&mut numbers, property, values);
    }
    numbers
}

fn add_numbers<'s>(numbers: &mut Vec<(&'s str, f64)>, property: &'s str, values: &[PropertyValue]) {
    numbers.extend(values.iter().filter_map(|value| Some((property, value.as_number()?))));
}
