//! vCPU threads: each runs one vCPU until it is asked to pause, saves its state, and waits.
//!
//! A thread is paused from outside within one exit: the flag `immediate_exit` closes the window between the check
//! and `KVM_RUN`, the signal takes the thread out of it. Since KVM completes a pending I/O exit before it honours
//! the flag, the state that is saved is always consistent.
//!
//! A guest that has nothing to do may say so ([`abi::REST_PORT`]); the thread then sleeps, outside of `KVM_RUN`, until the
//! time is over or an order comes. It parks, so that an order given right before it lies down still wakes it. A throttle has
//! it sleep in the same way ([`Napper`]), with all state left in the vCPU.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::KVM_EXIT_DIRTY_RING_FULL;
use kvm_ioctls::{VcpuExit, VcpuFd};
use migbench_reports::record::Cause;
use migbench_workloads::abi;

use super::events::EventLog;
use super::rings::Rings;
use super::state::{StateError, VcpuState};
use crate::sys::clock::{self, Patience};
use crate::sys::kvm::ImmediateExit;
use crate::sys::machine::Machine;
use crate::sys::memory::Telemetry;
use crate::sys::thread::{self, Kick};

/// What a thread is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VcpuOrder {
    Pause,
    Run,
    Quit,
}

/// Why a vCPU will never run again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VcpuError {
    /// The guest said so itself.
    #[error("the guest reports on vCPU {vcpu}: {text}")]
    Guest {
        /// Which.
        vcpu: usize,
        /// The doorbell's line.
        text: String,
    },
    /// KVM gave up.
    #[error("vCPU {vcpu} stopped at instruction {rip:#x}: {reason}")]
    Kvm {
        /// Which.
        vcpu: usize,
        /// Where.
        rip: u64,
        /// The exit.
        reason: String,
    },
    /// Its state could not be saved or restored.
    #[error("vCPU {vcpu}: {text}")]
    State {
        /// Which.
        vcpu: usize,
        /// The error.
        text: String,
    },
    /// It did not answer.
    #[error("vCPU {vcpu} did not pause within {seconds} s")]
    Stuck {
        /// Which.
        vcpu: usize,
        /// How long was waited.
        seconds: u64,
    },
}

#[derive(Debug)]
struct Inner {
    order: VcpuOrder,
    /// Whether the thread is out of `KVM_RUN` and `state` is what the vCPU holds.
    paused: bool,
    /// The vCPU, while it is paused.
    fd: Option<VcpuFd>,
    error: Option<VcpuError>,
    state: VcpuState,
    kick: Option<Kick>,
    line: String,
}

#[derive(Debug)]
struct VcpuShared {
    vcpu: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
    immediate_exit: ImmediateExit,
    /// [`clock::now`] right before the first `KVM_RUN` after a resume.
    entered: AtomicU64,
    thread: AtomicI32,
    /// Its thread, to be woken.
    handle: OnceLock<std::thread::Thread>,
    /// Until when, by [`clock::now`], it stays out of the guest; and the nanoseconds that it did so.
    nap_until: AtomicU64,
    slept: AtomicU64,
    /// Where naps are entered.
    events: Arc<EventLog>,
    /// Where it makes room when its dirty ring is full.
    rings: Option<Arc<Rings>>,
    /// Where the guest says for how long it has nothing to do.
    telemetry: Arc<Telemetry>,
    tsc_khz: u32,
}

impl VcpuShared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of a vCPU thread leaves plain data behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its thread's rest, also one that is about to begin.
    fn wake(&self) {
        if let Some(thread) = self.handle.get() {
            thread.unpark();
        }
    }
}

/// Keeps a running vCPU out of the guest for a while. It saves no state and is as ready to pause as ever.
#[derive(Debug, Clone)]
pub struct Napper(Arc<VcpuShared>);

