//! The speed of the `full` engine without a limit: 1 GiB of random pages of a paused guest from one process to
//! another over a Unix socket, as the engine sends them and the destination takes them in, against the same bytes
//! between the same memories through the same kind of socket with nothing else (no copy, no zero test, no
//! checksum, no frames). Passes of both take turns, so that a drift of the host hits both alike.
//!
//! The bench starts itself again as the receiving process. Both memories are guest memory, made resident before.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use migbench::codec::Page;
use migbench::dirty::{DirtyTracker, TrackerError};
use migbench::engine::planted_cost::Planter;
use migbench::engine::policy::Full;
use migbench::engine::precopy::{Observer, Precopy, Sent};
use migbench::engine::round::{Rounds, SentRound};
use migbench::engine::stop::Stop;
use migbench::node::page_receiver::PageReceiver;
use migbench::node::proof;
use migbench::sys::clock;
use migbench::sys::ram::Ram;
use migbench::vm::page_set::PageSet;
use migbench::wire::{FrameKind, LinkAddress, LinkListener};
use migbench_benches::{Fallible, MedianRange, quick, wanted};
use migbench_scenarios::cell::{Backing, Cell, Codec, Engine};
use migbench_workloads::units::{Bytes, PAGE_SIZE};
use nix::sys::socket::{setsockopt, sockopt};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, ReadVolatile as _, WriteVolatile as _};

/// Pairs of passes.
const PAIRS: usize = 11;

/// Bytes of one write and one read of the reference: what the engine writes at a time, less its headers.
const CHUNK: usize = 256 << 10;

/// What links ask for, see `wire::link`.
const SOCKET_BUFFER: usize = 1 << 20;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The argument that makes this binary the receiver.
const RECEIVER: &str = "--receive";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != RECEIVER).skip(1);
    let done = match arguments.next().map(|size| size.parse()) {
        Some(Ok(size)) => receive(Bytes(size)),
        Some(Err(error)) => Err(Box::from(error)),
        None if wanted("full") => compare(),
        None => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn memory(size: Bytes) -> Fallible<std::sync::Arc<Ram>> {
    let ram = Ram::new(size, Backing::Anonymous)?;
    ram.populate()?;
    Ok(ram)
}

/// Pages that are all different and never zero.
fn fill(ram: &Ram) -> Fallible<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut page: Page = [0; 4096];
    for number in 0..ram.pages() {
        for word in page.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        ram.write(number, &page)?;
    }
    Ok(())
}

/// The stretches of the reference's writes and reads.
fn chunks(ram: &Ram) -> impl Iterator<Item = GuestAddress> {
    let size = ram.pages() * PAGE_SIZE;
    (0..size).step_by(CHUNK).map(GuestAddress)
}

/// The guest is paused from the first page on.
struct NothingDirty;

impl DirtyTracker for NothingDirty {
    fn arm(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }

    fn harvest(&mut self, _: &mut PageSet) -> Result<(), TrackerError> {
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }
}

struct Silent;

impl Observer for Silent {
    fn sent(&mut self, _: &SentRound) {}
    fn continues(&mut self, _: &SentRound) {}
}

/// The receiving process: a letter on the control socket says which kind of pass comes.
fn receive(size: Bytes) -> Fallible<()> {
    let ram = memory(size)?;
    let mut control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    control.write_all(b"\n")?;
    let mut letter = [0];
    while control.read(&mut letter)? == 1 {
        match letter[0] {
            b'r' => {
                for address in chunks(&ram) {
                    control.read_exact_volatile(&mut ram.mappings().get_slice(address, CHUNK)?)?;
                }
                control.write_all(b"\n")?;
            }
            b'e' => {
                let listener = LinkListener::bind(&Cell::default_for(Engine::StopAndCopy, "idle")?.link)?;
                let mut pages = PageReceiver::new(&ram, Codec::None, false)?;
                writeln!(control, "{}", serde_json::to_string(listener.address())?)?;
                let mut link = listener.accept(TIMEOUT)?;
                loop {
                    let frame = link.recv_placing(|frame, places| pages.place(&ram, frame, places))?;
                    match frame.kind {
                        FrameKind::Pages => pages.pages(&ram, &frame)?,
                        _ => break,
                    }
                }
                link.send(FrameKind::Ready, &[])?;
                writeln!(control, "{}", pages.decode_nanoseconds())?;
            }
            _ => {
                control.write_all(&proof::hash_blocks(&ram)?)?;
            }
        }
    }
    Ok(())
}

/// The sending process.
struct SendingProcess {
    ram: std::sync::Arc<Ram>,
    control: UnixStream,
    answers: BufReader<UnixStream>,
}

