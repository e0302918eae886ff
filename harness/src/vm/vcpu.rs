//! vCPU threads: each runs one vCPU until it is asked to pause, saves its state, and waits.
//!
//! A thread is paused from outside within one exit: the flag `immediate_exit` closes the window between the check
//! and `KVM_RUN`, the signal takes the thread out of it. Since KVM completes a pending I/O exit before it honours
//! the flag, the state that is saved is always consistent.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::KVM_EXIT_DIRTY_RING_FULL;
use kvm_ioctls::{VcpuExit, VcpuFd};
use migbench_workloads::abi;

use super::state::{StateError, VcpuState};
use crate::dirty::Rings;
use crate::sys::clock;
use crate::sys::kvm::ImmediateExit;
use crate::sys::machine::Machine;
use crate::sys::thread::{self, Kick};

/// What a thread is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
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
struct Seat {
    order: Order,
    /// Whether the thread is out of `KVM_RUN` and `state` is what the vCPU holds.
    paused: bool,
    error: Option<VcpuError>,
    state: VcpuState,
    /// The thread writes `state` to the vCPU before it runs again.
    restore: bool,
    /// The thread reads back what it restored and compares.
    compare: bool,
    kick: Option<Kick>,
    line: String,
}

#[derive(Debug)]
struct Shared {
    vcpu: usize,
    seat: Mutex<Seat>,
    changed: Condvar,
    immediate_exit: ImmediateExit,
    /// [`clock::now`] right before the first `KVM_RUN` after a resume.
    entered: AtomicU64,
    thread: AtomicI32,
    /// Where it makes room when its dirty ring is full.
    rings: Option<Arc<Rings>>,
}

impl Shared {
    fn seat(&self) -> MutexGuard<'_, Seat> {
        // A panic of a vCPU thread leaves plain data behind.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One vCPU and its thread.
#[derive(Debug)]
pub struct Vcpu {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Longest wait for a vCPU to leave `KVM_RUN`.
const PATIENCE: Duration = Duration::from_secs(5);

impl Vcpu {
    /// Starts the thread of `fd`, which waits paused. `rings` is there when its machine logs to dirty rings.
    ///
    /// # Errors
    /// As `mmap` and thread creation.
    pub fn start(
        machine: &Arc<Machine>,
        index: usize,
        fd: VcpuFd,
        state: VcpuState,
        cpu: Option<u32>,
        rings: Option<Arc<Rings>>,
    ) -> std::io::Result<Self> {
        let seat = Seat {
            order: Order::Pause,
            paused: true,
            error: None,
            state,
            restore: false,
            compare: false,
            kick: None,
            line: String::with_capacity(256),
        };
        let shared = Arc::new(Shared {
            vcpu: index,
            seat: Mutex::new(seat),
            changed: Condvar::new(),
            immediate_exit: ImmediateExit::new(machine.kvm(), &fd)?,
            entered: AtomicU64::new(0),
            thread: AtomicI32::new(0),
            rings,
        });
        let (of_thread, machine) = (Arc::clone(&shared), Arc::clone(machine));
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("vcpu{index}")).spawn(move || {
            of_thread.seat().kick = Some(Kick::current());
            of_thread.thread.store(thread::id(), Ordering::Release);
            let pinned = cpu.map_or(Ok(()), |cpu| thread::pin(&[cpu]));
            let fine = pinned.is_ok();
            let _ = ready.send(pinned);
            if fine {
                run_thread(&of_thread, fd);
            }
            drop(machine);
        })?;
        started.recv().map_err(std::io::Error::other)??;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets it run. `restore` has it load its seat's state first.
    pub fn resume(&self) {
        let mut seat = self.shared.seat();
        if seat.error.is_none() {
            seat.order = Order::Run;
            seat.paused = false;
            self.shared.entered.store(0, Ordering::Release);
            self.shared.immediate_exit.set(false);
        }
        drop(seat);
        self.shared.changed.notify_all();
    }

    /// Asks it to pause; [`Self::wait_paused`] waits for it.
    pub fn order_pause(&self) {
        let mut seat = self.shared.seat();
        seat.order = Order::Pause;
        self.shared.immediate_exit.set(true);
        let kick = seat.kick;
        // The thread takes the seat at once; it must not find it taken.
        drop(seat);
        if let Some(kick) = kick {
            kick.kick();
        }
    }

