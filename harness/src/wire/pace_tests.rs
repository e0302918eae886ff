//! The bucket on a synthetic clock: never more than the rate and two quanta in any window, never less than
//! the rate when wake-ups are late by less than a quantum.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_millis(10);

/// Sends frames through a bucket; each sleep ends late by the next of `delays`, each slice takes `socket`.
/// Returns the bytes with the times at which they were granted.
fn send(
    bucket: &mut Bucket,
    frames: &[(usize, Duration)],
    delays: &[Duration],
    socket: Duration,
) -> Vec<(Duration, usize)> {
    let (mut now, mut slices) = (Duration::ZERO, Vec::new());
    let mut delays = delays.iter().cycle();
    for &(length, gap) in frames {
        now += gap;
        bucket.start_frame();
        let mut left = length;
        while left > 0 {
            match bucket.take(now, left) {
                Grant::Send(bytes) => {
                    assert!(bytes > 0 && bytes <= left);
                    slices.push((now, bytes));
                    left -= bytes;
                    now += socket;
                }
                Grant::WaitUntil(deadline) => {
                    assert!(deadline > now, "a wait of no time");
                    now = deadline + *delays.next().unwrap();
                }
            }
        }
    }
    slices
}

fn bytes_in(slices: &[(Duration, usize)], from: Duration, window: Duration) -> usize {
    slices.iter().filter(|(at, _)| (from..from + window).contains(at)).map(|(_, bytes)| bytes).sum()
}

fn micros(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_micros)
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_rate_and_the_room(
        rate in 1_000_000..10_000_000_000u64,
        frames in vec((1..400_000usize, micros(0..3000)), 1..60),
        delays in vec(micros(0..4000), 1..10),
    ) {
        let mut bucket = Bucket::new(Rate(rate), Duration::ZERO);
        let slices = send(&mut bucket, &frames, &delays, Duration::from_micros(20));
        let most = rate / 100 + 2 * rate / 1000 + 1;
        for &(from, _) in &slices {
            prop_assert!(bytes_in(&slices, from, WINDOW) as u64 <= most);
        }
    }

    #[test]
    fn a_backlog_is_sent_at_the_rate_in_every_window(
        rate in 1_000_000..1_000_000_000u64,
        delays in vec(micros(0..900), 1..10),
    ) {
        let mut bucket = Bucket::new(Rate(rate), Duration::ZERO);
        let frames = vec![(256 * 1024, Duration::from_micros(30)); 20 + (rate / 4_000_000) as usize];
        let slices = send(&mut bucket, &frames, &delays, Duration::from_micros(40));
        let end = slices.last().unwrap().0;
        for &(from, _) in slices.iter().take_while(|(at, _)| *at + WINDOW <= end) {
            let bytes = bytes_in(&slices, from, WINDOW) as u64;
            // What is granted at both edges of a window makes it 10 quanta, give or take the room.
            prop_assert!(bytes >= rate / 100 - 2 * rate / 1000 - 1, "{bytes} of {}", rate / 100);
        }
        let total: usize = slices.iter().map(|(_, bytes)| bytes).sum();
        let share = total as f64 / (rate as f64 * end.as_secs_f64());
        prop_assert!((0.95..=1.0 + 1e-6).contains(&share), "{share} of the rate");
        prop_assert_eq!(bucket.rate_achieved(), Some(1.0));
    }
}

#[test]
fn late_wake_ups_are_admitted() {
    let mut bucket = Bucket::new(Rate(125_000_000), Duration::ZERO);
    let slices =
        send(&mut bucket, &[(12_500_000, Duration::ZERO)], &[Duration::from_millis(3)], Duration::ZERO);
    // Four milliseconds a slice, of which the bucket keeps two.
    let share = bucket.rate_achieved().unwrap();
    assert!((share - 0.5).abs() < 0.05, "{share}");
    assert!(slices.last().unwrap().0 > Duration::from_millis(180));
}

#[test]
fn a_bucket_that_is_never_the_limit_says_so() {
    let mut bucket = Bucket::new(Rate(1_000_000_000), Duration::ZERO);
    send(&mut bucket, &[(1000, Duration::from_millis(5)); 100], &[Duration::ZERO], Duration::ZERO);
    assert_eq!(bucket.rate_achieved(), None);
}

#[test]
fn rates_of_a_few_bytes_per_second_still_send() {
    let mut bucket = Bucket::new(Rate(3), Duration::ZERO);
    let slices = send(&mut bucket, &[(7, Duration::ZERO)], &[Duration::ZERO], Duration::ZERO);
    assert_eq!(slices.iter().map(|(_, bytes)| bytes).sum::<usize>(), 7);
}

#[test]
fn the_clock_is_real() {
    let start = monotonic();
    let mut pace = Pace::new(Some(Rate(1_000_000)));
    pace.start_frame();
    let mut left = 5000;
    while left > 0 {
        left -= pace.wait(left);
    }
    // An empty bucket earns 5,000 bytes in 5 ms, and no sooner.
    assert!(monotonic() - start >= Duration::from_millis(5));
    assert!(pace.waited() > Duration::ZERO);
}
