//! The normal distribution: its lower tail, and where the tail has a given size.

/// The chance of a standard normal value up to `z`.
#[must_use]
pub fn lower_tail(z: f64) -> f64 {
    libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

/// The value whose lower tail is `share`, which lies between 0 and 1. Found by halving, since it is asked for a few times a
/// report: the tail falls as the value does.
#[must_use]
pub fn value_at(share: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    // 80 / 2^80 is far below the distance of two floats.
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if lower_tail(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_the_table() {
        // scipy.stats.norm.cdf and .ppf.
        for (z, tail) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.959_963_984_540_054, 0.025),
            (-6.0, 9.865_876_450_376_98e-10),
            (1.644_853_626_951_472_2, 0.95),
        ] {
            assert!((lower_tail(z) - tail).abs() < 1e-15 + tail * 1e-12, "{z}");
            assert!((value_at(tail) - z).abs() < 1e-9, "{z}");
        }
    }
}
