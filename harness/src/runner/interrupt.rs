//! Ctrl-C and SIGTERM as a flag that the runner looks at while it waits.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on a first Ctrl-C or SIGTERM only sets the flag; a second one ends the process.
///
/// # Errors
/// When the kernel refuses the handlers.
pub fn catch() -> std::io::Result<()> {
    crate::sys::thread::catch_termination(&INTERRUPTED)
}

/// Whether one came.
#[must_use]
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Acquire)
}