impl Napper {
    /// Has the vCPU leave the guest, and not enter it again until then, by [`clock::now`]. One that is paused is left alone.
    pub fn nap(&self, until: u64) {
        let inner = self.0.lock();
        if inner.order != VcpuOrder::Run {
            return;
        }
        // One that naps looks at this again before it goes on.
        if self.0.nap_until.swap(until, Ordering::AcqRel) > clock::now() {
            return;
        }
        self.0.immediate_exit.set(true);
        let kick = inner.kick;
        // The thread takes the lock at once; it must not find it taken.
        drop(inner);
        if let Some(kick) = kick {
            kick.kick();
        }
    }

    /// Ends its nap.
    pub fn wake(&self) {
        self.0.nap_until.store(0, Ordering::Release);
        self.0.wake();
    }

    /// Nanoseconds that it has slept since it was made.
    #[must_use]
    pub fn slept(&self) -> u64 {
        self.0.slept.load(Ordering::Acquire)
    }
}

/// One vCPU and its thread.
#[derive(Debug)]
pub struct Vcpu {
    shared: Arc<VcpuShared>,
    thread: Option<JoinHandle<()>>,
}

/// Longest wait for a vCPU to leave `KVM_RUN`.
const PATIENCE: Duration = Duration::from_secs(5);

