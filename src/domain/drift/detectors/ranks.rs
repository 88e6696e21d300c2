//! Whether the rows of one hour rank among earlier ones as if they were of the same
//! law: the statistic of Mann and Whitney (1947) on ordered bins.

/// How far the rows counted by bin in `now` rank above those in `earlier`, in standard
/// deviations: near 0, give or take 1, where nothing has changed, however many rows
/// there are. Rows of a bin are ties, which share their mid-rank. `None` where all are
/// ties, or one side is empty.
pub fn mann_whitney(earlier: &[u64], now: &[u64]) -> Option<f64> {
    let sum = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let (n, m) = (sum(earlier), sum(now));
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
    // Also false of what is no number.
    (variance > 1e-9 * n * m).then(|| (above_pairs - n * m / 2.0) / variance.sqrt())
}
