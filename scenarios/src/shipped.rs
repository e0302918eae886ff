//! The suites that come with the program, embedded so that the binary alone can run them.

use crate::error::{Problem, SuiteError, listed, nearest};
use crate::place::Place;

/// Name and text of every shipped suite, in the order in which they are listed.
pub const SHIPPED: &[(&str, &str)] = &[
    ("quick", include_str!("../quick.toml")),
    ("trackers", include_str!("../trackers.toml")),
    ("scale", include_str!("../scale.toml")),
    ("delta", include_str!("../delta.toml")),
    ("frontier", include_str!("../frontier.toml")),
    ("convergence", include_str!("../convergence.toml")),
    ("throttle", include_str!("../throttle.toml")),
    ("peers-quick", include_str!("../peers-quick.toml")),
    ("peers", include_str!("../peers.toml")),
    ("workloads", include_str!("../workloads.toml")),
    ("nightly", include_str!("../nightly.toml")),
    ("paper", include_str!("../paper.toml")),
    ("paper-sensitivity", include_str!("../paper-sensitivity.toml")),
    ("clark2005", include_str!("../papers/clark2005/clark2005.toml")),
    ("xbzrle-doc", include_str!("../papers/xbzrle-doc/xbzrle-doc.toml")),
];

/// The shipped suite of that name, as its name and text.
///
/// # Errors
/// When there is none; the error names the nearest.
pub fn find(name: &str) -> Result<(&'static str, &'static str), SuiteError> {
    let names = SHIPPED.iter().map(|(name, _)| *name);
    SHIPPED.iter().find(|(shipped, _)| *shipped == name).copied().ok_or_else(|| {
        let problem = Problem::UnknownSuite {
            name: name.to_owned(),
            nearest: nearest(name, names.clone()),
            known: listed(names),
        };
        SuiteError::new(&Place::argument("run"), problem)
    })
}
