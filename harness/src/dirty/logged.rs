//! A tracker whose work is entered in the log of what the host did to the guest, so that stalls find their cause.

use migbench_reports::record::Cause;

use super::{DirtyTracker, TrackerError};
use crate::sys::clock;
use crate::vm::events::EventLog;
use crate::vm::page_set::PageSet;

/// Ticks under which re-arming before a read is left out: most calls find nothing to do, and no operation is made a
/// stall by less.
const WORTH_LOGGING: u64 = 2_000;

/// A tracker whose work is entered in a log.
pub struct Logged<'a> {
    /// Who works.
    pub tracker: &'a mut dyn DirtyTracker,
    /// Where it is entered.
    pub log: &'a EventLog,
}

impl Logged<'_> {
    fn enter(
        &mut self,
        cause: Cause,
        work: impl FnOnce(&mut dyn DirtyTracker) -> Result<(), TrackerError>,
    ) -> Result<(), TrackerError> {
        let start = clock::tsc();
        let done = work(self.tracker);
        self.log.enter(cause, start, None);
        done
    }
}

impl DirtyTracker for Logged<'_> {
    fn arm(&mut self) -> Result<(), TrackerError> {
        self.enter(Cause::Arm, |tracker| tracker.arm())
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        self.enter(Cause::Harvest, |tracker| tracker.harvest(dirty))
    }

    fn re_arms_lazily(&self) -> bool {
        self.tracker.re_arms_lazily()
    }

    fn before_read(&mut self, first: u64, count: u64) -> Result<(), TrackerError> {
        let start = clock::tsc();
        let done = self.tracker.before_read(first, count);
        if clock::tsc() - start > WORTH_LOGGING {
            self.log.enter(Cause::Clear, start, None);
        }
        done
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        self.enter(Cause::Disarm, |tracker| tracker.disarm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Busy(std::time::Duration);

    impl DirtyTracker for Busy {
        fn arm(&mut self) -> Result<(), TrackerError> {
            Ok(())
        }
        fn harvest(&mut self, _: &mut PageSet) -> Result<(), TrackerError> {
            Ok(())
        }
        fn re_arms_lazily(&self) -> bool {
            true
        }
        fn before_read(&mut self, _: u64, _: u64) -> Result<(), TrackerError> {
            std::thread::sleep(self.0);
            Ok(())
        }
        fn disarm(&mut self) -> Result<(), TrackerError> {
            Ok(())
        }
    }

    #[test]
    fn what_a_tracker_does_is_entered_by_name() {
        let log = EventLog::default();
        log.make_room(16).unwrap();
        let mut busy = Busy(std::time::Duration::from_millis(1));
        let mut logged = Logged { tracker: &mut busy, log: &log };
        logged.arm().unwrap();
        logged.harvest(&mut PageSet::new(64).unwrap()).unwrap();
        assert!(logged.re_arms_lazily());
        logged.before_read(0, 1).unwrap();
        logged.disarm().unwrap();
        let causes: Vec<_> = log.entries(&[]).iter().map(|e| e.cause).collect();
        assert_eq!(causes, [Cause::Arm, Cause::Harvest, Cause::Clear, Cause::Disarm]);
    }
}
