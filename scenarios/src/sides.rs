//! Two sides of one suite: the same cells with the settings of a base and with those of what is new, pair by pair. Each
//! pair is a comparison of its own, so that both run in every block, in an order that is drawn for each.

use crate::cell::Side;
use crate::draft::Assignment;
use crate::error::SuiteError;
use crate::place::Place;
use crate::plan::{Comparison, Plan, PlannedCell};
use crate::suite::{Overrides, Suite};

impl Suite {
    /// The plan of `migbench ab`: every cell of this suite twice, with the settings of `base` and with those of `new`. Both may
    /// be empty, which compares the suite with itself. Cells whose programs do not read what a side sets are left out.
    ///
    /// # Errors
    /// As [`Suite::apply`] and [`Suite::expand`]; where a side has several values for one key; and where the sides have not the
    /// same number of cells; and where no cell reads what a side sets.
    pub fn sides(&self, base: &[Assignment], new: &[Assignment]) -> Result<Plan, SuiteError> {
        let mut plan = self.side(base)?;
        let other = self.side(new)?;
        let cells = |plan: &Plan| plan.comparisons.iter().map(|c| c.cells.len()).collect::<Vec<_>>();
        if cells(&plan) != cells(&other) {
            let what =
                "base and new have not the same cells; a setting of one side must not add or remove any"
                    .to_owned();
            return Err(SuiteError::empty(&Place::argument("ab"), what));
        }
        let set = base.iter().chain(new).map(Assignment::entries).collect::<Result<Vec<_>, _>>()?.concat();
        let mut unread = None;
        let mut pairs = Vec::new();
        for (base, new) in plan.comparisons.iter().zip(&other.comparisons) {
            for (base_cell, new_cell) in base.cells.iter().zip(&new.cells) {
                // Both halves of a pair whose program does not read what was set would be the same cell.
                let both = [base_cell, new_cell];
                let why = both
                    .iter()
                    .find_map(|cell| set.iter().find_map(|entry| entry.unread(&cell.cell, &cell.id)));
                match why {
                    Some(why) => unread = unread.or(Some(why)),
                    None => pairs.push(pair(base, base_cell, new_cell)),
                }
            }
        }
        if let Some(why) = unread.filter(|_| pairs.is_empty()) {
            return Err(why);
        }
        plan.compare_anew(pairs);
        Ok(plan)
    }

    fn side(&self, set: &[Assignment]) -> Result<Plan, SuiteError> {
        let mut suite = self.clone();
        for assignment in set {
            let [entry] = &assignment.entries()?[..] else {
                let what = "a side has one value for a key; name several after --set".to_owned();
                return Err(SuiteError::empty(assignment.place(), what));
            };
            // The sides are compared with each other, and not with a baseline of the suite's.
            for spec in suite.specs.iter_mut().filter(|spec| spec.compare == entry.index) {
                spec.baseline = entry.clone();
            }
        }
        suite.apply(&Overrides { set: set.to_vec(), ..Overrides::default() })?;
        suite.refuse_unread = false;
        suite.expand()
    }
}

