//! A plan frozen in a file, for machines that share a suite: cells, order, seeds, and the build of migbench that may work it
//! off. `migbench plan` writes it; it is read only as it was written, because machines that follow different plans
//! measure different things.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::replace::create;

/// Version of the file's shape.
pub const PLAN_SCHEMA: u32 = 2;

/// The program that made the records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Its version.
    pub version: String,
    /// The commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether the tree had changes that no commit holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
}

impl Tool {
    /// `migbench 0.1.0, commit 0123abc`, with what makes it doubtful.
    #[must_use]
    pub fn named(&self) -> String {
        let dirty = if self.dirty == Some(true) { " with uncommitted changes" } else { "" };
        let commit =
            self.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}{dirty}"));
        format!("migbench {}{commit}", self.version)
    }

    /// Which build it is, in words.
    #[must_use]
    pub fn build(&self) -> String {
        let commit = self.commit.as_deref().map(|commit| format!(" of commit {commit}"));
        let dirty = if self.dirty == Some(true) { " with uncommitted changes" } else { "" };
        format!("{}{}{dirty}", self.version, commit.unwrap_or_default())
    }
}

/// The content of a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrozenPlan {
    /// [`PLAN_SCHEMA`].
    pub plan_schema: u32,
    /// BLAKE3, in hexadecimal, of the compact JSON of `[plan_schema, tool, suite_text, plan]`, the plan as
    /// [`Plan::canonical`]. It covers prose, seeds and repetitions too, unlike the plan's own hash of what is measured.
    pub hash: String,
    /// The build that made the plan, and that must run it.
    pub tool: Tool,
    /// The suite file as it was read.
    pub suite_text: String,
    /// The plan.
    pub plan: Plan,
}

/// Why a plan file was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum PlanFileError {
    #[error("can't read the plan {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("can't write the plan {}: {source}; name another file with -o", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{}: no plan file: {source}; `migbench plan SUITE -o FILE` makes one", .path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error(
        "{}: a plan of format {found}, and this migbench reads format {PLAN_SCHEMA}; freeze the suite again with \
         `migbench plan`, or use the migbench that made it", .path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error(
        "{}: changed since it was frozen ({what}); a plan is not edited: change the suite, and freeze it again with \
         `migbench plan`", .path.display()
    )]
    Changed { path: PathBuf, what: String },
    #[error(
        "{}: frozen by migbench {was}, and this is {is}; machines that share a plan use one build", .path.display()
    )]
    Tool { path: PathBuf, was: String, is: String },
}

impl PlanFileError {
    /// Whether plan and program do not go together, rather than the file being no good.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        matches!(self, Self::Tool { .. })
    }
}

impl FrozenPlan {
    /// Freezes a plan that `tool` has made of a suite's text.
    #[must_use]
    pub fn new(plan: Plan, suite_text: String, tool: Tool) -> Self {
        let hash = Self::hash_of(&tool, &suite_text, &plan);
        Self { plan_schema: PLAN_SCHEMA, hash, tool, suite_text, plan }
    }

    /// The hash of a plan file with this content.
    #[must_use]
    pub fn hash_of(tool: &Tool, suite_text: &str, plan: &Plan) -> String {
        // Plans have string keys and finite numbers only, which is all that JSON could refuse.
        let text = serde_json::to_vec(&(PLAN_SCHEMA, tool, suite_text, plan.canonical())).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }

    /// Writes it, but over nothing: slices of a plan that is gone could never be merged.
    ///
    /// # Errors
    /// [`PlanFileError::Unwritable`], also where the file exists.
    pub fn write(&self, path: &Path) -> Result<(), PlanFileError> {
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_string_pretty(self)?;
            text.push('\n');
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            create(path, text.as_bytes())
        };
        write().map_err(|source| PlanFileError::Unwritable { path: path.to_owned(), source })
    }

    /// Reads a plan that `tool` is to run.
    ///
    /// # Errors
    /// Where the file is no plan, of another format, changed, or of another build.
    pub fn read(path: &Path, tool: &Tool) -> Result<Self, PlanFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PlanFileError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path, tool)
    }

    fn parse(text: &str, path: &Path, tool: &Tool) -> Result<Self, PlanFileError> {
        #[derive(Deserialize)]
        struct PlanVersion {
            plan_schema: u32,
        }
        let path = path.to_owned();
        let malformed = |source| PlanFileError::Malformed { path: path.clone(), source };
        // Before all else, of which another format may have made something else.
        let PlanVersion { plan_schema: found } = serde_json::from_str(text).map_err(malformed)?;
        if found != PLAN_SCHEMA {
            return Err(PlanFileError::Format { path, found });
        }
        let frozen: Self = serde_json::from_str(text).map_err(malformed)?;
        let written: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        if frozen.tool != *tool {
            return Err(PlanFileError::Tool { path, was: frozen.tool.build(), is: tool.build() });
        }
        let hash = Self::hash_of(&frozen.tool, &frozen.suite_text, &frozen.plan);
        if hash != frozen.hash {
            let what = format!("its hash says {}, its content {}", short(&frozen.hash), short(&hash));
            return Err(PlanFileError::Changed { path, what });
        }
        // The hash is of what was understood; a field that was not would change nothing without a word.
        if serde_json::to_value(&frozen).map_err(malformed)? != written {
            let what = "it has fields that a plan has not".to_owned();
            return Err(PlanFileError::Changed { path, what });
        }
        match broken(&frozen.plan) {
            Some(what) => Err(PlanFileError::Changed { path, what }),
            None => Ok(frozen),
        }
    }
}

