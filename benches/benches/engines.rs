//! The speed of the engines without a limit: 1 GiB of random pages from one process to another over a Unix socket, as an engine
//! sends them and the destination takes them in, against the same bytes between the same memories through the same kind of socket
//! with nothing else (no copy, no zero test, no checksum, no frames); then the same pages again after some words of each were
//! rewritten, where `delta` sends what changed and `full` sends everything. Passes take turns, so that a drift of the host hits all
//! alike. Times end when the destination says that all has arrived, and memory is proven equal after every pass.
//!
//! The bench starts itself again as the receiving process. Both memories are guest memory, made resident before.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use migbench::codec::Page;
use migbench::dirty::{DirtyTracker, TrackerError};
use migbench::engine::planted_cost::Planter;
use migbench::engine::policy::policy;
use migbench::engine::round::{Rounds, SentRound};
use migbench::node::page_receiver::PageReceiver;
use migbench::node::proof;
use migbench::sys::ram::Ram;
use migbench::vm::page_set::PageSet;
use migbench::wire::{FrameKind, LinkAddress, LinkListener};
use migbench_benches::pages::{Density, Xorshift};
use migbench_benches::{Fallible, MedianRange, ended, quick, wanted};
use migbench_scenarios::cell::{Backing, Cell, Codec, Engine};
use migbench_workloads::units::{Bytes, PAGE_SIZE};
use nix::sys::socket::{setsockopt, sockopt};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, ReadVolatile as _, WriteVolatile as _};

/// Turns.
const TURNS: usize = 11;

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
        None if wanted("engines") => compare(),
        None => Ok(()),
    };
    ended(done)
}

