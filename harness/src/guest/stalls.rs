//! The guest's longest operations: reading them from telemetry, and setting the guest's clock against the host's, so that
//! they can be laid beside what the host did.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use serde::{Deserialize, Serialize};

use super::Guest;
use crate::sys::clock;
use crate::sys::memory::Telemetry;
use crate::vm::events::Event;

/// A long operation as the guest keeps it: guest TSC and ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawStall {
    /// Of which vCPU.
    pub vcpu: u32,
    /// Guest TSC at its start.
    pub start: u64,
    /// Ticks that it took.
    pub ticks: u64,
    /// `abi::PHASE_*`.
    pub phase: u32,
    /// Its type.
    pub operation: u32,
}

/// The rings of stalls, all vCPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallRing {
    /// Stalls counted so far, those before the migration too.
    pub counted: u64,
    /// Those that are kept.
    pub kept: Vec<RawStall>,
}

/// A guest's TSC against the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestClock {
    /// Host TSC less guest TSC.
    pub lag: u64,
    /// It may be this many ticks less.
    pub error: u64,
}

/// A vCPU's clock is watched until it is known to as many ticks.
const KNOWN: u64 = 2_000;
/// Longest time for that, in seconds: a guest may have little to do, or wait for a CPU.
const WATCHED_MAX: f64 = 0.5;

/// Empties the rings, so that long operations of the time before hide none of the migration's. Gives how many stalls
/// were counted so far.
pub fn start(telemetry: &Telemetry) -> u64 {
    for n in 0..telemetry.vcpus() {
        // The guest may be about to fill a slot; at worst that one stall is counted and not kept.
        telemetry.vcpu(n).stalls.iter().for_each(|stall| stall.ticks.store(0, Relaxed));
    }
    counted(telemetry)
}

fn counted(telemetry: &Telemetry) -> u64 {
    let vcpus = (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n));
    vcpus.flat_map(|vcpu| &vcpu.stall_count).map(|count| count.load(Acquire)).sum()
}

/// What the rings hold now.
pub fn ring(telemetry: &Telemetry) -> StallRing {
    let mut kept = Vec::new();
    for (index, vcpu) in (0..).zip((0..telemetry.vcpus()).map(|n| telemetry.vcpu(n))) {
        for stall in &vcpu.stalls {
            let (start, ticks) = (stall.start.load(Acquire), stall.ticks.load(Acquire));
            let kind = stall.kind.load(Acquire);
            // A guest that runs may be writing this one.
            let whole = stall.start.load(Acquire) == start && stall.ticks.load(Acquire) == ticks;
            if ticks != 0 && whole {
                let byte = |value: u64| u32::try_from(value & 0xff).unwrap_or(0);
                let (phase, operation) = (byte(kind >> 8), byte(kind));
                kept.push(RawStall { vcpu: index, start, ticks, phase, operation });
            }
        }
    }
    StallRing { counted: counted(telemetry), kept }
}

/// The clock of each vCPU of a running guest that times its operations.
pub fn clocks(guest: &dyn Guest) -> Vec<Option<GuestClock>> {
    let ticks = f64::from(guest.tsc_khz()) * 1000.0 * WATCHED_MAX;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some million ticks")]
    let ticks = ticks as u64;
    let telemetry = guest.telemetry();
    (0..telemetry.vcpus()).map(|n| watch(telemetry, n, guest.tsc_offset(n), ticks)).collect()
}

/// Host TSC less guest TSC lies between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    low: u64,
    high: u64,
}

impl Bounds {
    /// The offset that the hypervisor reports, if the bounds allow it: not on every host it is what the guest reads. Then the error is what
    /// the freshest reading is away from it, and else all that the bounds leave open.
    fn resolve(self, offset: Option<u64>) -> Option<GuestClock> {
        let open = self.high.wrapping_sub(self.low);
        // Clocks of different CPUs that are not in step can have bounds that cross.
        if open.cast_signed() < 0 {
            return None;
        }
        let reported = offset.map(u64::wrapping_neg);
        let fits = reported.filter(|&lag| self.high.wrapping_sub(lag) <= open);
        let lag = fits.unwrap_or(self.high);
        let error = fits.map_or(open, |lag| self.high.wrapping_sub(lag));
        Some(GuestClock { lag, error })
    }
}

/// Watches the time at which a vCPU ended its last operation. It is in the past when it is seen, which gives the upper
/// bound. The lower one: what the guest reads after it has stored a time is later than the last look at which that
/// time was not there yet.
fn watch(telemetry: &Telemetry, vcpu: usize, offset: Option<u64>, ticks: u64) -> Option<GuestClock> {
    let last_end = &telemetry.vcpu(vcpu).last_end;
    let mut looks = Looks::new(last_end.load(Acquire));
    let begun = clock::tsc_in_order();
    let mut before = begun;
    let resolved = |looks: &Looks| looks.bounds().and_then(|bounds| bounds.resolve(offset));
    while before - begun < ticks && resolved(&looks).is_none_or(|clock| clock.error > KNOWN) {
        let value = last_end.load(Acquire);
        let after = clock::tsc_in_order();
        looks.look(before, value, after);
        before = after;
    }
    resolved(&looks)
}

