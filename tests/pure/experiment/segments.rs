//! Effects by segment: the rest comparison, adjusted p-values, shrinkage, small segments.

use segmentd::domain::experiment::segment_effects::VariationMoments;
use segmentd::domain::experiment::{
    EffectScale, SegmentEffects, SegmentSettings, SequentialDesign,
};

use crate::experiment::support::{assert_close, golden, moments};

fn golden_segments() -> Vec<VariationMoments> {
    let segments = golden().segments.segments;
    segments
        .iter()
        .map(|rows| VariationMoments {
            treatment: moments(&rows.treatment),
            control: moments(&rows.control),
        })
        .collect()
}

fn measure(segments: &[VariationMoments], settings: &SegmentSettings) -> SegmentEffects {
    SegmentEffects::measure(segments, settings, &SequentialDesign::default())
}

#[test]
fn segments_are_compared_with_all_other_customers() {
    let golden = golden().segments;
    let settings = SegmentSettings { is_adjusted: false, ..SegmentSettings::default() };
    let found = measure(&golden_segments(), &settings);
    assert_eq!(found.segments.len(), 3);
    for (index, segment) in found.segments.iter().enumerate() {
        let rest = segment.rest.unwrap();
        let expected = &golden.differences[index];
        assert_close(rest.difference.value, expected.value, "difference");
        assert_close(rest.difference.standard_error, expected.standard_error, "error");
        assert_close(rest.difference.degrees_of_freedom, expected.degrees, "degrees");
        assert_close(rest.adjusted_p_value, golden.adjusted[index], "adjusted p-value");
    }
}

#[test]
fn shrunken_effects_lie_between_their_own_and_the_mean() {
    for is_adjusted in [false, true] {
        for scale in [EffectScale::Difference, EffectScale::Lift] {
            let settings = SegmentSettings { scale, is_adjusted, least_customers: 30 };
            let found = measure(&golden_segments(), &settings);
            let mean = found.heterogeneity.unwrap().mean.value;
            for segment in &found.segments {
                let own = segment.effect.value;
                let shrunken = segment.shrunken;
                assert!(own.min(mean) <= shrunken.value && shrunken.value <= own.max(mean));
                assert!(segment.adjusted_p_value >= segment.effect.p_value());
                assert!(segment.always_valid.p_value > segment.effect.p_value());
                assert!(segment.adjusted_always_valid_p_value >= segment.always_valid.p_value);
            }
        }
    }
}

#[test]
fn adjustment_makes_the_effects_of_segments_more_precise() {
    let [plain, adjusted] = [false, true].map(|is_adjusted| {
        measure(&golden_segments(), &SegmentSettings { is_adjusted, ..SegmentSettings::default() })
    });
    for (plain, adjusted) in plain.segments.iter().zip(&adjusted.segments) {
        assert!(adjusted.effect.standard_error < plain.effect.standard_error);
    }
}

#[test]
fn small_segments_are_not_measured_but_belong_to_the_rest() {
    let segments = golden_segments();
    let settings = SegmentSettings { least_customers: 90, ..SegmentSettings::default() };
    let found = measure(&segments, &settings);
    assert_eq!(found.unmeasured_segments, [0]);
    let all = measure(&segments, &SegmentSettings::default());
    assert_eq!(
        found.segments[0].rest.unwrap().difference,
        all.segments[1].rest.unwrap().difference
    );
    // A single segment has no rest and nothing to be shrunken to.
    let single = measure(&segments[..1], &SegmentSettings::default());
    assert_eq!((single.segments[0].rest, single.heterogeneity), (None, None));
    assert_eq!(single.segments[0].shrunken, single.segments[0].effect.estimate());
}
