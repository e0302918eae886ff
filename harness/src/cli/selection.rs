//! Which cells of a suite, with which values and how often: the flags of every command that plans one.

use anyhow::Context;
use migbench_scenarios::{Assignment, Overrides, Place, Plan, Suite, SuiteError, shipped};

/// What the command line changes of a suite.
#[derive(Debug, clap::Args)]
pub struct Selection {
    /// Choose as many timed repetitions of each cell as fit into this time, such as 10m or 1h30m.
    #[arg(long, value_name = "TIME", conflicts_with = "repeat")]
    time_budget: Option<humantime::Duration>,
    /// Timed repetitions of each cell, in place of the suite's; the verification run of each cell comes on top.
    #[arg(long, value_name = "N")]
    repeat: Option<u32>,
    /// Only cells whose id matches, such as write-heavy/delta; `run --dry-run` shows all ids.
    #[arg(long, value_name = "REGEX")]
    filter: Option<String>,
    /// Sets a parameter of all cells, with its unit; may be repeated. Several values separated by commas make an axis.
    /// `migbench list keys` names the keys.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Selection {
    /// The plan of the suite called `name`, with these flags, and its text.
    pub fn plan(&self, name: &str) -> anyhow::Result<(Plan, String)> {
        self.plan_by(name, |suite| suite.expand())
    }

    /// The same, of a plan that is made otherwise.
    pub fn plan_by(
        &self,
        name: &str,
        make: impl Fn(Suite) -> Result<Plan, SuiteError>,
    ) -> anyhow::Result<(Plan, String)> {
        let of = |repeat| -> anyhow::Result<Plan> {
            let mut suite = Suite::find(name)?;
            let set = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<_, _>>()?;
            suite.apply(&Overrides { set, repeat, seed: None, filter: self.filter.clone() })?;
            Ok(make(suite)?)
        };
        let Some(budget) = self.time_budget else { return Ok((of(self.repeat)?, text_of(name)?)) };
        let repeat = fitting(budget, of(Some(1))?.estimate().0, of(Some(2))?.estimate().0)?;
        let plan = of(Some(repeat))?;
        eprintln!(
            "time budget {budget}: {repeat} timed repetitions of each cell, about {:.1} minutes",
            plan.estimate().0 / 60.0
        );
        Ok((plan, text_of(name)?))
    }
}

/// How many repetitions fit into `budget`, when one takes `one` seconds and two take `two`.
fn fitting(budget: humantime::Duration, one: f64, two: f64) -> Result<u32, SuiteError> {
    let each = (two - one).max(f64::MIN_POSITIVE);
    let seconds = budget.as_secs_f64();
    if one > seconds {
        let place = Place::argument(&format!("--time-budget {budget}"));
        let what = format!(
            "one repetition takes about {:.1} minutes; allow that much, or leave cells out with --filter",
            one / 60.0
        );
        return Err(SuiteError::empty(&place, what));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into range")]
    Ok((1.0 + (seconds - one) / each).clamp(1.0, 10_000.0) as u32)
}

fn text_of(suite: &str) -> anyhow::Result<String> {
    match shipped::SHIPPED.iter().find(|(name, _)| *name == suite) {
        Some((_, text)) => Ok((*text).to_owned()),
        None => std::fs::read_to_string(suite).with_context(|| format!("cannot read {suite}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_repetitions_as_fit() {
        let of = |text: &str, one, two| fitting(text.parse().unwrap(), one, two).map_err(|e| e.to_string());
        assert_eq!(of("1m", 20.0, 30.0), Ok(5));
        assert_eq!(of("20s", 20.0, 30.0), Ok(1));
        let refused = of("19s", 20.0, 30.0).unwrap_err();
        assert!(
            refused.starts_with("--time-budget 19s: ") && refused.contains("one repetition"),
            "{refused}"
        );
    }
}
