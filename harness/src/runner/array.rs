//! Which slice of a plan this process is to run, where it is one of an array of jobs: what Slurm and Kubernetes set for each
//! task in its environment.

use migbench_scenarios::Slice;

/// How many completions an Indexed Job has. Kubernetes gives a pod its index and not their number, so that the job's manifest
/// sets this beside `completions`.
pub const COMPLETIONS: &str = "JOB_COMPLETIONS";
/// The index of a pod of an Indexed Job, from 0. Set by Kubernetes.
pub const INDEX: &str = "JOB_COMPLETION_INDEX";
/// The index of a task of a job array. Set by Slurm, as those below.
pub const TASK: &str = "SLURM_ARRAY_TASK_ID";
const COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
const LEAST: &str = "SLURM_ARRAY_TASK_MIN";
const MOST: &str = "SLURM_ARRAY_TASK_MAX";
const STEP: &str = "SLURM_ARRAY_TASK_STEP";

/// A slice, and the words that say who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The slice.
    pub slice: Slice,
    /// `--partition`, or variables with their values.
    pub by: String,
}

/// Why the environment names no slice, although this is a task of an array.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// A variable that should be there, or that is no number.
    #[error("{task} is set, and {variable} {what}; give the slice with --partition slice:N/M")]
    Variable {
        /// The variable that shows that this is a task.
        task: &'static str,
        /// Which one.
        variable: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Indices that are not 1, 2, 3, or anything with one step.
    #[error(
        "{TASK} is {task} in an array of {count} tasks from {least} to {most} by {step}: with gaps the slices are not the \
         indices; give the slice with --partition slice:N/M"
    )]
    Gaps {
        /// This task.
        task: u32,
        /// How many there are.
        count: u32,
        /// The first.
        least: u32,
        /// The last.
        most: u32,
        /// From one to the next.
        step: u32,
    },
    /// Two schedulers.
    #[error("{TASK} and {INDEX} are both set; give the slice with --partition slice:N/M")]
    Both,
}

/// The slice that the environment names, if this is a task of an array; `get` reads a variable.
///
/// # Errors
/// See [`ArrayError`]: never a slice that might be another task's too.
pub fn slice(get: impl Fn(&str) -> Option<String>) -> Result<Option<Chosen>, ArrayError> {
    match (get(TASK).is_some(), get(INDEX).is_some()) {
        (false, false) => Ok(None),
        (true, false) => slurm(get).map(Some),
        (false, true) => kubernetes(get).map(Some),
        (true, true) => Err(ArrayError::Both),
    }
}

fn slurm(get: impl Fn(&str) -> Option<String>) -> Result<Chosen, ArrayError> {
    let required = |variable| number(&get, TASK, variable)?.ok_or_else(|| unset(TASK, variable));
    let (task, count) = (required(TASK)?, required(COUNT)?);
    let least = number(&get, TASK, LEAST)?.unwrap_or(1);
    // Slurm says 0 or 1 for an array of one.
    let step = number(&get, TASK, STEP)?.unwrap_or(1).max(1);
    let last = least.saturating_add(count.saturating_sub(1).saturating_mul(step));
    let most = number(&get, TASK, MOST)?.unwrap_or(last);
    let gaps = ArrayError::Gaps { task, count, least, most, step };
    let place = task.checked_sub(least).filter(|offset| offset % step == 0 && most == last);
    let Some(place) = place else { return Err(gaps) };
    let slice = Slice::new(place / step + 1, count).map_err(|_| gaps)?;
    Ok(Chosen { slice, by: format!("{TASK}={task} of {COUNT}={count}") })
}

fn kubernetes(get: impl Fn(&str) -> Option<String>) -> Result<Chosen, ArrayError> {
    let required = |variable| number(&get, INDEX, variable)?.ok_or_else(|| unset(INDEX, variable));
    let (index, count) = (required(INDEX)?, required(COMPLETIONS)?);
    let slice = Slice::new(index.saturating_add(1), count).map_err(|_| ArrayError::Variable {
        task: INDEX,
        variable: COMPLETIONS,
        what: format!("is {count}, too little for index {index}: set it to the job's spec.completions"),
    })?;
    Ok(Chosen { slice, by: format!("{INDEX}={index} of {COMPLETIONS}={count}") })
}

