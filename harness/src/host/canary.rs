//! What the host can do at this moment: a fixed copy in memory and a fixed transfer over a socket, the two things that a
//! migration is made of. Run between blocks and kept with the records, it tells a slow engine from a host that became slow.
//!
//! It has to move less by itself than what it is to tell. So its memory is made once, since other pages at each look are
//! other caches and other huge pages; one thread both writes to and reads from the socket, since where the scheduler puts
//! two moved the figure by a factor of two; and several passes are made, of which reports take the median, since any one may be
//! interrupted.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use migbench_reports::record::CanarySamples;

use crate::sys::clock;

/// Bytes of one pass: more than the caches hold.
const PASS: usize = 32 << 20;
/// Bytes of one write to the socket and one read from it: less than a socket takes without a reader.
const CHUNK: usize = 64 << 10;
/// Passes of each kind.
const PASSES: usize = 9;

/// The memory and the socket.
#[derive(Debug)]
pub struct Canary {
    from: Vec<u8>,
    to: Vec<u8>,
    writer: UnixStream,
    reader: UnixStream,
}

impl Canary {
    /// Makes them ready.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn new() -> io::Result<Self> {
        let (writer, reader) = UnixStream::pair()?;
        // A kernel whose sockets take less than a chunk shall say so and not hang.
        writer.set_nonblocking(true)?;
        Ok(Self { from: vec![1; PASS], to: vec![2; PASS], writer, reader })
    }

    /// Measures both, which takes about a tenth of a second.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn measure(&mut self) -> io::Result<CanarySamples> {
        let copy = passes(|| {
            self.to.copy_from_slice(std::hint::black_box(&self.from));
            std::hint::black_box(&mut self.to);
            Ok(())
        })?;
        let socket = passes(|| {
            for (from, to) in self.from.chunks_exact(CHUNK).zip(self.to.chunks_exact_mut(CHUNK)) {
                self.writer.write_all(from)?;
                self.reader.read_exact(to)?;
            }
            Ok(())
        })?;
        Ok(CanarySamples { copy, socket })
    }
}

/// The speed of each pass.
#[expect(clippy::cast_precision_loss, reason = "a constant")]
fn passes(mut pass: impl FnMut() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let one = |_| {
        let start = clock::now();
        pass()?;
        Ok(PASS as f64 / clock::seconds(start, clock::now()))
    };
    (0..PASSES).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_speeds() {
        let mut canary = Canary::new().unwrap();
        for _ in 0..2 {
            let CanarySamples { copy, socket } = canary.measure().unwrap();
            assert_eq!((copy.len(), socket.len()), (PASSES, PASSES));
            assert!(copy.iter().chain(&socket).all(|speed| *speed > 0.0 && speed.is_finite()));
        }
        assert!(canary.from == canary.to, "all arrived");
    }
}
