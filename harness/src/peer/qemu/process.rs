//! A process of QEMU: started so that it ends with the node, listened to, and ended when it is dropped.

use std::cell::RefCell;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use migbench_scenarios::cell::Backing;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::guest::GuestError;
use crate::node::printable;
use crate::sys::{clock, thread};

/// A running QEMU.
pub struct Process {
    child: RefCell<Child>,
    /// What the guest says at its doorbell.
    doorbell: Output,
    /// What QEMU says.
    words: Output,
}

impl Process {
    /// Starts `command`. Where `backing` is of small pages it gets no huge ones, though QEMU always asks for some.
    pub fn start(mut command: Command, backing: Backing) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C reaches the runner, which decides.
        command.process_group(0);
        thread::let_die_with_parent(&mut command);
        if backing == Backing::Anonymous {
            thread::let_have_small_pages(&mut command);
        }
        let mut child = command.spawn()?;
        let (doorbell, words) = (Output::read(child.stdout.take()), Output::read(child.stderr.take()));
        Ok(Self { child: RefCell::new(child), doorbell, words })
    }

    pub fn id(&self) -> u32 {
        self.child.borrow().id()
    }

    /// Whether it lives and its guest has not given up.
    ///
    /// # Errors
    /// In QEMU's words, or the guest's.
    pub fn check(&self) -> Result<(), GuestError> {
        let text = self.doorbell.last();
        if ["fatal:", "fault:"].iter().any(|word| text.contains(word)) {
            return Err(GuestError::Peer(format!("the guest said: {}", text.trim())));
        }
        match self.child.borrow_mut().try_wait() {
            Ok(Some(status)) => {
                let how = match (status.signal(), status.code()) {
                    (Some(signal), _) => format!("was killed by signal {signal}"),
                    (_, code) => format!("ended with status {}", code.unwrap_or(0)),
                };
                // The pipe ends with it, and what it said last may not have been read yet.
                self.words.wait();
                let said = self.words.last();
                let said = if said.is_empty() { said } else { format!(": {}", said.trim()) };
                Err(GuestError::Peer(format!("QEMU {how}{said}")))
            }
            _ => Ok(()),
        }
    }

    /// Why it has closed its monitor: waits a little for its end, which comes after that.
    pub fn last_words(&self) -> Option<String> {
        let gone = clock::found_within(Duration::from_secs(2), Duration::from_millis(2), || {
            Ok::<_, std::convert::Infallible>(self.check().is_err())
        });
        gone.ok().filter(|gone| *gone).and_then(|_| self.check().err()).map(|why| why.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A program that starts QEMU in turn, such as a script, leaves it in the group.
        let group = i32::try_from(self.id()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The end of what a process writes to a pipe.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    /// Bytes that are kept.
    const KEPT: usize = 4096;

    fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&text);
        let reader = pipe.and_then(|mut pipe| {
            let read = move || {
                let mut part = [0; 1024];
                while let Ok(length @ 1..) = pipe.read(&mut part) {
                    let mut text = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    text.extend_from_slice(&part[..length]);
                    let over = text.len().saturating_sub(Self::KEPT);
                    text.drain(..over);
                }
            };
            std::thread::Builder::new().name("output".into()).spawn(read).ok()
        });
        Self { text, reader }
    }

    /// Waits until the pipe has ended, but not for who else may hold it.
    fn wait(&self) {
        let _ = clock::found_within(Duration::from_secs(1), Duration::from_millis(1), || {
            Ok::<_, std::convert::Infallible>(self.reader.as_ref().is_none_or(JoinHandle::is_finished))
        });
    }

    fn last(&self) -> String {
        printable(&self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, Backing::Anonymous).unwrap()
    }

    #[test]
    fn an_end_is_told_with_the_last_words() {
        let process = shell("echo no such machine >&2; exit 3");
        assert_eq!(process.last_words().unwrap(), "QEMU ended with status 3: no such machine\\n");
        assert_eq!(shell("kill -9 $$").last_words().unwrap(), "QEMU was killed by signal 9");
    }

    #[test]
    fn a_guest_that_gives_up_is_heard_and_the_process_ends_with_its_owner() {
        let process = shell("echo fatal: no memory; exec sleep 100");
        let said = clock::found_within(Duration::from_secs(20), Duration::from_millis(1), || {
            Ok::<_, std::convert::Infallible>(process.check().is_err())
        });
        assert!(said.unwrap());
        assert_eq!(process.check().unwrap_err().to_string(), "the guest said: fatal: no memory\\n");
        let id = process.id();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