fn unset(task: &'static str, variable: &'static str) -> ArrayError {
    let what = match variable {
        COMPLETIONS => "is not, which the job's manifest should set to its spec.completions",
        _ => "is not",
    };
    ArrayError::Variable { task, variable, what: what.to_owned() }
}

fn number(
    get: &impl Fn(&str) -> Option<String>,
    task: &'static str,
    variable: &'static str,
) -> Result<Option<u32>, ArrayError> {
    let Some(text) = get(variable) else { return Ok(None) };
    let what = || format!("is `{text}`, which is no number");
    text.parse().map(Some).map_err(|_| ArrayError::Variable { task, variable, what: what() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Chosen>, String> {
        let get =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        slice(get).map_err(|error| error.to_string())
    }

    fn slurm(task: &str, count: &str, least: &str, most: &str, step: &str) -> Result<String, String> {
        let chosen = of(&[(TASK, task), (COUNT, count), (LEAST, least), (MOST, most), (STEP, step)]);
        chosen.map(|chosen| chosen.unwrap().slice.to_string())
    }

    #[test]
    fn none_outside_of_an_array() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(COUNT, "8"), (COMPLETIONS, "8")]), Ok(None));
    }

    #[test]
    fn slurm_counts_from_any_first_index() {
        assert_eq!(slurm("1", "8", "1", "8", "1").unwrap(), "1/8");
        assert_eq!(slurm("0", "8", "0", "7", "1").unwrap(), "1/8");
        assert_eq!(slurm("7", "8", "0", "7", "1").unwrap(), "8/8");
        assert_eq!(slurm("9", "4", "3", "12", "3").unwrap(), "3/4");
        assert_eq!(slurm("5", "1", "5", "5", "0").unwrap(), "1/1");
        let chosen = of(&[(TASK, "2"), (COUNT, "4")]).unwrap().unwrap();
        assert_eq!(chosen.by, "SLURM_ARRAY_TASK_ID=2 of SLURM_ARRAY_TASK_COUNT=4");
    }

    #[test]
    fn an_array_with_gaps_is_refused_by_all_of_its_tasks() {
        for task in ["1", "2", "4"] {
            let refused = slurm(task, "3", "1", "4", "1").unwrap_err();
            assert!(refused.contains("--partition") && refused.contains("from 1 to 4 by 1"), "{refused}");
        }
        assert!(slurm("4", "4", "3", "12", "3").is_err());
    }

    #[test]
    fn kubernetes_counts_from_zero_and_its_manifest_says_how_many() {
        let chosen = of(&[(INDEX, "7"), (COMPLETIONS, "8")]).unwrap().unwrap();
        assert_eq!(chosen.slice, Slice::new(8, 8).unwrap());
        assert_eq!(chosen.by, "JOB_COMPLETION_INDEX=7 of JOB_COMPLETIONS=8");
        let unset = of(&[(INDEX, "7")]).unwrap_err();
        assert!(unset.contains("JOB_COMPLETIONS is not") && unset.contains("spec.completions"), "{unset}");
        let few = of(&[(INDEX, "8"), (COMPLETIONS, "8")]).unwrap_err();
        assert!(few.contains("JOB_COMPLETIONS is 8, too little for index 8"), "{few}");
    }

    #[test]
    fn doubtful_variables_are_refused() {
        let word = of(&[(TASK, "one"), (COUNT, "4")]).unwrap_err();
        assert!(word.contains("SLURM_ARRAY_TASK_ID is `one`"), "{word}");
        let unset = of(&[(TASK, "1")]).unwrap_err();
        assert!(unset.contains("SLURM_ARRAY_TASK_COUNT is not"), "{unset}");
        assert!(of(&[(TASK, "1"), (COUNT, "4"), (INDEX, "1"), (COMPLETIONS, "4")]).is_err());
    }
}
