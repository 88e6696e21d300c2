//! Many vectors at once find what one at a time finds.

use proptest::prelude::*;
use segmentd::domain::model::{Prototypes, TwoNearest};

const NONE: TwoNearest =
    TwoNearest { nearest: 0, nearest_squared: 0.0, second: None, second_squared: 0.0 };

fn of_each(prototypes: &Prototypes, vectors: &[f32]) -> Vec<TwoNearest> {
    let mut found = vec![NONE; vectors.len() / prototypes.width()];
    prototypes.prepare().two_nearest_of_each(vectors, &mut found);
    found
}

/// Few different values: ties and duplicates are common; far from the origin
/// the cheap form of the distance has no digits left.
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
        let prototypes = Prototypes::new(width, prototypes).unwrap();
        let found = of_each(&prototypes, &vectors);
        for (vector, found) in vectors.chunks_exact(width).zip(found) {
            prop_assert_eq!(found, prototypes.two_nearest(vector));
        }
    }
}

#[test]
fn numbers_past_all_bounds_are_no_trouble() {
    let huge = f32::MAX / 2.0;
    let prototypes = Prototypes::new(2, vec![huge, -huge, 0.0, 1.0, -huge, huge]).unwrap();
    for vector in [[huge, -huge], [1.0, 0.0], [f32::INFINITY, 0.0]] {
        assert_eq!(of_each(&prototypes, &vector), [prototypes.two_nearest(&vector)]);
    }
    let found = of_each(&prototypes, &[f32::NAN, 0.0]);
    assert_eq!(found[0].nearest, prototypes.two_nearest(&[f32::NAN, 0.0]).nearest);
}
