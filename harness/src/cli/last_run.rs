//! The last run: the directory that commands which only read take where none is named.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use migbench_reports::replace::replace;
use migbench_reports::store::MANIFEST;

use super::UsageError;

/// An environment variable that holds something, as a path.
pub(super) fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where what outlives a command is kept; none for who has no home.
pub(super) fn state() -> Option<PathBuf> {
    set("XDG_STATE_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/state")))
        .map(|path| path.join("migbench"))
}

/// Set for what `migbench nightly` runs: nobody's last run, and some of it is gone when the night ends.
pub(super) const OF_A_NIGHT: &str = "MIGBENCH_OF_A_NIGHT";

/// Keeps in mind that runs are made in this directory. Where that cannot be written down there is no last run.
pub(super) fn note(directory: &Path) {
    if env::var_os(OF_A_NIGHT).is_some() {
        return;
    }
    let (Some(state), Ok(directory)) = (state(), std::path::absolute(directory)) else { return };
    let _ = fs::create_dir_all(&state)
        .and_then(|()| replace(&state.join("last-run"), directory.as_os_str().as_encoded_bytes()));
}

/// The directory that is named, or the last run, which is then named first.
pub(super) fn or_last(named: Option<PathBuf>) -> Result<PathBuf, UsageError> {
    use std::os::unix::ffi::OsStringExt as _;
    if let Some(directory) = named {
        return Ok(directory);
    }
    let refused =
        |what: &str| UsageError(format!("{what}; name a run directory, as `migbench run -o` was given it"));
    let kept = state().and_then(|state| fs::read(state.join("last-run")).ok());
    let whole: PathBuf =
        std::ffi::OsString::from_vec(kept.ok_or_else(|| refused("there is no last run yet"))?).into();
    // As it would be typed here.
    let here = env::current_dir().ok().and_then(|here| Some(whole.strip_prefix(here).ok()?.to_owned()));
    let directory = here.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| whole.clone());
    if !whole.join(MANIFEST).is_file() {
        return Err(refused(&format!("the last run, {}, is gone", directory.display())));
    }
    note!("last run: {}", directory.display());
    Ok(directory)
}
