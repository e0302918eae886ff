//! Each vCPU may write so many pages in a time slice. One that has written more sleeps until its quota has paid for them, so that whatever
//! it writes between two looks, a millisecond apart, its rate over time is the quota's. What it saves up is one slice's quota. Pages are
//! counted once between two looks at the tracker, as the dirty ring has them.

use migbench_scenarios::cell::ThrottleSettings;

use super::{Slice, Throttle};

/// Nanoseconds between looks.
const EVERY: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
struct Account {
    /// Pages that it may write now; under zero where it owes some.
    pages: f64,
    written: Option<u32>,
}

/// The throttle.
#[derive(Debug)]
pub struct Quota {
    /// Pages of a slice, and pages per nanosecond.
    quota: f64,
    rate: f64,
    accounts: Vec<Account>,
    last: u64,
}

impl Quota {
    /// Of so many vCPUs.
    pub fn new(settings: &ThrottleSettings, vcpus: usize) -> Self {
        let quota = f64::from(settings.pages);
        let account = Account { pages: quota, written: None };
        Self { quota, rate: quota / (settings.slice.0 * 1e9), accounts: vec![account; vcpus], last: 0 }
    }
}

impl Throttle for Quota {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "nanoseconds of hours at most"
    )]
    fn look(&mut self, now: u64, vcpus: &mut [Slice]) -> u64 {
        let lasted = if self.last == 0 { 0 } else { now - self.last };
        self.last = now;
        for (account, vcpu) in self.accounts.iter_mut().zip(vcpus) {
            let before = account.written.replace(vcpu.written);
            let pages = before.map_or(0, |before| vcpu.written.wrapping_sub(before));
            account.pages = (account.pages + lasted as f64 * self.rate - f64::from(pages)).min(self.quota);
            if account.pages < 0.0 {
                vcpu.nap_until = now + (-account.pages / self.rate).min(1e12) as u64;
            }
        }
        now + EVERY
    }
}
