//! Which slice of a plan this process is to run, where it is one of an array of jobs: what Slurm and Kubernetes set for each
//! task in its environment.

use migbench_scenarios::Slice;

/// How many completions an Indexed Job has. Kubernetes gives a pod its index and not their number, so that the job's manifest
/// sets this beside `completions`.
pub const COMPLETIONS: &str = "JOB_COMPLETIONS";
/// The index of a pod of an Indexed Job, from 0. Set by Kubernetes.
pub const INDEX: &str = "JOB_COMPLETION_INDEX";
/// How many slices there are, whichever tasks of an array are submitted: `scripts/slurm/submit` sets it.
pub const SLICES: &str = "MIGBENCH_SLICES";
/// The index of a task of a job array. Set by Slurm, as those below.
pub const TASK: &str = "SLURM_ARRAY_TASK_ID";
const COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
const LEAST: &str = "SLURM_ARRAY_TASK_MIN";
const MOST: &str = "SLURM_ARRAY_TASK_MAX";

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
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum ArrayError {
    #[error("{task} is set, and {variable} {what}; give the slice with --partition slice:N/M")]
    Variable { task: &'static str, variable: &'static str, what: String },
    #[error(
        "{TASK} is {task} in an array of {count} from {least} to {most}, which may be a part of a larger one: set {SLICES} to the \
         number of slices, or give the slice with --partition slice:N/M"
    )]
    Part { task: u32, count: u32, least: u32, most: u32 },
    #[error("{TASK} is {task}, and {SLICES} {slices}: tasks are numbered from 1 to the number of slices")]
    Beyond { task: u32, slices: u32 },
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
    let task = required(TASK)?;
    if let Some(slices) = number(&get, TASK, SLICES)? {
        let slice = Slice::new(task, slices).map_err(|_| ArrayError::Beyond { task, slices })?;
        return Ok(Chosen { slice, by: format!("{TASK}={task} of {SLICES}={slices}") });
    }
    let count = required(COUNT)?;
    let least = number(&get, TASK, LEAST)?.unwrap_or(1);
    let most = number(&get, TASK, MOST)?.unwrap_or(count);
    let part = ArrayError::Part { task, count, least, most };
    if count < 2 || least != 1 || most != count {
        return Err(part);
    }
    let slice = Slice::new(task, count).map_err(|_| part)?;
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

    fn slurm(task: &str, count: &str, least: &str, most: &str) -> Result<String, String> {
        let chosen = of(&[(TASK, task), (COUNT, count), (LEAST, least), (MOST, most)]);
        chosen.map(|chosen| chosen.unwrap().slice.to_string())
    }

    #[test]
    fn none_outside_of_an_array() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(COUNT, "8"), (COMPLETIONS, "8")]), Ok(None));
    }

    #[test]
    fn a_whole_array_has_a_slice_for_each_task() {
        assert_eq!(slurm("1", "8", "1", "8").unwrap(), "1/8");
        assert_eq!(slurm("8", "8", "1", "8").unwrap(), "8/8");
        let chosen = of(&[(TASK, "2"), (COUNT, "4")]).unwrap().unwrap();
        assert_eq!(chosen.by, "SLURM_ARRAY_TASK_ID=2 of SLURM_ARRAY_TASK_COUNT=4");
    }

    #[test]
    fn what_may_be_a_part_of_an_array_is_refused() {
        // One task again, the second half again, one with a gap, one of odd numbers.
        for [task, count, least, most] in [
            ["3", "1", "3", "3"],
            ["1", "1", "1", "1"],
            ["5", "4", "5", "8"],
            ["4", "3", "1", "4"],
            ["3", "4", "1", "7"],
        ] {
            let refused = slurm(task, count, least, most).unwrap_err();
            assert!(refused.contains("--partition") && refused.contains("MIGBENCH_SLICES"), "{refused}");
            // Whoever submits says how many slices there are.
            let chosen = of(&[(TASK, task), (COUNT, count), (LEAST, least), (MOST, most), (SLICES, "8")]);
            assert_eq!(chosen.unwrap().unwrap().slice.to_string(), format!("{task}/8"));
        }
        let beyond = of(&[(TASK, "9"), (SLICES, "8")]).unwrap_err();
        assert!(beyond.contains("MIGBENCH_SLICES 8"), "{beyond}");
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
