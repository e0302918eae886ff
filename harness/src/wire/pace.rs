//! The rate limit of a link: a token bucket in the sender. A write of any size enters, and leaves as slices
//! that the bucket has tokens for, so that the bytes on the wire match the rate over any 10 ms and not only
//! on average. [`Bucket`] is the arithmetic, on a clock that the caller passes in; [`Pace`] adds the real
//! clock and the sleep.

use std::time::Duration;

use migbench_workloads::units::Rate;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// The bucket hands out tokens in slices of this much time at the link's rate: long enough that the sleeps
/// between them cost little, short against the 10 ms over which the rate must be right.
const QUANTUM: Duration = Duration::from_millis(1);

/// Room of the bucket. With one quantum of room, every wake-up that is late loses tokens, and the bucket
/// delivered 91 % of the rate; with two, a delay of up to a quantum is made up for.
const ROOM: u32 = 2;

/// Tokens are counted in bytes times this, so that no time is too short to earn some.
const PER_BYTE: u128 = 1_000_000_000;

/// A bucket's answer to "may I send?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Send so many bytes now.
    Send(usize),
    /// Ask again at this time.
    WaitUntil(Duration),
}

/// A token bucket without a clock. Times count from any fixed moment and never go back.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: u128,
    quantum: u128,
    room: u128,
    level: u128,
    updated: Duration,
    /// Whether the frame being sent has had to wait: from then on only the link should hold it up.
    limited: bool,
    /// Tokens earned, and lost for lack of room, since bytes were last granted.
    earned: u128,
    lost: u128,
    /// The same, summed over the time in which the bucket was the limit.
    limited_earned: u128,
    limited_lost: u128,
}

impl Bucket {
    /// An empty bucket for `rate`, at `now`.
    #[must_use]
    pub fn new(rate: Rate, now: Duration) -> Self {
        let rate = u128::from(rate.0.max(1));
        let quantum = (rate * QUANTUM.as_nanos()).max(PER_BYTE);
        Self {
            rate,
            quantum,
            room: quantum * u128::from(ROOM),
            level: 0,
            updated: now,
            limited: false,
            earned: 0,
            lost: 0,
            limited_earned: 0,
            limited_lost: 0,
        }
    }

    /// To be called before the first slice of each frame.
    pub const fn start_frame(&mut self) {
        self.limited = false;
    }

    /// Asks to send `wanted` bytes at `now`. Grants all of them, or as many as there are tokens if that is at
    /// least a quantum.
    pub fn take(&mut self, now: Duration, wanted: usize) -> Grant {
        let elapsed = now.saturating_sub(self.updated);
        self.updated = self.updated.max(now);
        let earned = self.rate * elapsed.as_nanos();
        let level = self.level + earned;
        self.level = level.min(self.room);
        self.earned += earned;
        self.lost += level - self.level;

        let wanted_tokens = wanted as u128 * PER_BYTE;
        let least = wanted_tokens.min(self.quantum);
        if self.level < least {
            self.limited = true;
            let nanos = (least - self.level).div_ceil(self.rate);
            return Grant::WaitUntil(
                self.updated + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            );
        }
        if self.limited {
            self.limited_earned += self.earned;
            self.limited_lost += self.lost;
        }
        (self.earned, self.lost) = (0, 0);
        let bytes = (self.level / PER_BYTE).min(wanted as u128);
        self.level -= bytes * PER_BYTE;
        // At most `wanted`, which is a usize.
        Grant::Send(usize::try_from(bytes).unwrap_or(wanted))
    }

    /// What the link delivered of its rate while it was the limit: over each frame that had to wait, from the
    /// first wait on, one less the share of tokens that were lost because nobody took them in time. None if
    /// no frame had to wait.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio, for which 53 bits are plenty")]
    pub fn rate_achieved(&self) -> Option<f64> {
        (self.limited_earned > 0).then(|| 1.0 - self.limited_lost as f64 / self.limited_earned as f64)
    }
}

/// The pace of a sender: a bucket on the monotonic clock, or no limit.
#[derive(Debug, Clone)]
pub struct Pace {
    bucket: Option<Bucket>,
    waited: Duration,
}

impl Pace {
    /// A pace of `rate`, or without a limit.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        Self { bucket: rate.map(|rate| Bucket::new(rate, monotonic())), waited: Duration::ZERO }
    }

    /// To be called before the first slice of each frame.
    pub(super) fn start_frame(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.start_frame();
        }
    }

    /// Sleeps until some of `wanted` bytes may be sent, and says how many.
    pub(super) fn wait(&mut self, wanted: usize) -> usize {
        let Some(bucket) = &mut self.bucket else { return wanted };
        let start = monotonic();
        let mut now = start;
        loop {
            match bucket.take(now, wanted) {
                Grant::Send(bytes) => {
                    self.waited += now.saturating_sub(start);
                    return bytes;
                }
                Grant::WaitUntil(deadline) => {
                    // A signal ends the sleep early; the next round then sleeps for the rest.
                    let deadline = TimeSpec::from_duration(deadline);
                    let _ = clock_nanosleep(
                        ClockId::CLOCK_MONOTONIC,
                        ClockNanosleepFlags::TIMER_ABSTIME,
                        &deadline,
                    );
                    now = monotonic();
                }
            }
        }
    }

    /// Time spent waiting for tokens.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// See [`Bucket::rate_achieved`]; none without a limit.
    #[must_use]
    pub fn rate_achieved(&self) -> Option<f64> {
        self.bucket.as_ref().and_then(Bucket::rate_achieved)
    }
}

fn monotonic() -> Duration {
    // The call cannot fail for this clock; were it to, a constant clock would grant nothing more.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
