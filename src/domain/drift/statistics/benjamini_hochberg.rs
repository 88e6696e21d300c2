//! Many tests at once: of a hundred p-values some are small by chance.

/// The p-values of Benjamini and Hochberg (1995): where all up to a level are
/// believed, the share of false ones among them is at most that level, and where
/// nothing has changed at all, so is the chance of believing any.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut descending: Vec<usize> = (0..p_values.len()).collect();
    descending.sort_by(|a, b| p_values[*b].total_cmp(&p_values[*a]));
    let tests = p_values.len() as f64;
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (place, test) in descending.into_iter().enumerate() {
        // The factor first: it is at least 1, also when rounded.
        least = least.min(p_values[test] * (tests / (tests - place as f64)));
        adjusted[test] = least;
    }
    adjusted
}
