//! The greeting. Whoever can reach the destination's socket may connect to it, and whoever takes its address may listen
//! there, so both nodes first prove that they belong to the same run, and then compare what they are about to do.
//!
//! The runner draws a [`Token`] for each run and gives it to both nodes over their control sockets. It never crosses the
//! link. Three `Hello` frames do:
//!
//! | number | from | payload |
//! |---|---|---|
//! | 1 | destination | its nonce, 32 bytes |
//! | 2 | source | its nonce, its proof, 32 bytes each, and its [`Hello`] in JSON |
//! | 3 | destination | its proof, 32 bytes, and its [`Hello`] in JSON |
//!
//! A proof is the BLAKE3 hash, keyed with the token, of the prover's role, both nonces and the prover's [`Hello`]. Each side
//! draws its nonce for the one connection, so a proof that was recorded is worth nothing on another, and that of one side
//! is not that of the other. Proofs show who is there; what follows is neither encrypted nor signed.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use migbench_scenarios::cell::{Cache, Cell, Checksum, Codec, Engine, Proof};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::Action;
use super::protocol::{ControlSocket, Order, ProtocolError, Role};
use super::{abort, printable};
use crate::sys::clock::{self, Patience};
use crate::wire::address::{LinkAddress, LinkListener};
use crate::wire::frame::{self, FrameError, FrameFault, FrameKind, HEADER};
use crate::wire::link::{Link, LinkError};
use crate::wire::sabotage::Saboteur;

/// The most bytes that the payload of a `Hello` frame may have: the numbers and a few short words.
pub const MAX_HELLO: usize = 4096;

/// Bytes of a token, a nonce and a proof.
const BYTES: usize = 32;

/// Connections that may be open while the source's is waited for. When one more comes, the oldest is closed.
const PENDING: usize = 64;
/// Of those that wait to be accepted, so many are at a time: one whose proof is under way is not closed for them.
const ACCEPTED_AT_ONCE: usize = 16;
/// A connection without a proof is closed after this long. It holds nobody up meanwhile, so a source on a busy host may
/// take its time.
const PROOF_DUE: Duration = Duration::from_secs(10);
/// The longest that the source tries to be admitted.
const ADMISSION_DUE: Duration = Duration::from_secs(30);
/// Half a frame is looked at again after this long: what is in the socket already would end a wait for more at once.
const LOOK: Duration = Duration::from_millis(10);

/// What the link was doing when it failed.
const GREETING: &str = "greeting";

/// The secret of a run, which its two nodes and its runner know. It is not shown by `Debug`.
#[derive(Clone)]
pub struct Token([u8; BYTES]);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub fn random() -> io::Result<Self> {
        random().map(Self)
    }

    /// What shows that whoever has `role` knows the token.
    fn proof(&self, role: Role, nonces: &Nonces, hello: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // All but the last part have a length that the ones before them tell.
        for part in
            [b"migbench greeting ", role.word().as_bytes(), &nonces.destination, &nonces.source, hello]
        {
            hasher.update(part);
        }
        hasher.finalize()
    }

    /// Whether `found` is that proof. Hashes of this crate are compared in constant time.
    fn proves(&self, found: [u8; BYTES], role: Role, nonces: &Nonces, hello: &[u8]) -> bool {
        self.proof(role, nonces, hello) == blake3::Hash::from_bytes(found)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error does not repeat what may be most of a token.
        let refuse = |_| serde::de::Error::custom("a token is 64 hexadecimal digits");
        let text = String::deserialize(deserializer)?;
        Ok(Self(*blake3::Hash::from_hex(text).map_err(refuse)?.as_bytes()))
    }
}

fn random() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// What both sides drew for one connection.
#[derive(Debug, Clone, Copy)]
struct Nonces {
    destination: [u8; BYTES],
    source: [u8; BYTES],
}

