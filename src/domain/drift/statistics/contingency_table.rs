//! Contingency table of two binned samples, with sparse cells pooled.
//!
//! The chi-square approximation needs cells with enough expected rows. A cell in which
//! the smaller sample is expected to have too few is pooled: with its neighbour if bins
//! are ordered, with the other sparse cells if not. Only the sum of both samples decides
//! the pooling, so it favours neither sample.

use crate::domain::drift::dependence::DesignEffects;

/// Least expected rows of the smaller sample in each cell.
const LEAST_EXPECTED: f64 = 10.0;

/// Counts of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct CellCounts {
    pub(crate) reference: f64,
    pub(crate) current: f64,
}

/// A 2 × k contingency table, each row weighted by the inverse of its design effect.
#[derive(Debug, Clone, PartialEq)]
pub struct ContingencyTable {
    pub(crate) cells: Vec<CellCounts>,
    /// Rows of the reference sample.
    pub(crate) reference: f64,
    /// Rows of the current sample.
    pub(crate) current: f64,
    effects: DesignEffects,
}

/// Rows in the cells that are too sparse for the chi-square approximation, and all rows.
///
/// Only the sum of both samples selects the cells, so Fisher's exact test of these rows, which
/// is conditional on the sums, stays exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SparseCells {
    pub(crate) reference: u64,
    pub(crate) current: u64,
    pub(crate) all_reference: u64,
    pub(crate) all_current: u64,
}

/// Counts before pooling.
struct SparseTable {
    cells: Vec<CellCounts>,
    /// The cell of all values that have no cell of their own. It is pooled however many rows it
    /// has.
    rest: Option<usize>,
    all: CellCounts,
    /// Share of the smaller sample in all rows.
    smaller_share: f64,
    effects: DesignEffects,
}

impl ContingencyTable {
    /// Table over ordered bins, such as the deciles of a number.
    pub fn ordered(reference: &[u64], current: &[u64], effects: DesignEffects) -> Option<Self> {
        let sparse = SparseTable::new(reference, current, effects)?;
        let mut pooled: Vec<CellCounts> = Vec::new();
        let mut open = CellCounts::default();
        for cell in &sparse.cells {
            open = open.plus(*cell);
            if sparse.has_enough(open) {
                pooled.push(std::mem::take(&mut open));
            }
        }
        sparse.into_table(pooled, open)
    }

    /// Table over unordered bins, such as segments.
    pub fn unordered(reference: &[u64], current: &[u64], effects: DesignEffects) -> Option<Self> {
        SparseTable::new(reference, current, effects)?.pool_unordered()
    }

    /// Table over categories of which the last cell counts all that have no cell of their own.
    ///
    /// It is pooled with the sparse cells, because the most frequent categories of a sample are
    /// rarer in the next one: a cell of its own would grow without a change (regression to the
    /// mean).
    pub fn categories(reference: &[u64], current: &[u64], effects: DesignEffects) -> Option<Self> {
        SparseTable::of_categories(reference, current, effects)?.pool_unordered()
    }

    pub(crate) fn degrees(&self) -> f64 {
        self.cells.len() as f64 - 1.0
    }

    /// The degrees of freedom of a test.
    pub(crate) fn effective_degrees(&self) -> f64 {
        self.effects.effective_degrees(self.degrees())
    }

    /// Probability of a statistic of at least `x` that has a chi-square distribution while both
    /// samples come from one population.
    pub(crate) fn chi_square_upper_tail(&self, x: f64) -> f64 {
        self.effects.chi_square_upper_tail(x, self.degrees())
    }
}

impl SparseCells {
    /// The sparse cells of ordered bins that pooling hides. `is_compared`: the pooled cells
    /// make a [`ContingencyTable`].
    pub(crate) fn of_ordered(
        reference: &[u64],
        current: &[u64],
        effects: DesignEffects,
        is_compared: bool,
    ) -> Option<Self> {
        SparseTable::new(reference, current, effects)?.hidden_cells(reference, current, is_compared)
    }

    /// The sparse cells of categories that pooling hides.
    pub(crate) fn of_categories(
        reference: &[u64],
        current: &[u64],
        effects: DesignEffects,
        is_compared: bool,
    ) -> Option<Self> {
        let table = SparseTable::of_categories(reference, current, effects)?;
        table.hidden_cells(reference, current, is_compared)
    }
}

