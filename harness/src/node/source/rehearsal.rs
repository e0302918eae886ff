//! The pause of a migration without one, before anybody watches the guest: what it takes beside sending pages.

use std::time::Duration;

use migbench_reports::stats::median;

use super::SIGN_OF_LIFE;
use crate::engine::stop::Overhead;
use crate::guest::Guest;
use crate::node::NodeError;
use crate::sys::clock;
use crate::vm::Vm;
use crate::vm::vcpu::Vcpu;

/// Pauses, of which the middle one counts.
const TIMES: usize = 5;

/// Pauses the guest, saves every state and lets it go on, a few times; the round trip is left to who has a link.
///
/// # Errors
/// When the guest does not pause or go on.
pub fn rehearse(vm: &Vm) -> Result<Overhead, NodeError> {
    let (mut pauses, mut resumes, mut state) = ([0.0; TIMES], [0.0; TIMES], 0_usize);
    for (pause, resume) in pauses.iter_mut().zip(&mut resumes) {
        let ordered = clock::now();
        let paused = Guest::pause(vm);
        let stopped = clock::now();
        let lengths = |vcpu: &Vcpu| vcpu.with_state(|state| state.as_bytes().map(<[u8]>::len));
        state = vm.vcpus().iter().flat_map(lengths).sum();
        let let_go = clock::now();
        Guest::resume(vm);
        paused?;
        let goes_on = clock::found_within(SIGN_OF_LIFE, Duration::from_micros(10), || {
            vm.check().map(|()| vm.vcpus().iter().all(|vcpu| vcpu.entered().is_some()))
        })?;
        if !goes_on {
            return Err(NodeError::Content("the guest did not go on after a rehearsed pause".to_owned()));
        }
        let entered = vm.vcpus().iter().filter_map(|vcpu| vcpu.entered()).max().unwrap_or(let_go);
        (*pause, *resume) = (clock::seconds(ordered, stopped), clock::seconds(let_go, entered));
    }
    let middle = |times: &[f64]| median(times).unwrap_or(0.0);
    Ok(Overhead { pause: middle(&pauses), resume: middle(&resumes), round_trip: 0.0, state: state as u64 })
}
