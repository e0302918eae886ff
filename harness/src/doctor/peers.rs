//! Which other VMMs are here, and what they can do.

use super::{Check, Level};
use crate::peer;

/// One finding each. Nothing but cells that ask for them needs them, so that a machine without is in order.
pub(super) fn checks() -> Vec<Check> {
    peer::found().into_iter().map(|(name, found)| describe(name, found)).collect()
}

fn describe(name: &str, found: Result<String, String>) -> Check {
    match found {
        Ok(what) => Check::new(name, Level::Ok, what),
        Err(why) => {
            let (what, remedy) = why.split_once("; ").unwrap_or((&why, "look into that"));
            Check::new(name, Level::Ok, format!("{what}: cells with engine {name} cannot run"))
                .remedy(format!("if a suite wants them, {remedy}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_reported_with_its_remedy() {
        let check = describe("vmm", Err("vmm is not installed; install it".to_owned()));
        assert_eq!(check.found, "vmm is not installed: cells with engine vmm cannot run");
        assert_eq!(check.remedy.as_deref(), Some("if a suite wants them, install it"));
        assert_eq!(describe("vmm", Ok("1.0".to_owned())).found, "1.0");
    }
}
