//! Mean, variance and quantiles of one column of finite numbers.

/// Arithmetic mean; 0 for an empty column.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

/// Population variance (divided by n) around `mean`, in two passes.
pub fn variance(values: &[f64], mean: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / values.len() as f64
}

/// A copy of the column in ascending order.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut ordered = values.to_vec();
    ordered.sort_unstable_by(f64::total_cmp);
    ordered
}

/// The `share` quantile of an ascending column, interpolated linearly between
/// neighbours: definition 7 of Hyndman and Fan (1996), the default of `NumPy` and R.
/// 0 for an empty column.
pub fn quantile(ascending: &[f64], share: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return 0.0 };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    let (low, high) = (ascending[below], ascending[above]);
    low + (high - low) * (position - below as f64)
}