/// What two nodes must agree on to understand each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`frame::VERSION`].
    pub frames: u8,
    /// Pages of guest memory.
    pub pages: u64,
    /// Virtual CPUs, whose states follow each other.
    pub vcpus: u32,
    /// What moves the guest.
    pub engine: Engine,
    /// How changed pages are encoded.
    pub codec: Codec,
    /// What the source remembers of sent pages, and so what deltas refer to.
    pub cache: Cache,
    /// What the checksums of frames cover.
    pub checksum: Checksum,
    /// Which runs prove memory.
    pub proof: Proof,
    /// Whether memory is hashed before the guest resumes.
    pub verify: bool,
}

impl Hello {
    /// Of a run of `cell` with a guest of that many pages.
    #[must_use]
    pub const fn of(cell: &Cell, pages: u64, verify: bool) -> Self {
        let Cell { vcpus, engine, codec, cache, proof, link, .. } = *cell;
        let (frames, checksum) = (frame::VERSION, link.checksum);
        Self { frames, pages, vcpus, engine, codec, cache, checksum, proof, verify }
    }

    fn to_json(&self) -> Result<Vec<u8>, HelloError> {
        let failed = |error: serde_json::Error| HelloError::System {
            action: "write a greeting",
            source: error.into(),
        };
        serde_json::to_vec(self).map_err(failed)
    }

    /// What an error calls each field, and its value.
    fn fields(&self) -> [(&'static str, String); 9] {
        let Self { frames, pages, vcpus, engine, codec, cache, checksum, proof, verify } = self;
        [
            ("the version of frames", frames.to_string()),
            ("pages of guest memory", pages.to_string()),
            ("vCPUs", vcpus.to_string()),
            ("the engine", engine.to_string()),
            ("the codec", codec.to_string()),
            ("the cache", cache.to_string()),
            ("what checksums cover", checksum.to_string()),
            ("which runs prove memory", proof.word().to_owned()),
            ("whether memory is verified", verify.to_string()),
        ]
    }

    /// Compares this side's with the JSON of the other side, who has proven to belong to the run.
    fn compare(&self, theirs: &[u8]) -> Result<(), HelloError> {
        let unreadable = |error: serde_json::Error| {
            // It may repeat what the other side has written.
            HelloError::Content(printable(error.to_string().as_bytes()))
        };
        let theirs: Self = serde_json::from_slice(theirs).map_err(unreadable)?;
        let pairs = self.fields().into_iter().zip(theirs.fields());
        match pairs.into_iter().find(|((_, here), (_, there))| here != there) {
            None => Ok(()),
            Some(((field, here), (_, there))) => Err(HelloError::Differs { field, here, there }),
        }
    }
}

#[cfg(any(test, fuzzing))]
impl Hello {
    /// What comes of an answer with a proof and a greeting; the proof is looked at and does not matter.
    ///
    /// # Errors
    /// As of a greeting with a proof.
    pub(crate) fn heard(&self, answer: &[u8]) -> Result<(), HelloError> {
        let (proof, hello) = take(answer)?;
        let nonces = Nonces { destination: [0; BYTES], source: [0; BYTES] };
        let _ = Token([0; BYTES]).proves(proof, Role::Destination, &nonces, hello);
        self.compare(hello)
    }
}

/// Why two nodes did not come together.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The control socket, while the source was waited for.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// No random bytes, no wait for sockets.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else listens where the destination should.
    #[error("what listens at {0} does not know this run's token: it is not the destination of this run")]
    Impostor(String),
    /// The other side closed the connection and said why.
    #[error("the other side refused the greeting: {0}")]
    Refused(String),
    /// Something else than a greeting.
    #[error("a {0} frame came where Hello was due")]
    OutOfOrder(FrameKind),
    /// A greeting that is too short to hold a proof.
    #[error("a greeting of {0} bytes came, which is none")]
    Length(usize),
    /// A proof that is none.
    #[error("it does not know this run's token")]
    Token,
    /// A greeting that means nothing here.
    #[error("the other side's greeting cannot be read: {0}")]
    Content(String),
    /// Both belong to the run and mean different things.
    #[error("source and destination differ in {field}: {here} here, {there} on the other side")]
    Differs {
        /// In what.
        field: &'static str,
        /// This side's value.
        here: String,
        /// The other side's.
        there: String,
    },
    /// The destination accepts connections, and this one got no further.
    #[error("the greeting was not over after {0:?}")]
    Late(Duration),
    /// The source did not come.
    #[error(
        "the source did not connect within {waited:?}; {refused} connections without a proof were closed"
    )]
    Nobody {
        /// How long it was waited for.
        waited: Duration,
        /// Connections of others.
        refused: u64,
    },
    /// The source will not come.
    #[error("the source ended before it had connected")]
    SourceEnded,
}

