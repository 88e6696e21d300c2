//! Ascending values with a search that the processor can vectorise: no branch and no load
//! depends on the comparison before it, as in a binary search.

use serde::{Deserialize, Serialize};

/// Values per block. A search reads the last value of every block, then one block.
const BLOCK: usize = 32;

/// Ascending values. Serialised as their array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<f32>", into = "Vec<f32>")]
pub(super) struct SortedValues {
    values: Vec<f32>,
    /// The last value of each complete block.
    block_maxima: Vec<f32>,
}

impl SortedValues {
    /// Number of values below `limit`. Never allocates.
    pub(super) fn count_below(&self, limit: f32) -> usize {
        let start = BLOCK * count_below(&self.block_maxima, limit);
        let rest = self.values.get(start..).unwrap_or_default();
        start + count_below(&rest[..rest.len().min(BLOCK)], limit)
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        &self.values
    }
}

impl From<Vec<f32>> for SortedValues {
    fn from(values: Vec<f32>) -> Self {
        let block_maxima = values.chunks_exact(BLOCK).map(|block| block[BLOCK - 1]).collect();
        Self { values, block_maxima }
    }
}

impl From<SortedValues> for Vec<f32> {
    fn from(sorted: SortedValues) -> Self {
        sorted.values
    }
}

fn count_below(values: &[f32], limit: f32) -> usize {
    values.iter().map(|value| u32::from(*value < limit)).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SortedValues;

    proptest! {
        #[test]
        fn counts_as_a_binary_search_does(
            mut values in prop::collection::vec(0_u16..400, 0..300),
            limit in 0_u16..401,
        ) {
            values.sort_unstable();
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let limit = f32::from(limit);
            let expected = values.partition_point(|value| *value < limit);
            prop_assert_eq!(SortedValues::from(values).count_below(limit), expected);
        }
    }
}