/// The start of a hash, as messages show it.
#[must_use]
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// What no plan of ours has, whatever its hash: it is of content, and not a signature.
fn broken(plan: &Plan) -> Option<String> {
    let mut runs = BTreeSet::new();
    for run in &plan.order {
        if plan.cell(run).is_none() {
            return Some(format!("a run of cell {} of comparison {}", run.cell, run.comparison));
        }
        if !runs.insert((run.comparison, run.cell, run.repetition)) {
            return Some("a run that stands twice".to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Suite;

    fn tool() -> Tool {
        Tool { version: "0.1.0".to_owned(), commit: Some("0123abc".to_owned()), dirty: Some(false) }
    }

    fn frozen(suite: &str) -> FrozenPlan {
        let plan = Suite::find(suite).unwrap().expand().unwrap();
        FrozenPlan::new(plan, "name = \"a suite\"\n".to_owned(), tool())
    }

    fn read(text: &str) -> Result<FrozenPlan, PlanFileError> {
        FrozenPlan::parse(text, Path::new("plan.json"), &tool())
    }

    #[test]
    fn every_shipped_suite_reads_back_as_it_was_frozen() {
        let scratch = tempfile::tempdir().unwrap();
        for (name, _) in crate::shipped::SHIPPED {
            let path = scratch.path().join(format!("plans/{name}.json"));
            let frozen = frozen(name);
            frozen.write(&path).unwrap();
            assert_eq!(FrozenPlan::read(&path, &tool()).unwrap(), frozen);
        }
        let path = scratch.path().join("plans/quick.json");
        let again = frozen("quick").write(&path).unwrap_err().to_string();
        assert!(again.contains("quick.json") && again.contains("another file"), "{again}");
    }

    #[test]
    fn the_smallest_change_is_found() {
        let whole = serde_json::to_value(frozen("quick")).unwrap();
        for (pointer, value) in [
            ("/plan/order/3/seed", serde_json::json!(7)),
            ("/plan/comparisons/0/cells/1/cell/memory", serde_json::json!(268_435_456)),
            ("/plan/repetitions", serde_json::json!(7)),
            ("/plan/description", serde_json::json!("another")),
            ("/suite_text", serde_json::json!("")),
            ("/hash", serde_json::json!("00")),
        ] {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            let error = read(&changed.to_string()).unwrap_err();
            assert!(matches!(error, PlanFileError::Changed { .. }), "{pointer}: {error}");
            assert!(error.to_string().contains("plan.json: changed since it was frozen"), "{error}");
        }
        let mut added = whole.clone();
        added["plan"]["order"][0]["nice"] = serde_json::json!(1);
        assert!(matches!(read(&added.to_string()), Err(PlanFileError::Changed { .. })));
        // Space between words is nobody's content.
        assert!(read(&whole.to_string()).is_ok());
    }

    #[test]
    fn another_format_or_build_is_refused_by_name() {
        let mut frozen = serde_json::to_value(frozen("quick")).unwrap();
        frozen["tool"]["commit"] = serde_json::json!("fedcba9");
        let other = read(&frozen.to_string()).unwrap_err();
        assert!(other.is_incomparable(), "{other}");
        let words = "frozen by migbench 0.1.0 of commit fedcba9, and this is 0.1.0 of commit 0123abc";
        assert!(other.to_string().contains(words), "{other}");
        frozen["plan_schema"] = serde_json::json!(3);
        let newer = read(&frozen.to_string()).unwrap_err().to_string();
        assert!(newer.contains("a plan of format 3, and this migbench reads format 2"), "{newer}");
        let none = read("{}").unwrap_err().to_string();
        assert!(none.contains("no plan file") && none.contains("migbench plan SUITE"), "{none}");
    }

    #[test]
    fn a_plan_that_points_nowhere_is_refused_whatever_its_hash() {
        let mut plan = frozen("quick").plan;
        plan.order[0].comparison = 99;
        let text = serde_json::to_string(&FrozenPlan::new(plan, String::new(), tool())).unwrap();
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains("comparison 99"), "{error}");
    }
}
