//! What may decide on an alarm: samples of the same cells and the same builds, made afterwards with another seed. Anything
//! else would say something of other guests or other programs, or repeat what chance has said before.

use migbench_scenarios::frozen::short;

use super::measurement::{JudgeError, plan_difference, same_schema};
use crate::manifest::{Build, Manifest};
use crate::store::RunData;

/// Requires that `fresh` may confirm what `first` has raised; both were made by `migbench ab`.
///
/// # Errors
/// [`JudgeError::Schemas`], and [`JudgeError::NotFresh`] with the first difference.
pub fn require(first: &RunData, fresh: &RunData) -> Result<(), JudgeError> {
    let (old, new) = (&first.manifest, &fresh.manifest);
    same_schema((&first.path, old.schema), (&fresh.path, new.schema))?;
    let differ = |what: &str, old: String, new: String| {
        (old != new).then(|| format!("the {what} is {new} and not {old}"))
    };
    let difference = differ("suite", old.suite.clone(), new.suite.clone())
        .or_else(|| plan_difference(first, fresh))
        .or_else(|| builds(old, new))
        .or_else(|| differ("planted cost", planted(old), planted(new)))
        .or_else(|| differ("backend", old.backend.word().to_owned(), new.backend.word().to_owned()))
        .or_else(|| {
            let mut classes = old.host.class().into_iter().zip(new.host.class());
            classes.find_map(|((what, old), (_, new))| differ(&format!("host's {what}"), old, new))
        })
        .or_else(|| {
            let seed = old.seed;
            (seed == new.seed)
                .then(|| format!("it has the same seed, {seed}: the same guests in the same order"))
        })
        .or_else(|| {
            // Times of RFC 3339 in UTC sort as text.
            let before = new.started < old.started;
            before.then(|| format!("it was begun before, at {}", new.started))
        });
    match difference {
        None => Ok(()),
        Some(what) => {
            Err(JudgeError::NotFresh { first: first.path.clone(), fresh: fresh.path.clone(), what })
        }
    }
}

fn planted(manifest: &Manifest) -> String {
    manifest.planted.clone().unwrap_or_else(|| "none".to_owned())
}

/// The first cell whose nodes were of another build: by the file's hash, wherever it lay.
fn builds(old: &Manifest, new: &Manifest) -> Option<String> {
    let described = |build: Option<&Build>| {
        build.map_or_else(
            || "unknown".to_owned(),
            |build| format!("{} (BLAKE3 {})", build.tool.build(), short(&build.blake3)),
        )
    };
    let cells = |manifest: &Manifest| -> Vec<_> {
        let cells = manifest.comparisons.iter().flat_map(|comparison| &comparison.cells);
        cells.map(|planned| (planned.id.clone(), manifest.build_of(&planned.cell).cloned())).collect()
    };
    cells(old).into_iter().zip(cells(new)).find_map(|((id, old), (_, new))| {
        let same = old.as_ref().zip(new.as_ref()).is_some_and(|(old, new)| old.blake3 == new.blake3);
        (!same).then(|| {
            format!("the build of {id} is {} and not {}", described(new.as_ref()), described(old.as_ref()))
        })
    })
}

#[cfg(test)]
mod tests {
    use migbench_scenarios::cell::Side;
    use migbench_workloads::units::Bytes;

    use super::*;
    use crate::judge::gate_tests::{again, slower};

    /// What is wrong with fresh samples that `change` has changed.
    fn refused(change: impl FnOnce(&mut RunData)) -> String {
        let (first, mut fresh) = (slower(1.1, 1), again(slower(1.1, 2)));
        change(&mut fresh);
        match require(&first, &fresh) {
            Ok(()) => String::new(),
            Err(error) => {
                assert!(error.is_incomparable(), "{error}");
                error.to_string()
            }
        }
    }

    #[test]
    fn fresh_samples_are_of_the_same_plan_and_builds_with_another_seed() {
        assert_eq!(refused(|_| {}), "");
        // More runs are as good, and so is the same build elsewhere.
        assert_eq!(refused(|fresh| fresh.manifest.repetitions = 99), "");
        let elsewhere = |fresh: &mut RunData| {
            fresh.manifest.builds[1].binary = "elsewhere".to_owned();
            for planned in fresh.manifest.comparisons.iter_mut().flat_map(|c| &mut c.cells) {
                if planned.cell.side == Some(Side::New) {
                    planned.cell.binary = Some("elsewhere".to_owned());
                }
            }
        };
        assert_eq!(refused(elsewhere), "");

        let wrong = refused(|fresh| fresh.manifest.suite = "nightly".to_owned());
        assert!(wrong.contains("the suite is nightly and not quick"), "{wrong}");
        assert!(
            wrong.starts_with("results/some-again can't confirm what results/some has raised: "),
            "{wrong}"
        );
        let size = |fresh: &mut RunData| fresh.manifest.comparisons[2].cells[1].cell.memory = Bytes(1 << 30);
        let wrong = refused(size);
        assert!(wrong.contains("the cell write-heavy/full/new differs in memory"), "{wrong}");
        let wrong = refused(|fresh| drop(fresh.manifest.comparisons.pop()));
        assert!(wrong.contains("only the first has the cell write-heavy/delta/base"), "{wrong}");
        for (which, id) in [(0, "read-heavy/full/base"), (1, "read-heavy/full/new")] {
            let wrong = refused(|fresh| fresh.manifest.builds[which].blake3 = "f00d".to_owned());
            assert!(wrong.contains(&format!("the build of {id} is 0.1.0")), "{wrong}");
            assert!(wrong.contains("(BLAKE3 f00d) and not 0.1.0"), "{wrong}");
        }
        let wrong = refused(|fresh| fresh.manifest.builds.clear());
        assert!(wrong.contains("is unknown and not"), "{wrong}");
        let wrong = refused(|fresh| fresh.manifest.planted = Some("new:encode+5%".to_owned()));
        assert!(wrong.contains("the planted cost is new:encode+5% and not none"), "{wrong}");
        let wrong = refused(|fresh| fresh.manifest.host.kernel = Some("6.13.0".to_owned()));
        assert!(wrong.contains("the host's kernel is 6.13.0 and not 6.12.0"), "{wrong}");
        let wrong = refused(|fresh| fresh.manifest.seed = 1);
        assert!(wrong.contains("it has the same seed, 1"), "{wrong}");
        let wrong = refused(|fresh| fresh.manifest.started = "2001-01-01T00:00:00Z".to_owned());
        assert!(wrong.contains("it was begun before, at 2001"), "{wrong}");
        let wrong = refused(|fresh| fresh.manifest.schema = 1);
        assert!(wrong.contains("schema 1"), "{wrong}");
    }
}
