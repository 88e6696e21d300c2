//! Contingency table of two binned samples, with sparse cells pooled.
//!
//! The chi-square approximation needs cells with enough expected rows. A cell in which
//! the smaller sample is expected to have too few is pooled: with its neighbour if bins
//! are ordered, with the other sparse cells if not. Only the sum of both samples decides
//! the pooling, so it favours neither sample.

/// Least expected rows of the smaller sample in each cell.
const LEAST_EXPECTED: f64 = 10.0;

/// Counts of one cell: in the reference sample, and in the current one.
type Pair = (f64, f64);

/// A 2 × k contingency table.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    pub(crate) pairs: Vec<Pair>,
    /// Rows of the reference sample.
    pub(crate) reference: f64,
    /// Rows of the current sample.
    pub(crate) current: f64,
}

impl Cells {
    /// Table over ordered bins, such as the deciles of a number.
    pub fn ordered(reference: &[u64], current: &[u64]) -> Option<Self> {
        Self::pooled(reference, current, |pairs, enough| {
            let mut cells: Vec<Pair> = Vec::new();
            let mut open = (0.0, 0.0);
            for pair in pairs {
                open = sum(open, pair);
                if enough(open) {
                    cells.push(std::mem::take(&mut open));
                }
            }
            (cells, open)
        })
    }

    /// Table over unordered bins, such as categories.
    pub fn unordered(reference: &[u64], current: &[u64]) -> Option<Self> {
        Self::pooled(reference, current, |pairs, enough| {
            let (mut cells, sparse): (Vec<_>, Vec<_>) =
                pairs.into_iter().partition(|pair| enough(*pair));
            // The last cell takes a sparse remainder, so sort: the smallest cell is last.
            cells.sort_by(|a, b| (b.0 + b.1).total_cmp(&(a.0 + a.1)));
            let together = sparse.into_iter().fold((0.0, 0.0), sum);
            if enough(together) {
                cells.push(together);
                return (cells, (0.0, 0.0));
            }
            (cells, together)
        })
    }

    /// `pool` returns cells with enough rows, and a remainder with too few.
    fn pooled(
        reference: &[u64],
        current: &[u64],
        pool: impl FnOnce(Vec<Pair>, &dyn Fn(Pair) -> bool) -> (Vec<Pair>, Pair),
    ) -> Option<Self> {
        let pairs: Vec<Pair> =
            reference.iter().zip(current).map(|(a, b)| (*a as f64, *b as f64)).collect();
        let (reference, current) = pairs.iter().copied().fold((0.0, 0.0), sum);
        if reference <= 0.0 || current <= 0.0 {
            return None;
        }
        let smaller_share = reference.min(current) / (reference + current);
        let enough = |pair: Pair| (pair.0 + pair.1) * smaller_share >= LEAST_EXPECTED;
        let (mut pairs, rest) = pool(pairs, &enough);
        let last = pairs.last_mut()?;
        *last = sum(*last, rest);
        (pairs.len() > 1).then_some(Self { pairs, reference, current })
    }

    pub(crate) fn degrees(&self) -> f64 {
        self.pairs.len() as f64 - 1.0
    }
}

fn sum(a: Pair, b: Pair) -> Pair {
    (a.0 + b.0, a.1 + b.1)
}

/// Share of each count in their sum; all 0 if there are no rows.
pub(crate) fn shares(counts: &[u64]) -> Vec<f64> {
    let rows: f64 = counts.iter().map(|count| *count as f64).sum();
    counts.iter().map(|count| share(*count as f64, rows)).collect()
}

pub(crate) fn share(count: f64, rows: f64) -> f64 {
    if rows > 0.0 { count / rows } else { 0.0 }
}