impl Vcpu {
    /// Starts the thread of `fd`, which waits paused. `rings` is there when its machine logs to dirty rings.
    ///
    /// # Errors
    /// As `mmap` and thread creation, and when KVM does not report the TSC's frequency.
    pub fn start(
        machine: &Arc<Machine>,
        index: usize,
        fd: VcpuFd,
        state: VcpuState,
        cpu: Option<u32>,
        events: &Arc<EventLog>,
        rings: Option<Arc<Rings>>,
    ) -> std::io::Result<Self> {
        let immediate_exit = ImmediateExit::new(machine.kvm(), &fd)?;
        let tsc_khz = fd.get_tsc_khz().map_err(std::io::Error::from)?;
        let inner = Inner {
            order: VcpuOrder::Pause,
            paused: true,
            fd: Some(fd),
            error: None,
            state,
            kick: None,
            line: String::with_capacity(256),
        };
        let shared = Arc::new(VcpuShared {
            vcpu: index,
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            immediate_exit,
            entered: AtomicU64::new(0),
            thread: AtomicI32::new(0),
            handle: OnceLock::new(),
            nap_until: AtomicU64::new(0),
            slept: AtomicU64::new(0),
            events: Arc::clone(events),
            rings,
            telemetry: Arc::clone(machine.telemetry()),
            tsc_khz,
        });
        let (of_thread, machine) = (Arc::clone(&shared), Arc::clone(machine));
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("vcpu{index}")).spawn(move || {
            of_thread.lock().kick = Some(Kick::current());
            let _ = of_thread.handle.set(std::thread::current());
            of_thread.thread.store(thread::id(), Ordering::Release);
            let pinned = cpu.map_or(Ok(()), |cpu| thread::pin(&[cpu]));
            let fine = pinned.is_ok();
            let _ = ready.send(pinned);
            if fine {
                run_thread(&of_thread);
            }
            drop(machine);
        })?;
        started.recv().map_err(std::io::Error::other)??;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets it run.
    pub fn resume(&self) {
        let mut inner = self.shared.lock();
        if inner.error.is_none() {
            inner.order = VcpuOrder::Run;
            inner.paused = false;
            self.shared.entered.store(0, Ordering::Release);
            self.shared.immediate_exit.set(false);
        }
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// Asks it to pause; [`Self::wait_paused`] waits for it.
    pub fn order_pause(&self) {
        let mut inner = self.shared.lock();
        inner.order = VcpuOrder::Pause;
        self.shared.immediate_exit.set(true);
        let kick = inner.kick;
        // The thread takes the lock at once; it must not find it taken.
        drop(inner);
        if let Some(kick) = kick {
            kick.kick();
        }
        self.shared.wake();
    }

    /// A way to keep it out of the guest for a while.
    #[must_use]
    pub fn napper(&self) -> Napper {
        Napper(Arc::clone(&self.shared))
    }

    /// Waits until it is paused and its state saved.
    ///
    /// # Errors
    /// See [`VcpuError`].
    pub fn wait_paused(&self) -> Result<(), VcpuError> {
        let mut patience = Patience::new(PATIENCE);
        let mut inner = self.shared.lock();
        loop {
            if let Some(error) = &inner.error {
                return Err(error.clone());
            }
            if inner.paused {
                return Ok(());
            }
            if patience.is_over() {
                return Err(VcpuError::Stuck { vcpu: self.shared.vcpu, seconds: PATIENCE.as_secs() });
            }
            let look = patience.next_look();
            inner = self.shared.changed.wait_timeout(inner, look).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The error that ended it, if one did.
    #[must_use]
    pub fn error(&self) -> Option<VcpuError> {
        self.shared.lock().error.clone()
    }

    /// Works on the saved state of a paused vCPU.
    pub fn with_state<T>(&self, work: impl FnOnce(&VcpuState) -> T) -> T {
        work(&self.shared.lock().state)
    }

    /// Has a paused vCPU take over `bytes`, a state of the other side, and compares what KVM then says of it if asked to. Its
    /// clock is set `back` by so many ticks, which is 0 but for planted faults. The calling thread does it all: the guest
    /// waits for this, and its own thread would have to wake up for it first.
    ///
    /// # Errors
    /// See [`StateError`] and [`VcpuError`].
    pub fn restore(&self, bytes: &[u8], compare: bool, back: u64) -> Result<(), VcpuError> {
        let vcpu = self.shared.vcpu;
        let mut inner = self.shared.lock();
        inner.state.load(bytes).map_err(|e| VcpuError::State { vcpu, text: e.to_string() })?;
        inner.state.set_clock_back(back);
        let Inner { fd, state, .. } = &*inner;
        let restored = match fd {
            Some(fd) => state.restore(fd).and_then(|()| if compare { state.compare(fd) } else { Ok(()) }),
            None => Err(StateError::Running),
        };
        restored.map_err(|error| {
            let error = VcpuError::State { vcpu, text: error.to_string() };
            inner.error = Some(error.clone());
            error
        })
    }

    /// [`clock::now`] at the first entry into `KVM_RUN` since the last resume, once there was one.
    #[must_use]
    pub fn entered(&self) -> Option<u64> {
        Some(self.shared.entered.load(Ordering::Acquire)).filter(|&time| time != 0)
    }

    /// Kernel id of its thread.
    #[must_use]
    pub fn thread(&self) -> i32 {
        self.shared.thread.load(Ordering::Acquire)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.order = VcpuOrder::Quit;
        self.shared.immediate_exit.set(true);
        if let Some(kick) = inner.kick {
            kick.kick();
        }
        drop(inner);
        self.shared.changed.notify_all();
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run_thread(shared: &VcpuShared) {
    while let Some(fd) = wait_for_run(shared) {
        let entered = clock::now();
        shared.entered.store(entered, Ordering::Release);
        if let Err(error) = run_until_order(shared, fd) {
            let mut inner = shared.lock();
            inner.error = Some(error);
            drop(inner);
            shared.changed.notify_all();
            return;
        }
    }
}

/// Waits for orders, and takes the vCPU when it is to run. `None` ends the thread.
fn wait_for_run(shared: &VcpuShared) -> Option<VcpuFd> {
    let mut inner = shared.lock();
    loop {
        match inner.order {
            VcpuOrder::Quit => return None,
            VcpuOrder::Run => return inner.fd.take(),
            VcpuOrder::Pause => {
                if !inner.paused {
                    // Resumed and paused again before this thread woke up: the saved state still holds.
                    inner.paused = true;
                    shared.changed.notify_all();
                }
                inner = shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Runs the vCPU until an order takes it out, then saves its state and leaves it to others.
fn run_until_order(shared: &VcpuShared, mut fd: VcpuFd) -> Result<(), VcpuError> {
    let vcpu = shared.vcpu;
    loop {
        let exit = fd.run();
        let reason = match exit {
            Ok(VcpuExit::IoOut(abi::DOORBELL_PORT, data)) => {
                let text = String::from_utf8_lossy(data).into_owned();
                match ring_doorbell(shared, &text) {
                    None => continue,
                    Some(text) => return Err(VcpuError::Guest { vcpu, text }),
                }
            }
            Ok(VcpuExit::IoOut(abi::EXIT_PORT, _)) => continue,
            Ok(VcpuExit::IoOut(abi::REST_PORT, _)) => {
                // The way back into the guest completes the exit, and only then heeds an order.
                rest(shared);
                continue;
            }
            // `kvm-ioctls` has no name for this exit.
            Ok(VcpuExit::Unsupported(KVM_EXIT_DIRTY_RING_FULL)) if shared.rings.is_some() => {
                match shared.rings.as_deref().map_or(Ok(()), Rings::make_room) {
                    Ok(()) => continue,
                    Err(error) => Some(format!("its dirty ring is full and cannot be reset: {error}")),
                }
            }
            Ok(VcpuExit::Intr) => None,
            Ok(exit) => Some(format!("{exit:?}")),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => None,
            Err(error) => Some(format!("KVM_RUN failed: {error}")),
        };
        if let Some(reason) = reason {
            let rip = fd.get_regs().map_or(0, |regs| regs.rip);
            return Err(VcpuError::Kvm { vcpu, rip, reason });
        }
        let mut inner = shared.lock();
        match inner.order {
            VcpuOrder::Run => {
                // Kicked for a nap. Under the lock: who orders a pause sets this again after its order.
                shared.immediate_exit.set(false);
                drop(inner);
                nap(shared);
            }
            VcpuOrder::Quit => return Ok(()),
            VcpuOrder::Pause => {
                if let Err(error) = inner.state.save(&fd) {
                    return Err(VcpuError::State { vcpu, text: error.to_string() });
                }
                inner.paused = true;
                inner.fd = Some(fd);
                drop(inner);
                shared.changed.notify_all();
                return Ok(());
            }
        }
    }
}

/// Sleeps until its nap is over, or there is an order.
fn nap(shared: &VcpuShared) {
    let (start, ticks) = (clock::now(), clock::tsc());
    let mut now = start;
    loop {
        let left = shared.nap_until.load(Ordering::Acquire).saturating_sub(now);
        if left == 0 || shared.lock().order != VcpuOrder::Run {
            break;
        }
        std::thread::park_timeout(Duration::from_nanos(left));
        now = clock::now();
    }
    if now > start {
        shared.slept.fetch_add(now - start, Ordering::AcqRel);
        shared.events.enter(Cause::Throttle, ticks, Some(thread::id()));
    }
}

/// Sleeps for as long as the guest has nothing to do, or until there is an order. The guest states ticks and no time of
/// its clock, since KVM's word on how that clock stands to the host's does not hold on every host.
fn rest(shared: &VcpuShared) {
    let start = Instant::now();
    let ticks = shared.telemetry.vcpu(shared.vcpu).rest.load(Ordering::Relaxed);
    let nanoseconds = u128::from(ticks) * 1_000_000 / u128::from(shared.tsc_khz.max(1));
    let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    loop {
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() || shared.lock().order != VcpuOrder::Run {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Collects a byte; gives a whole line that reports a failure.
fn ring_doorbell(shared: &VcpuShared, text: &str) -> Option<String> {
    let mut inner = shared.lock();
    for character in text.chars() {
        if character != '\n' {
            inner.line.push(character);
            continue;
        }
        let line = std::mem::take(&mut inner.line);
        if line.starts_with("fault:") || line.starts_with("fatal:") {
            return Some(line);
        }
    }
    None
}
