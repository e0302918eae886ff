//! Planted faults, for tests only: what is to go wrong, on which side, and when. A run with one carries the flag
//! `fault_injected` in its record.

use std::fmt;
use std::process::{Command, Stdio};
use std::str::FromStr;

use migbench_workloads::units::PAGE_SIZE;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};

use super::protocol::Role;
use crate::wire::sabotage::{Saboteur, Tampering};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The process is killed.
    Kill,
    /// The link is closed.
    Close,
    /// A frame with a wrong checksum is sent.
    Corrupt,
    /// A bit of the destination's memory is flipped: at `precopy` as by a decoder that errs, which hashes what it
    /// decoded wrongly; at `switchover` behind its back.
    Flip,
    /// At the destination's `switchover`: the guest's clock is set back by a second.
    Clock,
    /// From here on the process gets no more memory, or next to none.
    Starve,
    /// The process is stopped, as by Ctrl-Z, for longer than any peer waits.
    Freeze,
    /// It is stopped for two seconds.
    Stop,
    /// Something happens to a frame that this side sends.
    Frame(Tampering),
}

/// When. Both sides pass these points in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultPoint {
    /// Connected, nothing sent.
    Connect,
    /// After the first round.
    Precopy,
    /// The guest is paused, its last pages are sent.
    Switchover,
    /// State is exchanged, commit is not sent.
    BeforeCommit,
    /// Commit is sent or received; the guest does not run yet as far as this side knows.
    AfterCommit,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFault {
    /// Where.
    pub side: Role,
    /// What.
    pub action: Action,
    /// When.
    pub point: FaultPoint,
    /// Chooses among what else there is to choose from, see [`Saboteur::tamper`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub draw: u32,
}

/// serde hands fields over by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(draw: &u32) -> bool {
    *draw == 0
}

const SIDES: [(&str, Role); 2] = [("source", Role::Source), ("destination", Role::Destination)];
const ACTIONS: [(&str, Action); 12] = [
    ("kill", Action::Kill),
    ("close", Action::Close),
    ("corrupt", Action::Corrupt),
    ("flip", Action::Flip),
    ("clock", Action::Clock),
    ("starve", Action::Starve),
    ("freeze", Action::Freeze),
    ("stop", Action::Stop),
    ("frame-flip", Action::Frame(Tampering::Flip)),
    ("frame-swap", Action::Frame(Tampering::Swap)),
    ("frame-repeat", Action::Frame(Tampering::Repeat)),
    ("frame-lose", Action::Frame(Tampering::Lose)),
];
const POINTS: [(&str, FaultPoint); 5] = [
    ("connect", FaultPoint::Connect),
    ("precopy", FaultPoint::Precopy),
    ("switchover", FaultPoint::Switchover),
    ("before-commit", FaultPoint::BeforeCommit),
    ("after-commit", FaultPoint::AfterCommit),
];

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

fn name<T: Copy + PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, v)| *v == value).map_or("?", |(name, _)| name)
}

impl FromStr for InjectedFault {
    type Err = String;

    /// `side:action@point`, such as `destination:kill@before-commit`, and `+draw` behind it.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(side, rest)| {
            let (action, point) = rest.split_once('@')?;
            let (point, draw) = point.split_once('+').unwrap_or((point, "0"));
            Some(Self {
                draw: draw.parse().ok()?,
                side: find(&SIDES, side)?,
                action: find(&ACTIONS, action)?,
                point: find(&POINTS, point)?,
            })
        });
        parsed.ok_or_else(|| format!("`{text}` is no fault; write it like destination:kill@before-commit"))
    }
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, action) = (name(&SIDES, self.side), name(&ACTIONS, self.action));
        write!(f, "{side}:{action}@{}", name(&POINTS, self.point))?;
        if self.draw == 0 { Ok(()) } else { write!(f, "+{}", self.draw) }
    }
}

impl InjectedFault {
    /// Does what is due on `side` at `point`, and says what it was; what is done to the guest is left to the caller.
    pub fn strike(fault: Option<Self>, side: Role, point: FaultPoint, link: &Saboteur) -> Option<Action> {
        let Self { action, draw, .. } = fault.filter(|f| f.side == side && f.point == point)?;
        match action {
            Action::Kill => {
                let _ = raise(Signal::SIGKILL);
            }
            Action::Close => link.close(),
            Action::Corrupt => link.corrupt(),
            Action::Starve => starve(),
            Action::Freeze => freeze(35),
            Action::Stop => freeze(2),
            // A fault that is not there must not pass for one that did no harm.
            Action::Frame(tampering) => {
                link.tamper(tampering, draw).unwrap_or_else(|error| panic!("{action:?}: {error}"))
            }
            Action::Flip | Action::Clock => {}
        }
        Some(action)
    }
}

/// Refuses this process all memory but what it has, and a little for words.
fn starve() {
    const LITTLE: u64 = 1536 << 10;
    let pages =
        procfs::process::Process::myself().and_then(|own| own.statm()).map_or(0, |memory| memory.size);
    let _ = setrlimit(Resource::RLIMIT_AS, pages * PAGE_SIZE + LITTLE, RLIM_INFINITY);
}

/// Stops this process, and has another one wake it after so many seconds.
fn freeze(seconds: u32) {
    let wake = format!("sleep {seconds}; kill -CONT {}", std::process::id());
    let mut waker = Command::new("sh");
    waker.args(["-c", &wake]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if waker.spawn().is_ok() {
        let _ = raise(Signal::SIGSTOP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        for text in [
            "source:kill@after-commit",
            "destination:flip@switchover",
            "source:close@precopy",
            "destination:frame-swap@connect+7",
        ] {
            assert_eq!(text.parse::<InjectedFault>().unwrap().to_string(), text);
        }
        assert!("source:kill".parse::<InjectedFault>().is_err());
        assert!("moon:kill@connect".parse::<InjectedFault>().is_err());
    }
}
