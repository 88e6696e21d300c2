//! Numerical integration by Gauss–Legendre quadrature.

/// Points and weights on [−1, 1] for 3 and 10 points (Abramowitz and Stegun, table 25.4).
const OF_3: [(f64, f64); 3] = [
    (-0.774_596_669_241_483_4, 0.555_555_555_555_555_6),
    (0.0, 0.888_888_888_888_888_8),
    (0.774_596_669_241_483_4, 0.555_555_555_555_555_6),
];
const OF_10: [(f64, f64); 10] = [
    (-0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
    (-0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (-0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (-0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
    (-0.148_874_338_981_631_2, 0.295_524_224_714_752_9),
    (0.148_874_338_981_631_2, 0.295_524_224_714_752_9),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

/// Three points with their weights on [0, `length`]: exact for polynomials up to degree 5.
pub(crate) fn gauss_legendre_3(length: f64) -> [(f64, f64); 3] {
    scaled(OF_3, length)
}

/// Ten points with their weights on [0, `length`]: exact for polynomials up to degree 19.
pub(crate) fn gauss_legendre_10(length: f64) -> [(f64, f64); 10] {
    scaled(OF_10, length)
}

fn scaled<const N: usize>(rule: [(f64, f64); N], length: f64) -> [(f64, f64); N] {
    let half = length / 2.0;
    rule.map(|(point, weight)| (half * (1.0 + point), half * weight))
}
