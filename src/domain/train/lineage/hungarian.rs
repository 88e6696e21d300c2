//! Hungarian algorithm: the assignment of rows to columns with the least total cost.
//!
//! By shortest augmenting paths (Kuhn 1955; Jonker and Volgenant 1987): each row is added along
//! the cheapest chain of reassignments. At most n² m steps; 256 rows and columns take
//! milliseconds. Costs are integers, so that equal sums are exactly equal.

/// Column of each row in the assignment with the least total cost: a maximum number of pairs, no
/// column twice. `None`: more rows than columns. All rows of `costs` have the same length.
pub fn least_cost_assignment(costs: &[Vec<i64>]) -> Vec<Option<usize>> {
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

/// As [`least_cost_assignment`], for at least one column per row.
fn columns_of_rows(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> i64) -> Vec<usize> {
    // Potentials (dual variables): row plus column potential never exceeds the cost of a pair, and
    // equals it for the assigned pairs. The extra last column represents the row being added.
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
            // One step of Dijkstra's algorithm on the reduced costs.
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
            // Shifting the potentials by the shortest distance keeps reduced costs non-negative.
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
        // Augment along the path: each row passes its column to the previous one.
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