impl SendingProcess {
    fn answer(&mut self) -> Fallible<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("the receiving process is gone".into()),
            _ => Ok(line),
        }
    }

    /// From the first write to the word that all has arrived.
    fn reference(&mut self) -> Fallible<Duration> {
        self.control.write_all(b"r")?;
        let start = Instant::now();
        for address in chunks(&self.ram) {
            self.control.write_all_volatile(&self.ram.mappings().get_slice(address, CHUNK)?)?;
        }
        self.answer()?;
        Ok(start.elapsed())
    }

    /// The same for the engine, with what it says of its own time and the destination's time in decoding.
    fn engine(&mut self) -> Fallible<(Duration, Sent, f64)> {
        self.control.write_all(b"e")?;
        let address: LinkAddress = serde_json::from_str(&self.answer()?)?;
        let mut link = address.connect(TIMEOUT)?;
        let cell = Cell::default_for(Engine::StopAndCopy, "idle")?;
        let start = Instant::now();
        let (mut tracker, mut policy) = (NothingDirty, Full::new(true, cell.link.checksum));
        let sent = Precopy {
            rounds: Rounds::new(&self.ram, &mut tracker, link.sender_mut(), &mut policy, Planter::default())?,
            pause: &mut || Ok(()),
            stop: Stop::new(cell.stop),
            start: clock::now(),
            observer: &mut Silent,
        }
        .stop_and_copy()?;
        match link.recv()?.kind {
            FrameKind::Ready => {}
            found => return Err(format!("a {found} frame came where Ready was due").into()),
        }
        let time = start.elapsed();
        let decode: u32 = (self.answer()?.trim().parse::<u64>()? / 1000).try_into()?;
        Ok((time, sent, f64::from(decode) / 1e6))
    }

    /// Whether the other process holds the same pages.
    fn proves_equal(&mut self) -> Fallible<()> {
        self.control.write_all(b"h")?;
        let here = proof::hash_blocks(&self.ram)?;
        let mut there = vec![0; here.len()];
        self.answers.read_exact(&mut there)?;
        Ok(proof::compare_blocks(&self.ram, &here, &there)?)
    }
}

fn compare() -> Fallible<()> {
    let size = Bytes(if quick() { 32 << 20 } else { 1 << 30 });
    let pairs = if quick() { 1 } else { PAIRS };
    println!(
        "full: {size} of random pages of a paused guest to another process over an unlimited unix link, against \
         the same bytes through the same kind of socket with nothing else; {pairs} passes of each in turn"
    );
    let (control, theirs) = UnixStream::pair()?;
    setsockopt(&control, sockopt::SndBuf, &SOCKET_BUFFER)?;
    let mut receiver = Command::new(std::env::current_exe()?)
        .args([RECEIVER, &size.0.to_string()])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let ram = memory(size)?;
    fill(&ram)?;
    let answers = BufReader::new(control.try_clone()?);
    let mut sending = SendingProcess { ram, control, answers };
    sending.answer()?;

    // The first pass is the engine's, into zeros, so that the proof is one of what the engine sent.
    let (_, first, _) = sending.engine()?;
    assert_eq!(first.rounds[0].tally.full, sending.ram.pages(), "not every page was sent whole");
    sending.proves_equal()?;
    sending.reference()?;

    let (mut reference, mut engine) = (Vec::new(), Vec::new());
    let (mut encode, mut send, mut decode) = (0.0, 0.0, 0.0);
    for pair in 0..pairs {
        // Who comes first takes turns as well.
        let before = if pair % 2 == 0 { Some(sending.reference()?) } else { None };
        let (time, sent, decoded) = sending.engine()?;
        reference.push(match before {
            Some(time) => time,
            None => sending.reference()?,
        });
        engine.push(time);
        let share = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() / time.as_secs_f64();
        let stages = sent.rounds[0].stages;
        encode += share(stages.encode);
        send += share(stages.send);
        decode += decoded / time.as_secs_f64();
    }
    drop(sending);
    receiver.wait()?;

    #[expect(clippy::cast_precision_loss, reason = "sizes and counts")]
    let (bytes, count) = (size.0 as f64, pairs as f64);
    let rate = |time: &Duration| bytes / time.as_secs_f64() / 1e9;
    let ratios = engine.iter().zip(&reference).map(|(e, r)| r.as_secs_f64() / e.as_secs_f64());
    let print = |what: &str, spread: Option<MedianRange>| {
        if let Some(spread) = spread {
            println!("  {what} {spread:.2}");
        }
    };
    print("reference, GB/s:       ", MedianRange::of(reference.iter().map(rate)));
    print("engine, GB/s:          ", MedianRange::of(engine.iter().map(rate)));
    print("engine over reference: ", MedianRange::of(ratios));
    println!(
        "  of the engine's time: source {:.0} % encoding, {:.0} % in checksum and socket; destination {:.0} % applying",
        100.0 * encode / count,
        100.0 * send / count,
        100.0 * decode / count
    );
    println!(
        "  (median and range; memory proven equal after the first pass; target: a ratio of 0.90 or more)"
    );
    Ok(())
}
