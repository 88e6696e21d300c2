//! Numerical integration by Gauss–Legendre quadrature.

/// Positive points and weights on [−1, 1] for 4 and 10 points (Abramowitz and Stegun, table 25.4).
const HALF_OF_4: [(f64, f64); 2] = [
    (0.339_981_043_584_856_3, 0.652_145_154_862_546_1),
    (0.861_136_311_594_052_6, 0.347_854_845_137_453_86),
];
const HALF_OF_10: [(f64, f64); 5] = [
    (0.148_874_338_981_631_2, 0.295_524_224_714_752_9),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

/// Four points with their weights on [0, `length`]: exact for polynomials up to degree 7.
pub(crate) fn gauss_legendre_4(length: f64) -> [(f64, f64); 4] {
    mirrored(HALF_OF_4, length)
}

/// Ten points with their weights on [0, `length`]: exact for polynomials up to degree 19.
pub(crate) fn gauss_legendre_10(length: f64) -> [(f64, f64); 10] {
    mirrored(HALF_OF_10, length)
}

fn mirrored<const HALF: usize, const ALL: usize>(
    positive: [(f64, f64); HALF],
    length: f64,
) -> [(f64, f64); ALL] {
    let half = length / 2.0;
    let mut nodes = [(0.0, 0.0); ALL];
    for (i, (point, weight)) in positive.into_iter().enumerate() {
        nodes[2 * i] = (half * (1.0 - point), half * weight);
        nodes[2 * i + 1] = (half * (1.0 + point), half * weight);
    }
    nodes
}