impl SparseTable {
    /// `None` if a side has no rows.
    fn new(reference: &[u64], current: &[u64], effects: DesignEffects) -> Option<Self> {
        let (before, now) = (effects.weight_before(), effects.weight_now());
        let cells: Vec<CellCounts> = reference
            .iter()
            .zip(current)
            .map(|(a, b)| CellCounts { reference: *a as f64 * before, current: *b as f64 * now })
            .collect();
        let all = cells.iter().copied().fold(CellCounts::default(), CellCounts::plus);
        if all.reference <= 0.0 || all.current <= 0.0 {
            return None;
        }
        let smaller_share = all.reference.min(all.current) / (all.reference + all.current);
        Some(Self { cells, rest: None, all, smaller_share, effects })
    }

    fn of_categories(reference: &[u64], current: &[u64], effects: DesignEffects) -> Option<Self> {
        let table = Self::new(reference, current, effects)?;
        let rest = table.cells.len().checked_sub(1);
        Some(Self { rest, ..table })
    }

    /// Whether the smaller sample is expected to have enough rows in a cell.
    fn has_enough(&self, cell: CellCounts) -> bool {
        cell.rows() * self.smaller_share >= LEAST_EXPECTED
    }

    fn is_pooled(&self, index: usize) -> bool {
        self.rest == Some(index) || !self.has_enough(self.cells[index])
    }

    fn pool_unordered(self) -> Option<ContingencyTable> {
        let mut pooled = Vec::new();
        let mut together = CellCounts::default();
        for (index, cell) in self.cells.iter().enumerate() {
            if self.is_pooled(index) {
                together = together.plus(*cell);
            } else {
                pooled.push(*cell);
            }
        }
        // The last cell takes a sparse remainder, so sort: the smallest cell is last.
        pooled.sort_by(|a, b| b.rows().total_cmp(&a.rows()));
        if self.has_enough(together) {
            pooled.push(together);
            together = CellCounts::default();
        }
        self.into_table(pooled, together)
    }

    /// The pooled cells, unless they are compared as one cell of a table. `None` if they have
    /// no rows, or all rows.
    fn hidden_cells(
        &self,
        reference: &[u64],
        current: &[u64],
        is_compared: bool,
    ) -> Option<SparseCells> {
        let mut together = CellCounts::default();
        let mut sums = SparseCells { reference: 0, current: 0, all_reference: 0, all_current: 0 };
        for (index, cell) in self.cells.iter().enumerate() {
            sums.all_reference = sums.all_reference.saturating_add(reference[index]);
            sums.all_current = sums.all_current.saturating_add(current[index]);
            if self.is_pooled(index) {
                together = together.plus(*cell);
                sums.reference = sums.reference.saturating_add(reference[index]);
                sums.current = sums.current.saturating_add(current[index]);
            }
        }
        let rows = together.rows();
        let has_a_part = rows > 0.0 && rows < self.all.rows();
        let is_hidden = !is_compared || !self.has_enough(together);
        (has_a_part && is_hidden).then_some(sums)
    }

    /// Adds the sparse remainder to the last pooled cell. `None` with fewer than two cells:
    /// nothing can be compared.
    fn into_table(self, mut pooled: Vec<CellCounts>, rest: CellCounts) -> Option<ContingencyTable> {
        let last = pooled.last_mut()?;
        *last = last.plus(rest);
        let CellCounts { reference, current } = self.all;
        let effects = self.effects;
        (pooled.len() > 1).then_some(ContingencyTable {
            cells: pooled,
            reference,
            current,
            effects,
        })
    }
}

impl CellCounts {
    fn plus(self, other: Self) -> Self {
        Self { reference: self.reference + other.reference, current: self.current + other.current }
    }

    pub(crate) fn rows(self) -> f64 {
        self.reference + self.current
    }
}

/// Share of each count in their sum; all 0 if there are no rows.
pub(crate) fn shares(counts: &[u64]) -> Vec<f64> {
    let rows: f64 = counts.iter().map(|count| *count as f64).sum();
    counts.iter().map(|count| share(*count as f64, rows)).collect()
}

pub(crate) fn share(count: f64, rows: f64) -> f64 {
    if rows > 0.0 { count / rows } else { 0.0 }
}
