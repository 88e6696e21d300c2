//! Multiple-testing correction: of a hundred p-values some are small by chance.

/// Adjusted p-values of Benjamini and Hochberg (1995), *Controlling the false discovery
/// rate*.
///
/// If all tests with an adjusted p-value up to a level are rejected, the expected share of
/// false rejections is at most that level. If nothing has changed at all, the probability
/// of any rejection is at most that level too.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut descending: Vec<usize> = (0..p_values.len()).collect();
    descending.sort_by(|a, b| p_values[*b].total_cmp(&p_values[*a]));
    let tests = p_values.len() as f64;
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (index, test) in descending.into_iter().enumerate() {
        // The quotient first: rounded, it is still at least 1, so no p-value shrinks.
        least = least.min(p_values[test] * (tests / (tests - index as f64)));
        adjusted[test] = least;
    }
    adjusted
}
