//! Clocks: the host's monotonic clock in nanoseconds, one and the same for all processes of a host, and its TSC.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How long somebody is waited for, counted in looks. Each look counts for little, however long it took: time in which this
/// process was stopped or had no CPU says nothing about whoever is waited for, and what came meanwhile is found by the next look.
#[derive(Debug, Clone)]
pub struct Patience {
    left: Duration,
    look: Duration,
    looked: Instant,
}

impl Patience {
    /// The longest that one look counts for.
    const LOOK: Duration = Duration::from_secs(1);

    /// Patience for `limit`, of which a look is a small part.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { left: limit, look: Self::look_of(limit), looked: Instant::now() }
    }

    /// How long a look at what is waited for so long may block.
    #[must_use]
    pub fn look_of(limit: Duration) -> Duration {
        Self::LOOK.min(limit / 8).max(Duration::from_millis(1))
    }

    /// How long the next look may block.
    #[must_use]
    pub fn next_look(&self) -> Duration {
        self.look.min(self.left)
    }

    /// Takes note of a look that found nothing, and says whether it was the last.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.looked).min(self.look));
        self.looked = now;
        self.left.is_zero()
    }
}

/// Looks every `pause` until `look` has found what it looks for; `false` when it never did within `limit`, as [`Patience`]
/// counts it.
///
/// # Errors
/// Those of `look`.
pub fn found_within<E>(
    limit: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    /// A look that blocks for nothing is over in no time.
    const LOOK: Duration = Duration::from_millis(10);
    let mut patience = Patience::new(limit);
    patience.look = patience.look.min(LOOK);
    loop {
        if look()? {
            return Ok(true);
        }
        if patience.is_over() {
            return Ok(false);
        }
        std::thread::sleep(pause);
    }
}

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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn time_in_which_nobody_could_look_does_not_count() {
        const LIMIT: Duration = Duration::from_millis(80);
        let stopped = || std::thread::sleep(3 * LIMIT);
        let mut patience = Patience::new(LIMIT);
        stopped();
        assert!(!patience.is_over(), "one look is not all of it");
        assert_eq!((patience.left, patience.next_look()), (LIMIT * 7 / 8, LIMIT / 8));
        let looks = (0..100).take_while(|_| {
            std::thread::sleep(LIMIT / 4);
            !patience.is_over()
        });
        assert_eq!(looks.count(), 6, "it ends all the same");

        let mut looks = 0;
        let found = found_within(LIMIT, Duration::ZERO, || {
            looks += 1;
            // What was waited for came while this process was stopped.
            if looks == 1 {
                stopped()
            }
            Ok::<_, Infallible>(looks == 2)
        });
        assert_eq!(found, Ok(true));
        assert_eq!(found_within(LIMIT, LIMIT / 8, || Ok::<_, Infallible>(false)), Ok(false));
        assert_eq!(found_within(LIMIT, LIMIT, || Err("broken")), Err("broken"));
        assert_eq!(
            found_within(Duration::ZERO, LIMIT, || Ok::<_, Infallible>(true)),
            Ok(true),
            "it looks first"
        );
    }
}
