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
    /// Only cells whose id, COMPARISON/ROW, matches, such as write-heavy/delta; --dry-run shows comparisons and their rows.
    #[arg(long, value_name = "REGEX")]
    filter: Option<String>,
    /// Sets a parameter of all cells, with its unit; may be repeated. Several values separated by commas make an axis.
    /// `migbench list keys` names the keys.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A suite as it was found, or as it was begun.
pub struct SuiteText {
    /// What it is called in messages.
    pub origin: String,
    /// TOML.
    pub text: String,
}

impl SuiteText {
    /// The suite of that name, or the file of that path.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        // Says it better than what follows, where there is none.
        Suite::find(name)?;
        match shipped::SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Ok(Self { origin: format!("{name}.toml"), text: (*text).to_owned() }),
            None => {
                let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
                Ok(Self { origin: name.to_owned(), text })
            }
        }
    }
}

impl Selection {
    /// The plan of a suite with these flags.
    pub fn plan(&self, suite: &SuiteText) -> anyhow::Result<Plan> {
        self.plan_by(suite, |suite| suite.expand())
    }

    /// Whether it changes anything.
    pub fn is_given(&self) -> bool {
        self.time_budget.is_some() || self.repeat.is_some() || self.filter.is_some() || !self.set.is_empty()
    }

    /// The same, of a plan that is made otherwise.
    pub fn plan_by(
        &self,
        suite: &SuiteText,
        make: impl Fn(Suite) -> Result<Plan, SuiteError>,
    ) -> anyhow::Result<Plan> {
        let of = |repeat| -> anyhow::Result<Plan> {
            let mut suite = Suite::parse(&suite.text, &suite.origin)?;
            let set = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<_, _>>()?;
            suite.apply(&Overrides { set, repeat, seed: None, filter: self.filter.clone() })?;
            Ok(make(suite)?)
        };
        let Some(budget) = self.time_budget else { return of(self.repeat) };
        let repeat = fitting(budget, of(Some(1))?.estimate().0, of(Some(2))?.estimate().0)?;
        let plan = of(Some(repeat))?;
        note!(
            "time budget {budget}: {repeat} timed repetitions of each cell, about {:.1} minutes",
            plan.estimate().0 / 60.0
        );
        Ok(plan)
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
