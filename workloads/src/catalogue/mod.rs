//! The workload catalogue: named settings, each with the reason for its numbers. A name goes in, settings and their
//! explanation come out; suites build their own workloads on top of these.
//!
//! The loads are chosen so that plain pre-copy converges on the link of the suite that uses them; but programs of others that
//! are flat-out stay so, and say what that means. Loads are never chosen by what another engine then saves.

mod compute;
mod elsewhere;
mod parametric;
mod stores;

use std::sync::LazyLock;

use crate::settings::Settings;

/// A named workload.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedWorkload {
    /// How suites and the command line call it.
    pub name: &'static str,
    /// What it models, in a line.
    pub summary: &'static str,
    /// Markdown: what it models, its parameters with their reasons, and what to look for in its results.
    pub about: &'static str,
    /// The parameters.
    pub settings: Settings,
}

/// Every named workload, in the order in which they are listed to users.
pub static ALL: LazyLock<Vec<NamedWorkload>> = LazyLock::new(|| {
    [parametric::named(), stores::named(), compute::named(), elsewhere::named()]
        .into_iter()
        .flatten()
        .collect()
});

/// The named workload of that name.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static NamedWorkload> {
    ALL.iter().find(|named| named.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Fill, Load, Pace};

    #[test]
    fn names_are_unique_and_found() {
        for named in ALL.iter() {
            assert_eq!(lookup(named.name), Some(named));
            assert_eq!(ALL.iter().filter(|other| other.name == named.name).count(), 1);
        }
        assert_eq!(lookup("write-heavi"), None);
    }

    #[test]
    fn settings_are_consistent() {
        for NamedWorkload { name, settings, .. } in ALL.iter() {
            let Fill { zero, random, text, duplicate } = settings.fill;
            assert!((zero + random + text + duplicate - 1.0).abs() < 1e-9, "{name}");
            assert!((0.0..=1.0).contains(&settings.reads), "{name}");
            assert!(settings.writes <= settings.accesses, "{name}");
            assert_eq!(settings.working_set.0 % 4096, 0, "{name}");
        }
    }

    #[test]
    fn a_closed_loop_says_what_becomes_of_pre_copy() {
        let closed: Vec<_> = ALL.iter().filter(|named| named.settings.load == Load::FlatOut).collect();
        assert!(!closed.is_empty());
        for named in closed {
            assert!(named.summary.contains("(flat-out)"), "{}", named.name);
            assert!(named.about.contains("expect `capped`"), "{}", named.name);
        }
    }

    #[test]
    fn the_heartbeat_is_every_ten_microseconds() {
        let idle = &lookup("idle").unwrap().settings;
        assert_eq!(idle.pace(None), Pace::Operations(1e5));
    }
}
