//! Numerical integration.

/// Points of the quadrature.
pub(crate) const NODES: usize = 10;
/// Positive points and weights on [−1, 1] (Abramowitz and Stegun, table 25.4).
const HALF: [(f64, f64); NODES / 2] = [
    (0.148_874_338_981_631_2, 0.295_524_224_714_752_9),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

/// Points and weights of Gauss–Legendre quadrature on [0, `length`]: exact for polynomials up to degree
/// 19.
pub(crate) fn gauss_legendre(length: f64) -> [(f64, f64); NODES] {
    let half = length / 2.0;
    let mut nodes = [(0.0, 0.0); NODES];
    for (i, (point, weight)) in HALF.into_iter().enumerate() {
        nodes[2 * i] = (half * (1.0 - point), half * weight);
        nodes[2 * i + 1] = (half * (1.0 + point), half * weight);
    }
    nodes
}
