//! Transposition of 8 × 8 blocks: three rounds of shuffles on a vector unit of eight lanes,
//! a scalar loop elsewhere.
//!
//! Code compiled for the vector unit fills arrays in loops: the closures of
//! `array::from_fn` and `map` are not always inlined, and a function that is not inlined is
//! compiled without the vector unit.

#![expect(clippy::inline_always, reason = "only inlined code is compiled for the vector unit")]

use std::array;

use pulp::Simd;

/// Rows transposed together; vector units have 4, 8 or 16 lanes.
pub(crate) const SQUARE_SIDE: usize = 8;

type SquareBlock = [[f32; SQUARE_SIDE]; SQUARE_SIDE];

/// Writes `rows` of `width` numbers each as columns into `block`; `stride` is the distance
/// between columns.
#[inline(always)]
pub(crate) fn write_columns<S: Simd>(
    simd: S,
    rows: [&[f32]; SQUARE_SIDE],
    width: usize,
    block: &mut [f32],
    stride: usize,
) {
    let mut pieces = [(&[][..], &[][..]); SQUARE_SIDE];
    for (pieces, row) in pieces.iter_mut().zip(rows) {
        *pieces = row[..width].as_chunks::<SQUARE_SIDE>();
    }
    let mut columns = block.chunks_mut(stride).take(width);
    for piece in 0..width / SQUARE_SIDE {
        let mut square = SquareBlock::default();
        for (row, pieces) in square.iter_mut().zip(pieces) {
            *row = pieces.0[piece];
        }
        let square = transposed(simd, square);
        for (column, out) in square.iter().zip(columns.by_ref()) {
            out[..SQUARE_SIDE].copy_from_slice(column);
        }
    }
    // The remaining columns fill no square.
    for (column, out) in columns.enumerate() {
        for (row, out) in pieces.iter().zip(out) {
            *out = row.1[column];
        }
    }
}

/// The transpose of an 8 × 8 block.
#[inline(always)]
pub(crate) fn transposed<S: Simd>(simd: S, square: SquareBlock) -> SquareBlock {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = eight_lanes(simd) {
        return x86::transposed(v3.avx, square);
    }
    let _ = simd;
    array::from_fn(|column| array::from_fn(|row| square[row][column]))
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::eight_lanes;

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! AVX registers of eight numbers are two halves of four; shuffles work within the
    //! halves, and only the last round exchanges them.

    use std::any::Any;
    use std::arch::x86_64::__m256d;

    use pulp::core_arch::x86::Avx;
    use pulp::x86::{V3, V4};
    use pulp::{Simd, cast};

    use crate::domain::model::kernel::transpose::{SQUARE_SIDE, SquareBlock};

    /// The vector unit of eight lanes that `simd` is or contains. The downcast is resolved
    /// at compile time.
    #[inline(always)]
    pub(crate) fn eight_lanes<S: Simd>(simd: S) -> Option<V3> {
        let simd: &dyn Any = &simd;
        simd.downcast_ref::<V3>().copied().or_else(|| simd.downcast_ref::<V4>().map(|v4| **v4))
    }

    #[inline(always)]
    pub(crate) fn transposed(avx: Avx, square: SquareBlock) -> SquareBlock {
        let (halves, _) = square.as_chunks::<4>();
        let (upper, lower) = (transpose_half(avx, halves[0]), transpose_half(avx, halves[1]));
        let mut columns = SquareBlock::default();
        for column in 0..4 {
            let (left, right) = (upper[column], lower[column]);
            columns[column] = cast(avx._mm256_permute2f128_pd::<0x20>(left, right));
            columns[column + 4] = cast(avx._mm256_permute2f128_pd::<0x31>(left, right));
        }
        columns
    }

    /// Transposes four rows within each half: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7.
    #[inline(always)]
    fn transpose_half(avx: Avx, [a, b, c, d]: [[f32; SQUARE_SIDE]; 4]) -> [__m256d; 4] {
        let (a, b, c, d) = (cast(a), cast(b), cast(c), cast(d));
        // Interleave single numbers of two rows, then pairs of numbers of four rows.
        let low = (cast(avx._mm256_unpacklo_ps(a, b)), cast(avx._mm256_unpacklo_ps(c, d)));
        let high = (cast(avx._mm256_unpackhi_ps(a, b)), cast(avx._mm256_unpackhi_ps(c, d)));
        [
            avx._mm256_unpacklo_pd(low.0, low.1),
            avx._mm256_unpackhi_pd(low.0, low.1),
            avx._mm256_unpacklo_pd(high.0, high.1),
            avx._mm256_unpackhi_pd(high.0, high.1),
        ]
    }
}
