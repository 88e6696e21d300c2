//! Eight rows written as columns: the shuffles that a vector unit of eight
//! lanes does in three rounds, number by number elsewhere.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the vector unit")]

use std::array;

use pulp::Simd;

/// Rows turned together; vector units hold 4, 8 or 16 numbers.
pub(super) const TURNED: usize = 8;

type Square = [[f32; TURNED]; TURNED];

/// Writes `rows`, all of `width`, as columns, `stride` numbers from one to the
/// next.
#[inline(always)]
pub(super) fn turn<S: Simd>(
    simd: S,
    rows: [&[f32]; TURNED],
    width: usize,
    block: &mut [f32],
    stride: usize,
) {
    let rows = rows.map(|row| row[..width].as_chunks::<TURNED>());
    let mut columns = block.chunks_mut(stride).take(width);
    for piece in 0..width / TURNED {
        let square = turned(simd, array::from_fn(|row| rows[row].0[piece]));
        for (column, out) in square.iter().zip(columns.by_ref()) {
            out[..TURNED].copy_from_slice(column);
        }
    }
    for (column, out) in columns.enumerate() {
        for (row, out) in rows.iter().zip(out) {
            *out = row.1[column];
        }
    }
}

/// Rows and columns exchanged.
#[inline(always)]
pub(super) fn turned<S: Simd>(simd: S, square: Square) -> Square {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx) = x86::avx(simd) {
        return x86::turned(avx, square);
    }
    let _ = simd;
    array::from_fn(|column| array::from_fn(|row| square[row][column]))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Registers of eight numbers are two halves of four, which shuffles keep
    //! apart until the last round.

    use std::any::Any;

    use pulp::core_arch::x86::Avx;
    use pulp::x86::{V3, V4};
    use pulp::{Simd, cast};

    use crate::domain::model::turn::Square;

    /// What is known of `simd` when compiling decides.
    #[inline(always)]
    pub(super) fn avx<S: Simd>(simd: S) -> Option<Avx> {
        let simd: &dyn Any = &simd;
        let v3 = simd.downcast_ref::<V3>().map(|v3| v3.avx);
        v3.or_else(|| simd.downcast_ref::<V4>().map(|v4| v4.avx))
    }

    #[inline(always)]
    pub(super) fn turned(avx: Avx, square: Square) -> Square {
        let rows = square.map(cast);
        // Pairs of numbers of two rows, pairs of pairs of four, halves of eight.
        let pairs = |a, b| (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b));
        let (first, second) = (pairs(rows[0], rows[1]), pairs(rows[2], rows[3]));
        let (third, fourth) = (pairs(rows[4], rows[5]), pairs(rows[6], rows[7]));
        let fours = |a, b| {
            let (a, b) = (cast(a), cast(b));
            [avx._mm256_unpacklo_pd(a, b), avx._mm256_unpackhi_pd(a, b)]
        };
        let left = [fours(first.0, second.0), fours(first.1, second.1)];
        let right = [fours(third.0, fourth.0), fours(third.1, fourth.1)];
        let (left, right) = (left.as_flattened(), right.as_flattened());
        std::array::from_fn(|column| {
            let (left, right) = (left[column % 4], right[column % 4]);
            cast(if column < 4 {
                avx._mm256_permute2f128_pd::<0x20>(left, right)
            } else {
                avx._mm256_permute2f128_pd::<0x31>(left, right)
            })
        })
    }
}
