//! The band in which a share must lie.

/// Whether `hits` of `trials` fit a probability, within the band that holds 99.9 % of binomial draws (normal
/// approximation with continuity correction).
pub fn fits(hits: u64, trials: u64, probability: f64) -> bool {
    let (low, high) = band(trials, probability);
    (low..=high).contains(&(hits as f64))
}

/// The band itself.
pub fn band(trials: u64, probability: f64) -> (f64, f64) {
    /// Two-sided 99.9 % quantile of the normal distribution.
    const Z: f64 = 3.2905;
    let n = trials as f64;
    let half = Z * (n * probability * (1.0 - probability)).sqrt() + 0.5;
    (n * probability - half, n * probability + half)
}

/// Measures until the shares fit, twice at most: of a thousand honest measurements one is outside the band, of a million
/// pairs one is; a wrong share is outside both times.
pub fn within_band<T>(mut measure: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    measure().or_else(|_| measure())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_that_of_the_binomial_distribution() {
        // Exact 99.9 % interval of B(1000, 0.5): 448 to 552.
        assert!(fits(448, 1000, 0.5) && fits(552, 1000, 0.5));
        assert!(!fits(446, 1000, 0.5) && !fits(554, 1000, 0.5));
        assert!(fits(0, 10, 0.0) && !fits(2, 10, 0.0));
    }
}