    /// Waits until it is paused and its state saved.
    ///
    /// # Errors
    /// See [`VcpuError`].
    pub fn wait_paused(&self) -> Result<(), VcpuError> {
        let start = Instant::now();
        let mut seat = self.shared.seat();
        loop {
            if let Some(error) = &seat.error {
                return Err(error.clone());
            }
            if seat.paused {
                return Ok(());
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(VcpuError::Stuck { vcpu: self.shared.vcpu, seconds: PATIENCE.as_secs() });
            }
            seat = self.shared.changed.wait_timeout(seat, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The error that ended it, if one did.
    #[must_use]
    pub fn error(&self) -> Option<VcpuError> {
        self.shared.seat().error.clone()
    }

    /// Works on the saved state of a paused vCPU.
    pub fn with_state<T>(&self, work: impl FnOnce(&VcpuState) -> T) -> T {
        work(&self.shared.seat().state)
    }

    /// Has a paused vCPU take over `bytes`, a state of the other side, and waits until KVM has it all. Its clock is
    /// set `back` by so many ticks, which is 0 but for planted faults.
    ///
    /// # Errors
    /// See [`StateError`] and [`VcpuError`].
    pub fn restore(&self, bytes: &[u8], compare: bool, back: u64) -> Result<(), VcpuError> {
        let vcpu = self.shared.vcpu;
        let mut seat = self.shared.seat();
        seat.state.load(bytes).map_err(|e| VcpuError::State { vcpu, text: e.to_string() })?;
        seat.state.set_clock_back(back);
        seat.restore = true;
        seat.compare = compare;
        drop(seat);
        self.shared.changed.notify_all();
        let mut seat = self.shared.seat();
        while seat.restore && seat.error.is_none() {
            seat = self.shared.changed.wait(seat).unwrap_or_else(PoisonError::into_inner);
        }
        seat.error.clone().map_or(Ok(()), Err)
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
        let mut seat = self.shared.seat();
        seat.order = Order::Quit;
        self.shared.immediate_exit.set(true);
        if let Some(kick) = seat.kick {
            kick.kick();
        }
        drop(seat);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run_thread(shared: &Shared, mut fd: VcpuFd) {
    while wait_for_run(shared, &fd) {
        let entered = clock::now();
        shared.entered.store(entered, Ordering::Release);
        if let Err(error) = run_until_order(shared, &mut fd) {
            let mut seat = shared.seat();
            seat.error = Some(error);
            drop(seat);
            shared.changed.notify_all();
            return;
        }
    }
}

/// Waits in the seat; does what is asked of a paused vCPU. `false` ends the thread.
fn wait_for_run(shared: &Shared, fd: &VcpuFd) -> bool {
    let mut seat = shared.seat();
    loop {
        if seat.restore {
            let outcome = restore(&seat, fd);
            seat.restore = false;
            if let Err(error) = outcome {
                seat.error = Some(VcpuError::State { vcpu: shared.vcpu, text: error.to_string() });
            }
            shared.changed.notify_all();
        }
        match seat.order {
            Order::Quit => return false,
            Order::Run => return true,
            Order::Pause => {
                if !seat.paused {
                    // Resumed and paused again before this thread woke up: the saved state still holds.
                    seat.paused = true;
                    shared.changed.notify_all();
                }
                seat = shared.changed.wait(seat).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

fn restore(seat: &Seat, fd: &VcpuFd) -> Result<(), StateError> {
    seat.state.restore(fd)?;
    if seat.compare { seat.state.compare(fd) } else { Ok(()) }
}

/// Runs the vCPU until an order takes it out, then saves its state.
fn run_until_order(shared: &Shared, fd: &mut VcpuFd) -> Result<(), VcpuError> {
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
        let mut seat = shared.seat();
        match seat.order {
            Order::Run => {}
            Order::Quit => return Ok(()),
            Order::Pause => {
                if let Err(error) = seat.state.save(fd) {
                    return Err(VcpuError::State { vcpu, text: error.to_string() });
                }
                seat.paused = true;
                drop(seat);
                shared.changed.notify_all();
                return Ok(());
            }
        }
    }
}

/// Collects a byte; gives a whole line that reports a failure.
fn ring_doorbell(shared: &Shared, text: &str) -> Option<String> {
    let mut seat = shared.seat();
    for character in text.chars() {
        if character != '\n' {
            seat.line.push(character);
            continue;
        }
        let line = std::mem::take(&mut seat.line);
        if line.starts_with("fault:") || line.starts_with("fatal:") {
            return Some(line);
        }
    }
    None
}
