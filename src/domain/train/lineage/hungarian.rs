//! Who goes with whom, so that the sum of costs is least.
//!
//! The Hungarian method by shortest augmenting paths (Kuhn 1955, Jonker and
//! Volgenant 1987): one row at a time is brought in along the cheapest chain of
//! reassignments. At most n² m steps; 256 of each take milliseconds. Costs are
//! whole numbers, so that equal sums are equal.

/// The column of each row: as many pairs as there can be, no column twice, of the
/// least total. `None`: there are more rows than columns. Every row of `costs` is
/// as long as the first.
pub fn cheapest(costs: &[Vec<i64>]) -> Vec<Option<usize>> {
    let columns = costs.first().map_or(0, Vec::len);
    if costs.len() <= columns {
        return columns_of_rows(costs.len(), columns, |row, column| costs[row][column])
            .into_iter()
            .map(Some)
            .collect();
    }
    let mut column_of = vec![None; costs.len()];
    let rows = columns_of_rows(columns, costs.len(), |column, row| costs[row][column]);
    for (column, row) in rows.into_iter().enumerate() {
        column_of[row] = Some(column);
    }
    column_of
}

/// As [`cheapest`], with no more rows than columns.
fn columns_of_rows(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> i64) -> Vec<usize> {
    // What a row and a column take off the cost of their pairs: never is more
    // taken off than there is, and nothing is left of the pairs that are chosen.
    // The last column stands for the row that is being brought in.
    let mut of_row = vec![0_i64; rows];
    let mut of_column = vec![0_i64; columns + 1];
    let mut row_of: Vec<Option<usize>> = vec![None; columns + 1];
    let mut came_from = vec![columns; columns + 1];
    for incoming in 0..rows {
        row_of[columns] = Some(incoming);
        let mut least = vec![i64::MAX; columns];
        let mut is_reached = vec![false; columns + 1];
        let mut at = columns;
        while let Some(row) = row_of[at] {
            is_reached[at] = true;
            let (mut step, mut next) = (i64::MAX, at);
            for column in (0..columns).filter(|column| !is_reached[*column]) {
                let left = cost(row, column) - of_row[row] - of_column[column];
                if left < least[column] {
                    least[column] = left;
                    came_from[column] = at;
                }
                if least[column] < step {
                    step = least[column];
                    next = column;
                }
            }
            for column in 0..=columns {
                if is_reached[column] {
                    if let Some(row) = row_of[column] {
                        of_row[row] += step;
                    }
                    of_column[column] -= step;
                } else {
                    least[column] -= step;
                }
            }
            at = next;
        }
        // Back along the chain: each row leaves its column to the one before it.
        while at != columns {
            let before = came_from[at];
            row_of[at] = row_of[before];
            at = before;
        }
    }
    let mut column_of = vec![0; rows];
    for (column, row) in row_of[..columns].iter().enumerate() {
        if let Some(row) = row {
            column_of[*row] = column;
        }
    }
    column_of
}