struct Looks {
    seen: u64,
    /// When it was last looked while the time before `seen` stood there.
    unseen_until: Option<u64>,
    /// When the look before this one began.
    looked: Option<u64>,
    low: Option<u64>,
    high: Option<u64>,
}

impl Looks {
    const fn new(seen: u64) -> Self {
        Self { seen, unseen_until: None, looked: None, low: None, high: None }
    }

    /// The guest's `value` was read between the host's `before` and `after`.
    fn look(&mut self, before: u64, value: u64, after: u64) {
        let later = |a: u64, b: u64| if a.wrapping_sub(b).cast_signed() > 0 { a } else { b };
        let earlier = |a: u64, b: u64| if a.wrapping_sub(b).cast_signed() < 0 { a } else { b };
        if value != self.seen {
            let high = after.wrapping_sub(value);
            self.high = Some(self.high.map_or(high, |h| earlier(h, high)));
            if let Some(until) = self.unseen_until {
                let low = until.wrapping_sub(value);
                self.low = Some(self.low.map_or(low, |l| later(l, low)));
            }
            self.unseen_until = self.looked;
            self.seen = value;
        }
        self.looked = Some(before);
    }

    fn bounds(&self) -> Option<Bounds> {
        Some(Bounds { low: self.low?, high: self.high? })
    }
}

/// The events that overlap any of these stalls, as far as the clocks can tell.
pub fn of_interest(mut events: Vec<Event>, stalls: &[RawStall], clocks: &[Option<GuestClock>]) -> Vec<Event> {
    let mut spans: Vec<(u64, u64)> = stalls
        .iter()
        .filter_map(|stall| {
            let clock = clocks.get(stall.vcpu as usize).copied().flatten()?;
            let start = stall.start.wrapping_add(clock.lag);
            Some((start.saturating_sub(clock.error), start.saturating_add(stall.ticks)))
        })
        .collect();
    spans.sort_unstable();
    spans.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1;
        kept.1 = if joined { kept.1.max(next.1) } else { kept.1 };
        joined
    });
    events.retain(|event| {
        let at = spans.partition_point(|span| span.1 <= event.start);
        spans.get(at).is_some_and(|span| span.0 < event.end)
    });
    events.sort_unstable_by_key(|event| event.start);
    events
}

#[cfg(test)]
mod tests {
    use migbench_reports::record::Cause;

    use super::*;

    #[test]
    fn a_clock_lies_between_what_was_seen() {
        // The guest is 1000 ticks behind and stores 20 ticks after it has read its clock; the host looks every 10.
        let mut looks = Looks::new(0);
        let ends = [2000_u64, 2100, 2205];
        for before in (3000..3300).step_by(10) {
            let value = ends.iter().rev().copied().find(|end| end + 1000 + 20 <= before).unwrap_or(0);
            looks.look(before, value, before + 10);
        }
        let Bounds { low, high } = looks.bounds().unwrap();
        assert!(low <= 1000 && (1020..1040).contains(&high), "{low} {high}");
        let clock = |offset: u64| Bounds { low, high }.resolve(Some(offset)).unwrap();
        assert_eq!(clock(1000_u64.wrapping_neg()), GuestClock { lag: 1000, error: high - 1000 });
        // What KVM says and the guest does not read.
        let measured = GuestClock { lag: high, error: high - low };
        assert_eq!(clock(5_000_000_u64.wrapping_neg()), measured);
        assert_eq!(clock((high + 1).wrapping_neg()), measured);
        assert_eq!(Bounds { low: 5, high: 4 }.resolve(None), None, "clocks that are not in step");
        assert_eq!(Looks::new(7).bounds(), None, "a guest that does nothing");
    }

    #[test]
    fn a_guest_ahead_of_the_host_is_no_less_exact() {
        let bounds = Bounds { low: 0_u64.wrapping_sub(500), high: 0_u64.wrapping_sub(400) };
        let clock = bounds.resolve(Some(450)).unwrap();
        assert_eq!(clock, GuestClock { lag: 450_u64.wrapping_neg(), error: 50 });
    }

    #[test]
    fn events_beside_all_stalls_are_left_out() {
        let clocks = [Some(GuestClock { lag: 1000, error: 5 }), None];
        let stall = |vcpu, start, ticks| RawStall { vcpu, start, ticks, phase: 1, operation: 0 };
        let event = |start, end| Event { start, end, cause: Cause::Harvest, vcpu: None };
        let stalls = [stall(0, 200, 50), stall(0, 100, 120), stall(1, 700, 50)];
        let events = [(1000, 1095), (1090, 1096), (1249, 1300), (1250, 1300), (1700, 1750)];
        let kept = of_interest(events.map(|(a, b)| event(a, b)).to_vec(), &stalls, &clocks);
        assert_eq!(kept, [event(1090, 1096), event(1249, 1300)]);
    }
}