impl HelloError {
    const fn is_closed(&self) -> bool {
        matches!(self, Self::Link(LinkError::Closed { .. }))
    }
}

/// How the frame that is due looks in the socket.
enum Seen {
    Nothing,
    Part,
    Whole { kind: FrameKind, payload: Vec<u8> },
}

/// Looks at the frame of that `number` and leaves it in the socket: what a stranger sends is not taken in.
fn look(link: &Link, number: u64) -> Result<Seen, HelloError> {
    let mut room = [0; HEADER + MAX_HELLO];
    let offset = link.receiver().offset();
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let read = match recv(link.as_fd().as_raw_fd(), &mut room, flags) {
        Ok(0) | Err(Errno::ECONNRESET) => return Err(LinkError::Closed { doing: GREETING, offset }.into()),
        Ok(read) => read,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Seen::Nothing),
        Err(errno) => return Err(LinkError::Io { doing: GREETING, source: errno.into() }.into()),
    };
    match frame::decode(&room[..read], offset, number) {
        Ok(frame) => Ok(Seen::Whole { kind: frame.kind, payload: frame.payload.to_vec() }),
        // A frame that has no room here is longer than a greeting may be.
        Err(FrameError { fault: FrameFault::Truncated { needed, .. }, .. }) if needed <= room.len() => {
            Ok(Seen::Part)
        }
        Err(error) => Err(LinkError::from(error).into()),
    }
}

/// Takes part of a greeting off its start.
fn take(payload: &[u8]) -> Result<([u8; BYTES], &[u8]), HelloError> {
    let (part, rest) = payload.split_first_chunk().ok_or(HelloError::Length(payload.len()))?;
    Ok((*part, rest))
}

fn nonce() -> Result<[u8; BYTES], HelloError> {
    random().map_err(|source| HelloError::System { action: "draw random bytes", source })
}

/// What a node greets with.
#[derive(Debug)]
pub struct Greeting<'a> {
    /// The run's secret.
    pub token: &'a Token,
    /// What this side is about to do.
    pub hello: Hello,
    /// The longest wait on the link that comes of it.
    pub timeout: Duration,
}

