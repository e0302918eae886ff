//! Clocks: the host's monotonic clock in nanoseconds, one and the same for all processes of a host, and its TSC.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    // The kernel refuses only unknown clocks, and this one is not.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// Seconds from `start` to `end`, both of [`now`]; zero where `end` is earlier.
#[must_use]
pub fn seconds(start: u64, end: u64) -> f64 {
    std::time::Duration::from_nanos(end.saturating_sub(start)).as_secs_f64()
}

/// The host's time-stamp counter.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter; every x86-64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// [`tsc`], read after all loads before it and before all after it.
#[must_use]
pub fn tsc_in_order() -> u64 {
    use core::arch::x86_64::_mm_lfence;
    // SAFETY: fences have no other effect; SSE2 is part of x86-64.
    unsafe { _mm_lfence() };
    let now = tsc();
    // SAFETY: as above.
    unsafe { _mm_lfence() };
    now
}

/// Sleeps until [`now`] is `deadline`. A signal may end it early.
pub fn sleep_until(deadline: u64) {
    let time = nix::sys::time::TimeSpec::new(
        i64::try_from(deadline / 1_000_000_000).unwrap_or(i64::MAX),
        i64::try_from(deadline % 1_000_000_000).unwrap_or(0),
    );
    let _ = nix::time::clock_nanosleep(
        ClockId::CLOCK_MONOTONIC,
        nix::time::ClockNanosleepFlags::TIMER_ABSTIME,
        &time,
    );
}

/// Sleeps until [`now`] is `deadline`, through signals. Gives the nanoseconds that it took; none where that is past.
pub fn wait_until(deadline: u64) -> u64 {
    let start = now();
    let mut here = start;
    while here < deadline {
        sleep_until(deadline);
        here = now();
    }
    here - start
}
