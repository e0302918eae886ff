//! Fisher's exact test of two shares (1935), such as those of runs that a limit cut short: with both sums given, how likely
//! is it that so many fell to the second side?

use super::real;

/// The chance of as many hits in the second sample or more, if both have them alike. Each sample is its hits and its misses.
#[must_use]
pub fn more_in_second(first: (usize, usize), second: (usize, usize)) -> f64 {
    let (hits, misses, drawn) = (first.0 + second.0, first.1 + second.1, second.0 + second.1);
    let ways = |hit: usize| choices(hits, hit) * choices(misses, drawn - hit);
    let possible = drawn.saturating_sub(misses)..=hits.min(drawn);
    let all: f64 = possible.clone().map(ways).sum();
    possible.filter(|hit| *hit >= second.0).map(ways).sum::<f64>() / all
}

fn choices(all: usize, taken: usize) -> f64 {
    (0..taken).map(|step| real(all - step) / real(step + 1)).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_lady_and_with_scipy() {
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        // The lady tasting tea: all four right, then three.
        close(more_in_second((0, 4), (4, 0)), 1.0 / 70.0);
        close(more_in_second((1, 3), (3, 1)), 17.0 / 70.0);
        // scipy.stats.fisher_exact([[1, 9], [11, 3]], "less").
        close(more_in_second((1, 9), (11, 3)), 0.001_379_728);
        close(more_in_second((0, 6), (1, 5)), 0.5);
        close(more_in_second((0, 6), (0, 6)), 1.0);
    }
}
