//! Threads: the signal that takes a vCPU out of `KVM_RUN`, CPU affinity, timer slack, dying with the parent.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

/// The signal that only interrupts.
const KICK: Signal = Signal::SIGUSR1;

extern "C" fn ignore(_: libc::c_int) {}

/// Makes [`Kick::kick`] interrupt system calls and do nothing else, process-wide.
///
/// # Errors
/// When the kernel refuses the handler.
pub fn install_kick_handler() -> io::Result<()> {
    // Without SA_RESTART, so that KVM_RUN returns EINTR.
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is async-signal-safe.
    unsafe { sigaction(KICK, &action) }?;
    Ok(())
}

static TERMINATION: OnceLock<&'static AtomicBool> = OnceLock::new();

extern "C" fn note_termination(_: libc::c_int) {
    if let Some(flag) = TERMINATION.get() {
        flag.store(true, Ordering::Release);
    }
}

/// Has a first SIGINT or SIGTERM set `flag`; a second one has its usual effect.
///
/// # Errors
/// When the kernel refuses the handlers.
pub fn catch_termination(flag: &'static AtomicBool) -> io::Result<()> {
    TERMINATION.get_or_init(|| flag);
    let action =
        SigAction::new(SigHandler::Handler(note_termination), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler reads an initialised OnceLock and stores to an atomic: async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// A thread that can be interrupted. The thread must be joined after the last kick.
#[derive(Debug, Clone, Copy)]
pub struct Kick(Pthread);

impl Kick {
    /// The calling thread.
    #[must_use]
    pub fn current() -> Self {
        Self(pthread_self())
    }

    /// Interrupts its system call. A thread that has ended is left alone.
    pub fn kick(self) {
        let _ = pthread_kill(self.0, KICK);
    }
}

/// Binds the calling thread to `cpus`; an empty list leaves it where it is.
///
/// # Errors
/// When a CPU does not exist here.
pub fn pin(cpus: &[u32]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu as usize)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// Makes the calling thread's timed waits end on time: the default slack is 50 us. Threads that it starts inherit it.
pub fn sharp_timers() {
    // SAFETY: sets a number of the calling thread; no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize, 0_usize, 0_usize, 0_usize) };
}

/// Has the kernel kill this process when its parent dies, so that no guest outlives the runner.
pub fn die_with_parent() {
    // SAFETY: sets a flag of the calling process; no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0_usize, 0_usize, 0_usize) };
}

/// Has the kernel kill the program that `command` starts when the calling thread dies, however that ends: what it measures would go
/// on with nobody to judge it.
pub fn let_die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        die_with_parent();
        // It may have died before that was asked for.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing, so it may run between fork and exec.
    unsafe { command.pre_exec(before_exec) };
}

/// Has the program that `command` starts get no transparent huge pages, though it may ask for them.
pub fn let_have_small_pages(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let before_exec = || {
        // SAFETY: sets a flag of the calling process; no memory is involved.
        match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1_usize, 0_usize, 0_usize, 0_usize) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
    unsafe { command.pre_exec(before_exec) };
}

/// Binds another thread to one CPU.
///
/// # Errors
/// When there is no such thread or CPU.
pub fn pin_other(thread: Pid, cpu: u32) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize)?;
    Ok(sched_setaffinity(thread, &set)?)
}

/// Kernel id of the calling thread.
#[must_use]
pub fn id() -> i32 {
    nix::unistd::gettid().as_raw()
}