fn memory(size: Bytes) -> Fallible<Arc<Ram>> {
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

/// Every page is dirty in each round.
struct Rewritten;

impl DirtyTracker for Rewritten {
    fn arm(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        dirty.fill();
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }
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
                let mut codec = [0];
                control.read_exact(&mut codec)?;
                let codec = if codec[0] == b'm' { Codec::Mask } else { Codec::Xbzrle };
                let listener = LinkListener::bind(&Cell::default_for(Engine::Delta, "idle")?.link)?;
                let mut pages = PageReceiver::new(&ram, codec, false)?;
                writeln!(control, "{}", serde_json::to_string(listener.address())?)?;
                let mut link = listener.accept(TIMEOUT)?;
                loop {
                    let frame = link.recv_placing(|frame, places| pages.place(&ram, frame, places))?;
                    match frame.kind {
                        FrameKind::Pages => pages.pages(&ram, &frame)?,
                        FrameKind::RoundEnd => {
                            pages.round_ends(&ram);
                            writeln!(control, "{}", pages.decode_nanoseconds())?;
                        }
                        _ => break,
                    }
                }
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
    ram: Arc<Ram>,
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

    /// The rounds of an engine: all pages, and all again after each was rewritten as `densities` say.
    fn engine(&mut self, cell: &Cell, densities: &[Density]) -> Fallible<Vec<Round>> {
        self.control.write_all(if cell.codec == Codec::Mask { b"em" } else { b"ex" })?;
        let address: LinkAddress = serde_json::from_str(&self.answer()?)?;
        let mut link = address.connect(TIMEOUT)?;
        let ram = Arc::clone(&self.ram);
        // Taken before the clock starts, as a source does.
        let mut policy = policy(cell, ram.pages())?;
        let mut tracker = Rewritten;
        let sender = link.sender_mut();
        let mut rounds = Rounds::new(&ram, &mut tracker, sender, policy.as_mut(), Planter::default())?;
        let mut measured = Vec::new();
        let mut decoded = 0;
        for density in std::iter::once(None).chain(densities.iter().map(Some)) {
            if let Some(density) = density {
                rewrite(&ram, *density)?;
            }
            let start = Instant::now();
            let harvest = rounds.harvest()?;
            // Not the paused round, in which nothing is remembered any more.
            let sent = rounds.send(harvest, Some(u64::MAX))?;
            let answer = self.answer()?;
            let time = start.elapsed().as_secs_f64();
            let before = std::mem::replace(&mut decoded, answer.trim().parse()?);
            measured.push(Round { time, sent, decode: decoded - before });
        }
        drop(rounds);
        link.send(FrameKind::Ready, &[])?;
        self.proves_equal()?;
        Ok(measured)
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

/// A round until all of it had arrived.
struct Round {
    /// Seconds.
    time: f64,
    sent: SentRound,
    /// Nanoseconds in which the destination decoded.
    decode: u64,
}

/// Changes every page like that.
fn rewrite(ram: &Ram, density: Density) -> Fallible<()> {
    let (mut page, mut random) = ([0; 4096], Xorshift(7));
    for number in 0..ram.pages() {
        ram.read(number, &mut page)?;
        density.apply(&mut page, &mut random);
        ram.write(number, &page)?;
    }
    Ok(())
}

/// What passes take turns.
const PASSES: [&str; 5] =
    ["bare copy", "full", "delta (xbzrle)", "delta (mask)", "delta (xbzrle), shadow.prefault"];

/// Words of each page that are rewritten before a round.
const REWRITTEN: [(&str, Density); 3] =
    [("1 word", Density::Words(1)), ("32 words", Density::Words(32)), ("256 words", Density::Words(256))];

fn compare() -> Fallible<()> {
    let size = Bytes(if quick() { 32 << 20 } else { 1 << 30 });
    let turns = if quick() { 1 } else { TURNS };
    println!(
        "engines: {size} of random pages of a paused guest to another process over an unlimited unix link; {turns} turns of {}",
        PASSES.join("; ")
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

    let densities = REWRITTEN.map(|(_, density)| density);
    let full = Cell::default_for(Engine::Full, "idle")?;
    let delta = Cell::default_for(Engine::Delta, "idle")?;
    let mut mask = delta.clone();
    mask.codec = Codec::Mask;
    let mut prefaulted = delta.clone();
    prefaulted.shadow.prefault = true;
    let cells = [(&full, &densities[..]), (&delta, &densities), (&mask, &densities), (&prefaulted, &[])];
    let mut reference = Vec::new();
    let mut engines = [const { Vec::new() }; 4];
    // A first pass of the engine into zeros is proven and not counted.
    sending.engine(&full, &[])?;
    for turn in 0..turns {
        for pass in 0..PASSES.len() {
            // Who comes first takes turns as well.
            match (turn + pass) % PASSES.len() {
                0 => reference.push(sending.reference()?.as_secs_f64()),
                number => engines[number - 1].push(sending.engine(cells[number - 1].0, cells[number - 1].1)?),
            }
        }
    }
    drop(sending);
    receiver.wait()?;

    let full = &engines[0];
    #[expect(clippy::cast_precision_loss, reason = "sizes")]
    let bytes = size.0 as f64;
    let print = |what: &str, values: &mut dyn Iterator<Item = f64>| {
        if let Some(spread) = MedianRange::of(values) {
            println!("  {what:46} {spread:.2}");
        }
    };
    print("bare copy, GB/s", &mut reference.iter().map(|time| bytes / time / 1e9));
    println!(
        "  all pages for the first time, over the bare copy (goals: full 0.90, delta 0.50, with prefault 0.65)"
    );
    for (name, rounds) in PASSES[1..].iter().zip(&engines) {
        print(&format!("  {name}"), &mut rounds.iter().zip(&reference).map(|(r, time)| time / r[0].time));
    }
    println!("  all pages rewritten, pages a second of delta over full (goals 1.4; 1.0; 1.0)");
    for (at, (words, _)) in REWRITTEN.iter().enumerate() {
        for (name, delta) in PASSES[2..4].iter().zip(&engines[1..]) {
            let ratios = full.iter().zip(delta).map(|(full, delta)| full[at + 1].time / delta[at + 1].time);
            print(&format!("  {name}, {words}"), &mut { ratios });
        }
    }
    println!(
        "  where the time goes: share of encoding and of sending at the source, of decoding at the destination"
    );
    let names = std::iter::once("first time").chain(REWRITTEN.map(|(name, _)| name));
    for (at, round) in names.enumerate() {
        for (name, rounds) in PASSES[1..].iter().zip(&engines) {
            let share = |of: &dyn Fn(&Round) -> u64| {
                let shares = rounds
                    .iter()
                    .filter_map(|rounds| rounds.get(at))
                    .map(|round| 100.0 * Duration::from_nanos(of(round)).as_secs_f64() / round.time);
                MedianRange::of(shares).map(|shares| format!("{:.0} %", shares.median))
            };
            let shares = [
                share(&|round| round.sent.stages.encode),
                share(&|round| round.sent.stages.send),
                share(&|round| round.decode),
            ];
            if let [Some(encode), Some(send), Some(decode)] = shares {
                println!("    {:46} {encode:>6} {send:>6} {decode:>6}", format!("{name}, {round}"));
            }
        }
    }
    println!("  (median and range)");
    Ok(())
}
