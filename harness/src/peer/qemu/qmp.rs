//! QEMU's machine protocol (QEMU's documentation, "QEMU Machine Protocol Specification"): JSON objects over a socket, a line each;
//! commands with their answers, and events that come at any time. Answers stay JSON: fields differ between QEMU's versions, of
//! which typed clients know one.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::sys::clock::{self, Patience};

/// The most bytes of a line.
const LONGEST: usize = 16 << 20;

/// Why QEMU's monitor is of no use.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket.
    #[error("its monitor failed: {0}")]
    Socket(#[from] std::io::Error),
    /// It closed the socket, which it does when it ends.
    #[error("it closed its monitor")]
    Closed,
    /// Not JSON.
    #[error("its monitor said what is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A line that no answer is as long as.
    #[error("its monitor said a line of more than {LONGEST} bytes")]
    Long,
    /// An answer did not come.
    #[error("it did not answer `{command}` within {} s", after.as_secs())]
    Silent {
        /// What was asked for.
        command: String,
        /// For how long it was waited.
        after: Duration,
    },
    /// It would not.
    #[error("it refused `{command}`: {reason}")]
    Refused {
        /// What was asked for.
        command: String,
        /// In its words.
        reason: String,
    },
}

/// Something that QEMU said by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `STOP`.
    pub name: String,
    /// What belongs to it.
    pub data: Value,
    /// When it happened, by QEMU's own clock, as [`clock::now`] would have given it.
    pub at: u64,
}

/// A monitor of a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    socket: UnixStream,
    read: Vec<u8>,
    events: VecDeque<Event>,
    /// Longest wait for an answer.
    patience: Duration,
    /// The number of the last command, which its answer repeats: one that was given up may still be answered.
    asked: u64,
}

