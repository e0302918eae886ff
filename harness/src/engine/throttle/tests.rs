use super::*;
use migbench_scenarios::cell::ThrottleSettings;
use migbench_workloads::units::{Rate, Seconds};

fn of(word: Word, change: impl FnOnce(&mut ThrottleSettings)) -> Box<dyn Throttle> {
    let mut cell = Cell::default_for(Engine::Full, "idle").unwrap();
    cell.throttle = word;
    change(cell.throttle_settings.get_or_insert_default());
    throttle(&cell, 2).unwrap()
}

/// Two vCPUs that write so many pages a second while they are awake, for so many seconds of the model's clock, in steps of 10 us. Gives pages
/// per second and the share of the time asleep of each, in the second half.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds and pages of a test")]
fn model(throttle: &mut dyn Throttle, rates: [f64; 2], seconds: f64) -> [(f64, f64); 2] {
    const STEP: u64 = 10_000;
    let end = (seconds * 1e9) as u64;
    let (mut vcpus, mut written, mut naps) = ([Slice::default(); 2], [0.0; 2], [0_u64; 2]);
    let (mut next, mut half, mut slept) = (0, [0.0; 2], [0_u64; 2]);
    for now in (1..end).step_by(STEP as usize) {
        if now >= next {
            // A count that wraps.
            for (vcpu, pages) in vcpus.iter_mut().zip(written) {
                *vcpu = Slice { written: (u32::MAX - 1000).wrapping_add(pages as u32), nap_until: 0 };
            }
            next = throttle.look(now, &mut vcpus);
            assert!(next > now);
            for (nap, vcpu) in naps.iter_mut().zip(vcpus) {
                *nap = (*nap).max(vcpu.nap_until);
            }
        }
        if now < end / 2 {
            half = written;
        }
        for n in 0..2 {
            if now >= naps[n] {
                written[n] += rates[n] * STEP as f64 / 1e9;
            } else if now >= end / 2 {
                slept[n] += STEP;
            }
        }
    }
    [0, 1].map(|n| (2.0 * (written[n] - half[n]) / seconds, 2.0 * slept[n] as f64 / 1e9 / seconds))
}

#[test]
fn limits_of_a_dirty_rate_are_reached_within_a_twentieth() {
    // 2,000 pages a second each.
    let limited = of(Word::DirtyLimit, |settings| settings.dirty_rate = Rate(2_000 * 4096));
    let quota = of(Word::Quota, |settings| (settings.pages, settings.slice) = (20, Seconds(0.01)));
    for mut throttle in [limited, quota] {
        let [(much, asleep), (little, awake)] = model(throttle.as_mut(), [40_000.0, 500.0], 4.0);
        assert!((1_900.0..2_100.0).contains(&much), "{throttle:?}: {much}");
        assert!((0.94..0.96).contains(&asleep), "{throttle:?}: {asleep}");
        // What writes less than it may is left alone.
        assert!((little - 500.0).abs() < 5.0 && awake == 0.0, "{throttle:?}: {little}, {awake}");
    }
}

#[test]
fn auto_converge_begins_after_two_rounds_and_grows_to_its_maximum() {
    let mut throttle = of(Word::AutoConverge, |settings| settings.maximum = 0.9);
    let asleep = |throttle: &mut Box<dyn Throttle>| model(throttle.as_mut(), [100.0, 100.0], 1.0)[0].1;
    assert_eq!(asleep(&mut throttle), 0.0);
    throttle.round(1000, 501);
    throttle.round(1000, 500);
    assert_eq!(asleep(&mut throttle), 0.0, "one round of too much");
    throttle.round(1000, 501);
    let close =
        |found: f64, expected: f64| assert!((found - expected).abs() < 0.03, "{found}, not {expected}");
    close(asleep(&mut throttle), 0.2);
    for _ in 0..2 {
        throttle.round(1000, 900);
    }
    close(asleep(&mut throttle), 0.3);
    for _ in 0..50 {
        throttle.round(1000, 900);
    }
    close(asleep(&mut throttle), 0.9);
}

#[test]
fn extremes_of_settings_do_not_overflow() {
    for word in [Word::AutoConverge, Word::DirtyLimit, Word::Quota] {
        for (rate, pages, slice) in [(1, 1, 1.0), (u64::MAX, u32::MAX, 0.001)] {
            let mut throttle = of(word, |settings| {
                (settings.dirty_rate, settings.pages, settings.slice) = (Rate(rate), pages, Seconds(slice));
                (settings.initial, settings.maximum, settings.trigger) = (0.99, 0.99, 0.0);
            });
            let mut vcpus = [Slice { written: 5, nap_until: 0 }, Slice::default()];
            for now in [1, 2, 1 << 40, 1 << 60] {
                throttle.round(u64::MAX, u64::MAX);
                let next = throttle.look(now, &mut vcpus);
                assert!(next > now);
                vcpus[0].written = vcpus[0].written.wrapping_add(u32::MAX / 2);
            }
        }
    }
    assert!(throttle(&Cell::default_for(Engine::Full, "idle").unwrap(), 1).is_none());
}