/// A comparison of two cells.
fn pair(comparison: &Comparison, base: &PlannedCell, new: &PlannedCell) -> Comparison {
    let name = if base.label == new.label {
        base.id.clone()
    } else {
        format!("{}/{} and {}", comparison.name, base.label, new.label)
    };
    let on = |side: Side, planned: &PlannedCell| {
        let mut cell = planned.cell.clone();
        cell.side = Some(side);
        PlannedCell {
            id: format!("{name}/{side}"),
            label: side.to_string(),
            cell,
            // A pair of which one half is missing compares nothing.
            optional: base.optional || new.optional,
        }
    };
    Comparison {
        compare: "side".to_owned(),
        baseline: Some(0),
        analysis: comparison.analysis.clone(),
        cells: vec![on(Side::Base, base), on(Side::New, new)],
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(base: &[&str], new: &[&str]) -> Result<Plan, String> {
        let of =
            |texts: &[&str]| texts.iter().map(|text| Assignment::parse(text).unwrap()).collect::<Vec<_>>();
        let suite = Suite::find("quick").unwrap();
        suite.sides(&of(base), &of(new)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_cell_is_there_on_both_sides_and_both_are_in_every_block() {
        let plan = plan(&["tracker=kvm-bitmap"], &["tracker=kvm-ring", "binary=/opt/migbench"]).unwrap();
        let names: Vec<_> = plan.comparisons.iter().map(|comparison| comparison.name.as_str()).collect();
        assert_eq!(names, ["read-heavy/full", "read-heavy/delta", "write-heavy/full", "write-heavy/delta"]);
        for comparison in &plan.comparisons {
            let ids: Vec<_> = comparison.cells.iter().map(|cell| cell.id.clone()).collect();
            assert_eq!(ids, ["base", "new"].map(|side| format!("{}/{side}", comparison.name)));
            let [base, new] = [0, 1].map(|row| &comparison.cells[row].cell);
            assert_eq!((base.tracker.word(), new.tracker.word()), ("kvm-bitmap", "kvm-ring"));
            assert_eq!((base.binary.as_deref(), new.binary.as_deref()), (None, Some("/opt/migbench")));
            assert_eq!((base.engine, base.memory), (new.engine, new.memory));
        }
        assert_eq!(plan.order.len(), 7 * 8);
        for pair in plan.order.chunks(2) {
            assert_eq!((pair[0].comparison, pair[0].repetition), (pair[1].comparison, pair[1].repetition));
            assert_eq!((pair[0].seed, pair[0].cell + pair[1].cell), (pair[1].seed, 1));
        }
        let first: Vec<_> = plan.order.chunks(2).map(|pair| pair[0].cell).collect();
        assert!(first.contains(&0) && first.contains(&1), "the order is drawn");
    }

    #[test]
    fn a_suite_can_be_compared_with_itself() {
        let plan = plan(&[], &[]).unwrap();
        let cells = &plan.comparisons[0].cells;
        assert_ne!(cells[0].cell, cells[1].cell, "records tell the sides apart");
    }

    #[test]
    fn sides_of_the_compared_key_are_one_pair() {
        let plan = plan(&["engine=full"], &["engine=delta"]).unwrap();
        let names: Vec<_> = plan.comparisons.iter().map(|comparison| comparison.name.as_str()).collect();
        assert_eq!(names, ["read-heavy/full and delta", "write-heavy/full and delta"]);
    }

    #[test]
    fn only_cells_that_read_a_setting_are_compared_by_it() {
        let suite = "name = \"mixed\"\ndescription = \"d\"\n[[comparison]]\n\
                     axes = { workload = [\"kv-a\", \"write-heavy\"], engine = [\"full\", \"delta\"] }\n\
                     compare = \"engine\"\nbaseline = \"full\"\nlink.rate = \"1Gbit/s\"\n";
        let suite = Suite::parse(suite, "mixed.toml").unwrap();
        let sides = |key: &str| suite.sides(&[], &[Assignment::parse(key).unwrap()]);
        let names = |key: &str| -> Vec<String> {
            sides(key).unwrap().comparisons.iter().map(|comparison| comparison.name.clone()).collect()
        };
        assert_eq!(names("settings.change.bytes=64"), ["write-heavy/full", "write-heavy/delta"]);
        assert_eq!(names("settings.accesses=16").len(), 4);
        let kv = "name = \"kv\"\ndescription = \"d\"\n[[comparison]]\nworkload = \"kv-a\"\n\
                  axes = { engine = [\"full\"] }\nlink.rate = \"1Gbit/s\"\n";
        let error = Suite::parse(kv, "kv.toml")
            .unwrap()
            .sides(&[], &[Assignment::parse("settings.writes=4").unwrap()]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the program of kv-a (kv) does not read it"), "{error}");
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let several = plan(&["memory=128MiB,256MiB"], &[]).unwrap_err();
        assert!(several.starts_with("--set memory=128MiB,256MiB: a side has one value"), "{several}");
        let unknown = plan(&["memry=128MiB"], &[]).unwrap_err();
        assert!(unknown.contains("did you mean `memory`"), "{unknown}");
    }
}
