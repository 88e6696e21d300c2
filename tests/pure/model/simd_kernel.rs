//! The SIMD kernel finds for many vectors what the scalar code finds for one.

use proptest::prelude::*;
use segmentd::domain::model::{DecisionFunction, Prototypes};

/// Few different values, so that ties and duplicates are common. Far from the origin the
/// expanded form of the distance loses all its digits.
fn vectors(width: usize, count: usize, offset: f32) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![(-2..3_i8).prop_map(f32::from), -10.0..10.0_f32];
    prop::collection::vec(value.prop_map(move |x| x + offset), width * count)
}

proptest! {
    #[test]
    fn many_at_once_equal_one_at_a_time(
        (width, prototypes, vectors) in (
            1..70_usize,
            1..300_usize,
            0..80_usize,
            prop_oneof![Just(0.0_f32), Just(1000.25), Just(-3e6)],
        )
            .prop_flat_map(|(width, count, rows, offset)| {
                (Just(width), vectors(width, count, offset), vectors(width, rows, offset))
            }),
    ) {
        let form = DecisionFunction::from_centroids(Prototypes::new(width, prototypes).unwrap());
        let found = form.two_nearest_of_batch(&vectors);
        for (vector, found) in vectors.chunks_exact(width).zip(found) {
            prop_assert_eq!(found, form.two_nearest(vector));
        }
    }
}

#[test]
fn extreme_numbers_are_scored() {
    let huge = f32::MAX / 2.0;
    let prototypes = vec![huge, -huge, 0.0, 1.0, -huge, huge];
    let form = DecisionFunction::from_centroids(Prototypes::new(2, prototypes).unwrap());
    for vector in [[huge, -huge], [1.0, 0.0], [f32::INFINITY, 0.0]] {
        assert_eq!(form.two_nearest_of_batch(&vector), [form.two_nearest(&vector)]);
    }
    let found = form.two_nearest_of_batch(&[f32::NAN, 0.0]);
    assert_eq!(found[0].segment, form.two_nearest(&[f32::NAN, 0.0]).segment);
}
