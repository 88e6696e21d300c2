//! Mann-Whitney U test (1947) on ordered bins: compares the ranks of one hour's rows with
//! those of earlier rows.

/// Standardised Mann-Whitney statistic of the rows `now` against those `earlier`, both
/// counted by bin.
///
/// It is positive if the rows now rank higher, and about standard normal if nothing has
/// changed, for any number of rows. Rows of a bin are ties, which share their mid-rank; the
/// variance is corrected for ties. `None` if all rows are ties, or one side is empty.
pub fn mann_whitney(earlier: &[u64], now: &[u64]) -> Option<f64> {
    let n: f64 = earlier.iter().map(|count| *count as f64).sum();
    let m: f64 = now.iter().map(|count| *count as f64).sum();
    let all = n + m;
    let (mut below, mut above_pairs, mut ties) = (0.0, 0.0, 0.0);
    for (before, now) in earlier.iter().zip(now) {
        let (before, now) = (*before as f64, *now as f64);
        above_pairs += now * (below + before / 2.0);
        below += before;
        let tied = before + now;
        ties += tied * (tied - 1.0) * (tied + 1.0);
    }
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    // The comparison is also false for NaN, which an empty side gives.
    (variance > 1e-9 * n * m).then(|| (above_pairs - n * m / 2.0) / variance.sqrt())
}
