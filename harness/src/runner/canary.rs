//! What the host can do at this moment: a fixed copy in memory and a fixed transfer over a socket, the two things that a
//! migration is made of. Run between blocks and kept with the records, it tells a slow engine from a host that became slow.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use migbench_reports::stats::median;

use crate::sys::clock;

/// Bytes of one copy: more than the caches hold.
const COPY: usize = 64 << 20;
/// Bytes of the transfer.
const TRANSFER: usize = 128 << 20;
/// Bytes of one write to the socket.
const CHUNK: usize = 256 << 10;
/// Copies, of which the median counts.
const TIMES: usize = 5;

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canary {
    /// Of the copy.
    pub copy: f64,
    /// Of the transfer, from one thread to another.
    pub socket: f64,
}

impl Canary {
    /// Measures both, which takes about a tenth of a second.
    ///
    /// # Errors
    /// When there is no socket or no thread.
    pub fn measure() -> io::Result<Self> {
        Ok(Self { copy: copy(), socket: socket()? })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a constant")]
fn copy() -> f64 {
    let (from, mut to) = (vec![1_u8; COPY], vec![2_u8; COPY]);
    let speeds: Vec<f64> = (0..TIMES)
        .map(|_| {
            let start = clock::now();
            to.copy_from_slice(std::hint::black_box(&from));
            std::hint::black_box(&mut to);
            COPY as f64 / clock::seconds(start, clock::now())
        })
        .collect();
    median(&speeds).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a constant")]
fn socket() -> io::Result<f64> {
    let (mut sender, mut receiver) = UnixStream::pair()?;
    let (chunk, mut into) = (vec![3_u8; CHUNK], vec![0_u8; CHUNK]);
    let start = clock::now();
    let sending = std::thread::Builder::new()
        .name("canary".into())
        .spawn(move || (0..TRANSFER / CHUNK).try_for_each(|_| sender.write_all(&chunk)))?;
    let mut received = 0;
    while received < TRANSFER {
        match receiver.read(&mut into)? {
            0 => break,
            length => received += length,
        }
    }
    let elapsed = clock::seconds(start, clock::now());
    sending.join().map_err(|_| io::Error::other("the canary's thread panicked"))??;
    Ok(received as f64 / elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_speeds() {
        let canary = Canary::measure().unwrap();
        assert!(canary.copy > 0.0 && canary.copy.is_finite());
        assert!(canary.socket > 0.0 && canary.socket.is_finite());
    }
}
