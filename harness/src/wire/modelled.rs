//! The modelled wire: when bytes that enter a bounded queue have left a wire of a given rate. It is arithmetic on times
//! that the caller passes in, in nanoseconds of the host's monotonic clock; nothing here reads a clock or sleeps.
//!
//! An idle wire earns nothing: a frame that enters at `entered` starts to leave at `max(entered, next_free)`, and its last
//! byte has left `length / rate` later. The sender stamps a frame with that time and writes it at once; the receiver holds
//! it until then. Ahead of the wire stands a queue, as a socket's buffer and a card's ring are: a sender may go on while no
//! more than `queue` bytes are ahead.

use migbench_workloads::units::{Bytes, Rate};

const NANOSECONDS: u128 = 1_000_000_000;

/// Nanoseconds that `bytes` take at `rate`, rounded up.
#[must_use]
pub fn wire_time(bytes: u64, rate: Rate) -> u64 {
    let time = (u128::from(bytes) * NANOSECONDS).div_ceil(u128::from(rate.0.max(1)));
    u64::try_from(time).unwrap_or(u64::MAX)
}

/// One direction of a wire and the queue before it.
#[derive(Debug, Clone)]
pub struct ModelledWire {
    rate: Rate,
    queue: Bytes,
    /// When everything that has entered has left.
    next_free: u64,
    /// Since when there are pages to send; none between rounds.
    pages_since: Option<u64>,
    /// Time in which it was idle although there were pages.
    idle: u64,
}

impl ModelledWire {
    /// A wire on which nothing was sent yet.
    #[must_use]
    pub const fn new(rate: Rate, queue: Bytes) -> Self {
        Self { rate, queue, next_free: 0, pages_since: None, idle: 0 }
    }

    /// A frame of `bytes` enters at `entered`. Gives when its last byte has left.
    pub fn enter(&mut self, entered: u64, bytes: u64) -> u64 {
        let start = self.next_free.max(entered);
        if let Some(since) = self.pages_since {
            self.idle += start - start.min(self.next_free.max(since));
        }
        self.next_free = start.saturating_add(wire_time(bytes, self.rate));
        self.next_free
    }

    /// When everything that has entered will have left, `now` if that is past.
    #[must_use]
    pub fn empty_at(&self, now: u64) -> u64 {
        self.next_free.max(now)
    }

    /// When no more than the queue is ahead, so that the sender may go on.
    #[must_use]
    pub fn room_at(&self) -> u64 {
        self.next_free.saturating_sub(wire_time(self.queue.0, self.rate))
    }

    /// The rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// From `now` on there are pages to send.
    pub const fn round_starts(&mut self, now: u64) {
        self.pages_since = Some(now);
        self.idle = 0;
    }

    /// Nanoseconds of this round in which nothing left although there were pages.
    #[must_use]
    pub const fn idle(&self) -> u64 {
        self.idle
    }

    /// All pages have entered. Gives what [`Self::idle`] came to.
    pub const fn round_ends(&mut self) -> u64 {
        self.pages_since = None;
        self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A byte takes 8 ns.
    const GIGABIT: Rate = Rate(125_000_000);

    fn wire() -> ModelledWire {
        ModelledWire::new(GIGABIT, Bytes(512 << 10))
    }

    #[test]
    fn an_idle_wire_earns_nothing() {
        let mut wire = wire();
        // 204 KiB after a second of silence take what they take: 1.67 ms.
        assert_eq!(wire.enter(1_000_000_000, 204 << 10), 1_001_671_168);
        // What enters meanwhile follows without a gap.
        assert_eq!(wire.enter(1_000_500_000, 1000), 1_001_679_168);
        assert_eq!(wire.enter(2_000_000_000, 1000), 2_000_008_000);
    }

    #[test]
    fn the_sender_goes_on_while_the_queue_has_room() {
        let mut wire = wire();
        let end = wire.enter(5_000_000_000, 512 << 10);
        assert_eq!(wire.room_at(), 5_000_000_000, "a full queue is room still");
        wire.enter(5_000_000_000, 1 << 20);
        assert_eq!(wire.room_at(), end + 8 * (1 << 20) - 8 * (512 << 10));
        assert_eq!(wire.empty_at(0), end + 8 * (1 << 20));
        assert_eq!(wire.empty_at(end + 8 * (1 << 20) + 5), end + 8 * (1 << 20) + 5);
    }

    #[test]
    fn idle_time_counts_only_while_there_are_pages() {
        let mut wire = wire();
        wire.enter(1_000_000, 1000);
        // Silence before the round is nobody's.
        wire.round_starts(3_000_000);
        wire.enter(3_500_000, 1000);
        wire.enter(3_502_000, 1000);
        // The second left at 3 516 000.
        wire.enter(3_600_000, 1000);
        assert_eq!(wire.round_ends(), 500_000 + 84_000);
        wire.enter(9_000_000, 1000);
        assert_eq!(wire.idle(), 584_000, "silence after the round is nobody's");
        // A wire that is busy at the start of a round is not idle until it is done.
        let end = wire.enter(20_000_000, 100_000);
        wire.round_starts(20_000_100);
        wire.enter(end + 7, 1);
        assert_eq!(wire.round_ends(), 7);
    }

    proptest! {
        #[test]
        fn a_busy_wire_keeps_its_rate_and_an_idle_one_is_never_early(
            frames in prop::collection::vec((0_u64..3_000_000, 1_u64..300_000), 1..200)
        ) {
            let mut wire = wire();
            let (mut now, mut total, mut idle, mut end) = (1_000_000_000, 0, 0, 1_000_000_000);
            wire.round_starts(now);
            for (gap, bytes) in frames {
                now += gap;
                idle += now.saturating_sub(end);
                end = wire.enter(now, bytes);
                total += bytes;
                prop_assert!(end >= now + 8 * bytes);
                prop_assert_eq!(end, 1_000_000_000 + idle + 8 * total);
            }
            prop_assert_eq!(wire.round_ends(), idle);
        }

        #[test]
        fn nothing_overflows(rate in 1_u64.., queue in 0_u64.., bytes in 0_u64.., entered in 0_u64..) {
            let mut wire = ModelledWire::new(Rate(rate), Bytes(queue));
            let end = wire.enter(entered, bytes);
            prop_assert!(end >= entered);
            wire.enter(end, bytes);
            let _ = (wire.room_at(), wire.empty_at(0));
        }
    }
}