impl Greeting<'_> {
    /// Connects to the destination at `address`. Each connection is handed to `set_up` before anything is sent or
    /// received, which also says what fault it has planted there. Gives the nanoseconds that an answer took, too.
    ///
    /// # Errors
    /// When nobody or somebody else listens there, or the two sides differ.
    pub fn connect(
        &self,
        address: &LinkAddress,
        set_up: &mut dyn FnMut(&mut Link) -> Option<Action>,
    ) -> Result<(Link, u64), HelloError> {
        let mut patience = Patience::new(ADMISSION_DUE);
        let mut closed = None;
        loop {
            let mut link = match address.connect(self.timeout) {
                Ok(link) => link,
                // That the first connection was closed tells more than that a second cannot be had.
                Err(error) => return Err(closed.unwrap_or(error.into())),
            };
            let planted = set_up(&mut link);
            match self.greet_destination(&mut link, address, &mut patience) {
                // A destination that strangers flood closes connections without a proof.
                Err(error) if error.is_closed() && planted.is_none() && !patience.is_over() => {
                    closed.get_or_insert(error);
                    std::thread::sleep(LOOK);
                }
                greeted => return greeted.map(|round_trip| (link, round_trip)),
            }
        }
    }

    fn greet_destination(
        &self,
        link: &mut Link,
        address: &LinkAddress,
        patience: &mut Patience,
    ) -> Result<u64, HelloError> {
        let (destination, _) = take(&receive(link, 0, patience)?)?;
        let nonces = Nonces { destination, source: nonce()? };
        let hello = self.hello.to_json()?;
        let proof = self.token.proof(Role::Source, &nonces, &hello);
        let asked = clock::now();
        link.send(FrameKind::Hello, &[&nonces.source, proof.as_bytes(), &hello])?;
        let answer = receive(link, 1, patience)?;
        let round_trip = clock::now() - asked;
        let (proof, hello) = take(&answer)?;
        if !self.token.proves(proof, Role::Destination, &nonces, hello) {
            return Err(HelloError::Impostor(address.to_string()));
        }
        self.hello.compare(hello).map(|()| round_trip)
    }

    /// Waits for the source for at most `wait`. Others may connect meanwhile, say anything or nothing: they are closed
    /// and hold nobody up. From the moment that the source is known nobody listens any more. Each connection is handed to
    /// `set_up` before anything is sent or received.
    ///
    /// # Errors
    /// When the source does not come, the runner says that it will not, or no link can be set up like that.
    pub fn admit(
        &self,
        listener: LinkListener,
        control: &mut ControlSocket,
        wait: Duration,
        set_up: &mut dyn FnMut(&mut Link) -> Result<(), LinkError>,
    ) -> Result<Caller, HelloError> {
        let mut patience = Patience::new(wait);
        let mut pending: Vec<Pending> = Vec::with_capacity(PENDING);
        let mut refused = 0;
        loop {
            let half = pending.iter().any(|caller| caller.part).then_some(LOOK);
            let ready =
                wait_for(&listener, control, &pending, patience.next_look().min(half.unwrap_or(wait)))?;
            let mut kept = Vec::with_capacity(PENDING);
            for (caller, ready) in pending.into_iter().zip(ready.pending) {
                match caller.listen(self.token, ready) {
                    Ok(Heard::Proof(caller)) => return Ok(caller),
                    Ok(Heard::Nothing(caller)) => kept.push(caller),
                    Err(_) => refused += 1,
                }
            }
            pending = kept;
            if ready.control {
                return Err(match control.receive()? {
                    Order::SourceEnded => HelloError::SourceEnded,
                    other => ProtocolError::Unexpected(format!("{other:?}")).into(),
                });
            }
            let accepted = if ready.listener { ACCEPTED_AT_ONCE } else { 0 };
            for _ in 0..accepted {
                let Some(mut link) = listener.accept_waiting(self.timeout)? else { break };
                match set_up(&mut link) {
                    Ok(()) => {}
                    // It is this connection that failed, which may be anybody's.
                    Err(LinkError::Io { .. }) => {
                        refused += 1;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                if pending.len() == PENDING {
                    // Any one: were it the oldest, a source far away were always it.
                    let drawn = RandomState::new().hash_one(refused);
                    pending.swap_remove(usize::try_from(drawn % PENDING as u64).unwrap_or(0));
                    refused += 1;
                }
                match Pending::challenge(link) {
                    Ok(caller) => pending.push(caller),
                    Err(_) => refused += 1,
                }
            }
            if patience.is_over() {
                refused += pending.len() as u64;
                return Err(HelloError::Nobody { waited: wait, refused });
            }
        }
    }
}

/// The payload of the `Hello` frame of that `number`, which must come while there is `patience`, of `ADMISSION_DUE`.
fn receive(link: &mut Link, number: u64, patience: &mut Patience) -> Result<Vec<u8>, HelloError> {
    loop {
        match look(link, number)? {
            Seen::Whole { .. } => break,
            _ if patience.is_over() => return Err(HelloError::Late(ADMISSION_DUE)),
            Seen::Nothing => {
                link.wait(patience.next_look())?;
            }
            Seen::Part => std::thread::sleep(LOOK.min(patience.next_look())),
        }
    }
    let frame = link.recv()?;
    match frame.kind {
        FrameKind::Hello => Ok(frame.payload.to_vec()),
        FrameKind::Abort => Err(HelloError::Refused(printable(frame.payload))),
        found => Err(HelloError::OutOfOrder(found)),
    }
}

/// What a wait found.
struct Readable {
    listener: bool,
    control: bool,
    /// In the order of the connections.
    pending: Vec<PollFlags>,
}

/// Waits until something happens, for at most `look`.
fn wait_for(
    listener: &LinkListener,
    control: &ControlSocket,
    pending: &[Pending],
    look: Duration,
) -> Result<Readable, HelloError> {
    let reading = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds: Vec<PollFd<'_>> = [reading(listener.as_fd()), reading(control.as_fd())].into();
    fds.extend(pending.iter().map(|caller| PollFd::new(caller.fd(), caller.awaited())));
    let left = if control.has_buffered() { Duration::ZERO } else { look };
    // Rounded up, so that a wait of less than a millisecond is not a busy loop.
    let millis = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => {
            return Err(HelloError::System { action: "wait for connections", source: errno.into() });
        }
    }
    let mut found = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let mut next = || found.next().is_some_and(|flags| !flags.is_empty());
    let (listener, control) = (next(), next() || control.has_buffered());
    Ok(Readable { listener, control, pending: found.collect() })
}

