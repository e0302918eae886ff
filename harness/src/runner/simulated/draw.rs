//! What differs from run to run: factors with a mean of one, drawn from the seeds alone.

use migbench_scenarios::cell::Cell;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::spec::Simulation;

/// A source of factors for one purpose.
#[derive(Debug)]
pub struct Draws(Xoshiro256PlusPlus);

impl Draws {
    /// Of one run, for one `purpose`: another purpose draws other factors, and no purpose moves another one's. Where a build
    /// lies is no part of it, so that the same command gives the same figures in any directory.
    pub fn of_run(simulation: &Simulation, seed: u64, cell: &Cell, purpose: &str) -> Self {
        // A cell has string keys and finite numbers only.
        let cell = serde_json::to_vec(&Cell { binary: None, ..cell.clone() }).unwrap_or_default();
        Self::of(simulation, &seed.to_le_bytes(), purpose, &cell)
    }

    /// Of all runs of a comparison in one block, which share the guest's seed.
    pub fn of_pair(simulation: &Simulation, seed: u64) -> Self {
        Self::of(simulation, &seed.to_le_bytes(), "pair", &[])
    }

    /// Of the host in one block.
    pub fn of_block(simulation: &Simulation, block: u32) -> Self {
        Self::of(simulation, &block.to_le_bytes(), "block", &[])
    }

    fn of(simulation: &Simulation, which: &[u8], purpose: &str, more: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [&simulation.seed.to_le_bytes()[..], which, purpose.as_bytes(), &[0], more] {
            hasher.update(part);
        }
        Self(Xoshiro256PlusPlus::from_seed(*hasher.finalize().as_bytes()))
    }

    /// A log-normal factor of mean one with that coefficient of variation.
    pub fn factor(&mut self, variation: f64) -> f64 {
        let variance = (variation * variation).ln_1p();
        (variance.sqrt() * self.normal() - variance / 2.0).exp()
    }

    /// Whether something of that probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// Of the standard normal distribution (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (radius, turn) = (1.0 - self.0.random::<f64>(), self.0.random::<f64>());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_have_a_mean_of_one_and_the_variation_asked_for() {
        for variation in [0.0, 0.02, 0.3] {
            let mut draws = Draws::of_block(&Simulation::default(), 1);
            let all: Vec<f64> = (0..20_000).map(|_| draws.factor(variation)).collect();
            let mean = all.iter().sum::<f64>() / 20_000.0;
            let spread = (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0).sqrt() / mean;
            // Four standard errors and more.
            assert!((mean - 1.0).abs() <= 0.03 * variation, "{mean}");
            assert!((spread - variation).abs() <= 0.05 * variation, "{spread} for {variation}");
        }
    }

    #[test]
    fn where_a_build_lies_moves_nothing() {
        let plan = migbench_scenarios::Suite::find("quick").unwrap().expand().unwrap();
        let drawn = |binary: Option<&str>| {
            let cell =
                Cell { binary: binary.map(str::to_owned), ..plan.comparisons[0].cells[0].cell.clone() };
            Draws::of_run(&Simulation::default(), 1, &cell, "times").factor(0.1)
        };
        assert_eq!(drawn(Some("/tmp/one/migbench")), drawn(Some("/tmp/another/migbench")));
        assert_eq!(drawn(None), drawn(Some("/tmp/one/migbench")));
    }

    #[test]
    fn purposes_and_seeds_draw_for_themselves() {
        let other: Simulation = "seed=1".parse().unwrap();
        let simulation = Simulation::default();
        let first = |mut draws: Draws| draws.factor(0.1);
        let block = first(Draws::of_block(&simulation, 1));
        assert_eq!(block, first(Draws::of_block(&simulation, 1)));
        for next in
            [Draws::of_block(&simulation, 2), Draws::of_block(&other, 1), Draws::of_pair(&simulation, 1)]
        {
            assert_ne!(block, first(next));
        }
    }
}
