//! Whether links between network namespaces can be made.

use migbench_scenarios::cell::{LinkSettings, Transport};
use migbench_workloads::units::Rate;

use super::{Check, Level};
use crate::wire::netns::{Namespaces, NetnsError};

/// Makes one and lets go of it.
pub(super) fn check() -> Check {
    describe(Namespaces::new(&LinkSettings {
        rate: Some(Rate(125_000_000)),
        ..LinkSettings::unlimited(Transport::Netns)
    }))
}

fn describe(made: Result<Namespaces, NetnsError>) -> Check {
    let name = "network namespaces";
    match made {
        Ok(_) => Check::new(name, Level::Ok, "available, with veth and tbf"),
        // Nothing but cells that ask for them needs them, so that a machine without is in order.
        Err(NetnsError { missing, remedy }) => {
            Check::new(name, Level::Ok, format!("{missing}: cells with link.transport netns cannot run"))
                .remedy(format!("if a suite wants them, {remedy}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_reported_with_its_remedy() {
        let error = NetnsError { missing: "there is no `tc`".to_owned(), remedy: "install it" };
        let check = describe(Err(error));
        assert_eq!(check.found, "there is no `tc`: cells with link.transport netns cannot run");
        assert_eq!(check.remedy.as_deref(), Some("if a suite wants them, install it"));
    }
}