/// A connection of which nobody knows yet whose it is.
struct Pending {
    link: Link,
    nonce: [u8; BYTES],
    /// Until it is closed.
    patience: Patience,
    /// Part of a frame has come.
    part: bool,
}

/// What became of a connection.
enum Heard {
    Nothing(Pending),
    Proof(Caller),
}

impl Pending {
    /// Asks for a proof.
    fn challenge(mut link: Link) -> Result<Self, HelloError> {
        let nonce = nonce()?;
        link.send(FrameKind::Hello, &[&nonce])?;
        Ok(Self { link, nonce, patience: Patience::new(PROOF_DUE), part: false })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Its end is always noticed.
    const fn awaited(&self) -> PollFlags {
        if self.part { PollFlags::empty() } else { PollFlags::POLLIN }
    }

    /// # Errors
    /// When it is to be closed.
    fn listen(mut self, token: &Token, ready: PollFlags) -> Result<Heard, HelloError> {
        if ready.is_empty() && !self.part {
            return self.kept();
        }
        let payload = match look(&self.link, 0)? {
            Seen::Whole { kind: FrameKind::Hello, payload } => payload,
            Seen::Whole { kind, .. } => return Err(HelloError::OutOfOrder(kind)),
            _ if ready.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) => {
                return Err(LinkError::Closed { doing: GREETING, offset: 0 }.into());
            }
            Seen::Nothing => return self.kept(),
            Seen::Part => {
                self.part = true;
                return self.kept();
            }
        };
        let (source, rest) = take(&payload)?;
        let (proof, hello) = take(rest)?;
        let nonces = Nonces { destination: self.nonce, source };
        if !token.proves(proof, Role::Source, &nonces, hello) {
            // A source of another run should know, rather than try again.
            abort(&mut self.link, "the token is not that of this run");
            return Err(HelloError::Token);
        }
        let hello = hello.to_vec();
        self.link.recv()?;
        Ok(Heard::Proof(Caller { link: self.link, nonces, hello }))
    }

    fn kept(mut self) -> Result<Heard, HelloError> {
        if self.patience.is_over() { Err(HelloError::Late(PROOF_DUE)) } else { Ok(Heard::Nothing(self)) }
    }
}

/// The source, which waits for the answer to its greeting.
#[derive(Debug)]
pub struct Caller {
    link: Link,
    nonces: Nonces,
    hello: Vec<u8>,
}

impl Caller {
    /// A way to break its link, for tests.
    #[must_use]
    pub fn saboteur(&self) -> Saboteur {
        self.link.saboteur()
    }

    /// Answers, and compares what both sides are about to do; so does the source.
    ///
    /// # Errors
    /// When the source is gone, or the two sides differ.
    pub fn answer(mut self, greeting: &Greeting<'_>) -> Result<Link, HelloError> {
        let hello = greeting.hello.to_json()?;
        let proof = greeting.token.proof(Role::Destination, &self.nonces, &hello);
        self.link.send(FrameKind::Hello, &[proof.as_bytes(), &hello])?;
        greeting.hello.compare(&self.hello)?;
        Ok(self.link)
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