impl Qmp {
    /// On a connected socket: waits for the greeting, which comes when all memory was taken, and leaves negotiation. No answer is
    /// waited for longer than `patience`.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn new(socket: UnixStream, patience: Duration) -> Result<Self, QmpError> {
        let mut monitor = Self { socket, read: Vec::new(), events: VecDeque::new(), patience, asked: 0 };
        let mut left = Patience::new(patience);
        while monitor.message(left.next_look())?.is_none() {
            if left.is_over() {
                return Err(QmpError::Silent { command: "the connection".to_owned(), after: patience });
            }
        }
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Has it execute a command, and gives its answer.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.asked += 1;
        let order = json!({ "execute": command, "arguments": arguments, "id": self.asked });
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        self.socket.write_all(&line).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => QmpError::Closed,
            _ => error.into(),
        })?;
        let mut patience = Patience::new(self.patience);
        loop {
            match self.message(patience.next_look())? {
                // What could not be read has no number.
                Some(answer) if answer["id"].as_u64().is_some_and(|id| id != self.asked) => {}
                Some(mut answer) if answer.get("return").is_some() => return Ok(answer["return"].take()),
                Some(answer) if answer.get("error").is_some() => {
                    let reason = answer["error"]["desc"].as_str().unwrap_or("without a reason").to_owned();
                    return Err(QmpError::Refused { command: command.to_owned(), reason });
                }
                Some(other) => self.note(&other),
                None if patience.is_over() => {
                    return Err(QmpError::Silent { command: command.to_owned(), after: self.patience });
                }
                None => {}
            }
        }
    }

    /// The next event, if one comes within that time.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn event(&mut self, longest: Duration) -> Result<Option<Event>, QmpError> {
        if self.events.is_empty()
            && let Some(message) = self.message(longest)?
        {
            self.note(&message);
        }
        Ok(self.events.pop_front())
    }

    fn note(&mut self, message: &Value) {
        let Some(name) = message["event"].as_str() else { return };
        let of = |field: &str| message["timestamp"][field].as_u64();
        // Where its host has no clock, it says -1.
        let at = of("seconds").zip(of("microseconds")).map_or_else(clock::now, |(seconds, microseconds)| {
            monotonic(seconds.saturating_mul(1_000_000_000).saturating_add(microseconds * 1000))
        });
        self.events.push_back(Event { name: name.to_owned(), data: message["data"].clone(), at });
    }

    /// The next line, if one is there within that time.
    fn message(&mut self, longest: Duration) -> Result<Option<Value>, QmpError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.read.len() > LONGEST {
                return Err(QmpError::Long);
            }
            // Zero would be no limit.
            self.socket.set_read_timeout(Some(longest.max(Duration::from_micros(1))))?;
            let mut part = [0; 4096];
            match self.socket.read(&mut part) {
                Ok(0) => return Err(QmpError::Closed),
                Ok(length) => self.read.extend_from_slice(&part[..length]),
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(QmpError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A time of the host's wall clock, in nanoseconds, as [`clock::now`] would have given it then. A wall clock that was set in
/// between makes it wrong; it is never in the future.
fn monotonic(wall: u64) -> u64 {
    let now = clock::now();
    let passed = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| {
        let since_epoch = u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX);
        since_epoch.saturating_sub(wall)
    });
    now.saturating_sub(passed)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// A QEMU of that many answers, each after its command.
    fn answering<const N: usize>(answers: [&'static str; N]) -> UnixStream {
        let (here, there) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut writer = there.try_clone().unwrap();
            let mut commands = BufReader::new(there).lines();
            writer.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n").unwrap();
            for answer in answers {
                commands.next().unwrap().unwrap();
                writer.write_all(answer.as_bytes()).unwrap();
            }
        });
        here
    }

    const LONG: Duration = Duration::from_secs(60);
    const READY: &str = "{\"return\": {}}\r\n";

    #[test]
    fn answers_and_events_are_told_apart_however_they_come() {
        let event = "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 5}, \"event\": \"STOP\"}\r\n\r\n{\"return\": {\"a\": [1]}}\r\n";
        let mut monitor = Qmp::new(answering([READY, event]), LONG).unwrap();
        assert_eq!(monitor.execute("query-a", json!({})).unwrap(), json!({ "a": [1] }));
        let event = monitor.event(Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!(event.name, "STOP");
        assert!(event.at < clock::now());
        assert!(matches!(monitor.event(Duration::from_secs(5)), Err(QmpError::Closed)));
    }

    #[test]
    fn what_is_refused_or_no_answer_is_named() {
        let refusal = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\n";
        let mut monitor = Qmp::new(answering([READY, refusal, "stars\n"]), LONG).unwrap();
        let error = monitor.execute("migrate", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "it refused `migrate`: no such thing");
        assert!(monitor.execute("migrate", json!({})).unwrap_err().to_string().contains("no JSON"));
        assert!(matches!(monitor.execute("migrate", json!({})), Err(QmpError::Closed)));
    }

    #[test]
    fn an_answer_that_was_given_up_is_no_answer_to_what_was_asked_later() {
        let late = "{\"return\": {\"of\": 1}, \"id\": 1}\n{\"return\": {\"of\": 2}, \"id\": 2}\n";
        let mut monitor = Qmp::new(answering([READY, late]), LONG).unwrap();
        assert_eq!(monitor.execute("cont", json!({})).unwrap(), json!({ "of": 2 }));
        let (here, _there) = UnixStream::pair().unwrap();
        let error = Qmp::new(here, Duration::from_millis(1)).unwrap_err().to_string();
        assert_eq!(error, "it did not answer `the connection` within 0 s");
    }

    #[test]
    fn a_wall_clock_s_time_is_put_on_our_clock() {
        let wall = |time: nix::sys::time::TimeSpec| u64::try_from(Duration::from(time).as_nanos()).unwrap();
        let before = clock::now();
        let at = monotonic(wall(clock_gettime(ClockId::CLOCK_REALTIME).unwrap()));
        assert!((before.saturating_sub(1_000_000)..=clock::now()).contains(&at), "{before} {at}");
    }
}
