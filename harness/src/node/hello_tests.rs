//! Greetings over both kinds of socket, and strangers in every disguise: none is let in, and none keeps the source out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Mutex;
use std::thread;

use migbench_scenarios::cell::{self, Transport};

use super::*;
use crate::wire::frame::encode_header;

const LONG: Duration = Duration::from_secs(60);

fn hello() -> Hello {
    Hello {
        frames: frame::VERSION,
        pages: 8192,
        vcpus: 2,
        engine: Engine::Delta,
        codec: Codec::Xbzrle,
        cache: Cache::Shadow,
        checksum: Checksum::Header,
        proof: Proof::First,
        verify: true,
    }
}

fn greeting(token: &Token) -> Greeting<'_> {
    Greeting { token, hello: hello(), timeout: LONG }
}

fn source(token: &Token, address: &LinkAddress) -> Result<Link, HelloError> {
    greeting(token).connect(address, &mut |_| None).map(|(link, _)| link)
}

/// A destination that waits in a thread, with the runner's end of its control socket.
struct Waiting {
    address: LinkAddress,
    runner: ControlSocket,
    thread: thread::JoinHandle<Result<Link, HelloError>>,
}

fn destination_of(transport: Transport, token: &Token, hello: Hello, wait: Duration) -> Waiting {
    let listener = LinkListener::bind(&cell::LinkSettings::unlimited(transport)).unwrap();
    let address = listener.address().clone();
    let (runner, node) = UnixStream::pair().unwrap();
    let (token, mut control) = (token.clone(), ControlSocket::new(node).unwrap());
    let thread = thread::spawn(move || {
        let greeting = Greeting { token: &token, hello, timeout: LONG };
        greeting.admit(listener, &mut control, wait, &mut |_| Ok(()))?.answer(&greeting)
    });
    Waiting { address, runner: ControlSocket::new(runner).unwrap(), thread }
}

fn destination(transport: Transport, token: &Token) -> Waiting {
    destination_of(transport, token, hello(), LONG)
}

impl Waiting {
    fn end(self) -> Result<Link, HelloError> {
        self.thread.join().unwrap()
    }

    /// The right source is let in, and the link works.
    fn assert_admits(self, token: &Token) {
        let mut here = source(token, &self.address).unwrap();
        let mut there = self.end().unwrap();
        here.send(FrameKind::State, &[b"to the destination"]).unwrap();
        assert_eq!(there.recv().unwrap().payload, b"to the destination");
        there.send(FrameKind::Ready, &[]).unwrap();
        assert_eq!(here.recv().unwrap().kind, FrameKind::Ready);
    }
}

/// A connection that knows nothing of frames.
fn stranger(address: &LinkAddress) -> Box<dyn ReadWrite> {
    match address {
        LinkAddress::Unix { name } => {
            let address = SocketAddr::from_abstract_name(name).unwrap();
            let stream = UnixStream::connect_addr(&address).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            Box::new(stream)
        }
        LinkAddress::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            Box::new(stream)
        }
        LinkAddress::Path { .. } | LinkAddress::Netns { .. } => unreachable!("no test binds there"),
    }
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// The destination's first frame.
fn challenge(stranger: &mut dyn ReadWrite) -> Vec<u8> {
    let mut frame = [0; HEADER + BYTES];
    stranger.read_exact(&mut frame).unwrap();
    frame.to_vec()
}

/// Requires that the destination closes the connection, and gives what it said before.
fn last_words(stranger: &mut dyn ReadWrite) -> Vec<u8> {
    let mut said = Vec::new();
    // Bytes that were not read make a reset of it.
    match stranger.read_to_end(&mut said) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("it is still open: {error}"),
        _ => said,
    }
}

fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    [&encode_header(kind, 0, [payload], 0).unwrap()[..], payload].concat()
}

fn each_transport(test: impl Fn(Transport)) {
    [Transport::Unix, Transport::Tcp].into_iter().for_each(test);
}

#[test]
fn nodes_of_a_run_know_each_other() {
    each_transport(|transport| {
        let token = Token::random().unwrap();
        destination(transport, &token).assert_admits(&token);
    });
}

#[test]
fn a_token_goes_over_the_control_socket_and_is_not_shown() {
    let token = Token::random().unwrap();
    let json = serde_json::to_string(&token).unwrap();
    assert_eq!(json.len(), 66);
    assert_eq!(serde_json::from_str::<Token>(&json).unwrap().0, token.0);
    assert_ne!(Token::random().unwrap().0, token.0);
    assert_eq!(format!("{token:?}"), "Token");
    for bad in ["\"\"", "\"00\"", &json.replace('"', "")[..], &json.replacen(|c: char| c != '"', "x", 1)] {
        let error = serde_json::from_str::<Token>(bad);
        assert!(error.is_err(), "{bad}");
    }
}

/// Both sides name the first field in which they differ, with both values.
#[test]
fn nodes_that_mean_different_things_say_so() {
    let token = Token::random().unwrap();
    let there = Hello { pages: 4096, codec: Codec::None, cache: Cache::None, ..hello() };
    let waiting = destination_of(Transport::Unix, &token, there, LONG);
    let here = source(&token, &waiting.address).unwrap_err().to_string();
    assert_eq!(
        here,
        "source and destination differ in pages of guest memory: 8192 here, 4096 on the other side"
    );
    assert_eq!(
        waiting.end().unwrap_err().to_string(),
        "source and destination differ in pages of guest memory: 4096 here, 8192 on the other side"
    );

    let variants: [fn(&mut Hello); 9] = [
        |hello| hello.frames += 1,
        |hello| hello.pages += 1,
        |hello| hello.vcpus += 1,
        |hello| hello.engine = Engine::Full,
        |hello| hello.codec = Codec::None,
        |hello| hello.cache = Cache::None,
        |hello| hello.checksum = Checksum::Pages,
        |hello| hello.proof = Proof::Every,
        |hello| hello.verify = false,
    ];
    for (change, (field, _)) in variants.into_iter().zip(hello().fields()) {
        let mut other = hello();
        change(&mut other);
        let error = hello().compare(&other.to_json().unwrap()).unwrap_err();
        assert!(matches!(error, HelloError::Differs { field: found, .. } if found == field), "{error}");
    }
    let later = br#"{"frames":1,"col\u001bour":"blue"}"#;
    let error = hello().compare(later).unwrap_err().to_string();
    let shown = r"the other side's greeting cannot be read: unknown field `col\u{1b}our`";
    assert!(error.starts_with(shown), "{error}");
}

#[test]
fn a_source_of_another_run_is_turned_away_and_the_right_one_admitted() {
    each_transport(|transport| {
        let (token, other) = (Token::random().unwrap(), Token::random().unwrap());
        let waiting = destination(transport, &token);
        let error = source(&other, &waiting.address).unwrap_err().to_string();
        assert_eq!(error, "the other side refused the greeting: the token is not that of this run");
        waiting.assert_admits(&token);
    });
}

/// They stay connected while the source comes, and come before it.
#[test]
fn strangers_keep_nobody_out() {
    each_transport(|transport| {
        let token = Token::random().unwrap();
        let waiting = destination(transport, &token);
        let connect = || {
            let mut stranger = stranger(&waiting.address);
            challenge(&mut *stranger);
            stranger
        };
        let mut open = Vec::new();
        for _ in 0..20 {
            // A port scan, and somebody who says nothing.
            drop(stranger(&waiting.address));
            open.push(connect());
        }
        // Half a header, half a frame, and a frame that never ends.
        let whole = frame(FrameKind::Hello, &[7; 1000]);
        for part in [&whole[..1], &whole[..HEADER - 1], &whole[..HEADER], &whole[..HEADER + 999]] {
            let mut trickling = connect();
            trickling.write_all(part).unwrap();
            open.push(trickling);
        }
        for said in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            &[0; 100_000],
            &frame(FrameKind::Commit, &[]),
            &frame(FrameKind::Pages, &[0; 8]),
            &frame(FrameKind::Hello, &[]),
            &frame(FrameKind::Hello, &[0; BYTES]),
            &frame(FrameKind::Hello, &[0; 2 * BYTES]),
            &frame(FrameKind::Hello, &[0xff; MAX_HELLO]),
            // Longer than a greeting: not even waited for.
            &encode_header(FrameKind::Pages, 0, [&[0; MAX_HELLO + 1][..]], 0).unwrap(),
            // The second of its direction.
            &encode_header(FrameKind::Hello, 1, [], 0).unwrap(),
        ] {
            let mut talking = connect();
            // It may be closed before it has said all.
            let _ = talking.write_all(said);
            last_words(&mut *talking);
        }
        waiting.assert_admits(&token);
        for mut stranger in open {
            assert!(last_words(&mut *stranger).is_empty(), "closed without a word");
        }
    });
}

#[test]
fn a_flood_of_silent_connections_keeps_nobody_out() {
    each_transport(|transport| {
        let token = Token::random().unwrap();
        let waiting = destination(transport, &token);
        let connected: Vec<_> = (0..3 * PENDING).map(|_| stranger(&waiting.address)).collect();
        waiting.assert_admits(&token);
        drop(connected);
    });
}

/// The bytes of a source's greeting, as they crossed the link.
fn recorded(transport: Transport, token: &Token) -> Vec<u8> {
    let waiting = destination(transport, token);
    let middle = LinkListener::bind(&cell::LinkSettings::unlimited(transport)).unwrap();
    let address = middle.address().clone();
    let there = waiting.address.clone();
    let recording = thread::spawn(move || {
        let near = middle.accept(LONG).unwrap();
        let mut far = stranger(&there);
        let pass_on = |frame: &[u8]| {
            nix::sys::socket::send(near.as_fd().as_raw_fd(), frame, MsgFlags::MSG_NOSIGNAL).unwrap();
        };
        pass_on(&challenge(&mut *far));
        let mut room = [0; HEADER + MAX_HELLO];
        let mut said = Vec::new();
        while super::frame::decode(&said, 0, 0).is_err() {
            let read = recv(near.as_fd().as_raw_fd(), &mut room, MsgFlags::empty()).unwrap();
            said.extend_from_slice(&room[..read]);
        }
        far.write_all(&said).unwrap();
        let mut answer = Vec::new();
        while super::frame::decode(&answer, 0, 1).is_err() {
            let read = far.read(&mut room).unwrap();
            answer.extend_from_slice(&room[..read]);
        }
        pass_on(&answer);
        said
    });
    source(token, &address).unwrap();
    waiting.end().unwrap();
    recording.join().unwrap()
}

/// Not even of a run with the same token: each connection has a nonce of its own.
#[test]
fn a_recorded_greeting_is_worth_nothing() {
    each_transport(|transport| {
        let token = Token::random().unwrap();
        let recorded = recorded(transport, &token);
        for token in [token, Token::random().unwrap()] {
            let waiting = destination(transport, &token);
            let mut replaying = stranger(&waiting.address);
            challenge(&mut *replaying);
            replaying.write_all(&recorded).unwrap();
            let words = last_words(&mut *replaying);
            let refused = super::frame::decode(&words, 0, 1).map(|frame| frame.kind);
            assert!(matches!(refused, Ok(FrameKind::Abort)), "{refused:?}");
            waiting.assert_admits(&token);
        }
    });
}

/// Whoever listens in the destination's place learns no token and is found out.
#[test]
fn a_source_speaks_to_its_own_destination_only() {
    let token = Token::random().unwrap();
    // What the impostor answers to a greeting: the source's own words, or some of somebody else.
    type Answer = fn(&[u8]) -> Vec<u8>;
    let answers: [Answer; 3] = [
        |said| said[BYTES..].to_vec(),
        |said| [&[0; BYTES], &said[2 * BYTES..]].concat(),
        |said| {
            let nonces = Nonces { destination: [9; BYTES], source: said[..BYTES].try_into().unwrap() };
            let proof = Token::random().unwrap().proof(Role::Destination, &nonces, &said[2 * BYTES..]);
            [proof.as_bytes(), &said[2 * BYTES..]].concat()
        },
    ];
    for answer in answers {
        let listener = LinkListener::bind(&cell::LinkSettings::unlimited(Transport::Tcp)).unwrap();
        let address = listener.address().clone();
        let impostor = thread::spawn(move || {
            let mut link = listener.accept(LONG).unwrap();
            link.send(FrameKind::Hello, &[&[9; BYTES]]).unwrap();
            let said = link.recv().unwrap().payload.to_vec();
            link.send(FrameKind::Hello, &[&answer(&said)]).unwrap();
            assert!(link.recv().is_err(), "nothing follows");
            said
        });
        let error = source(&token, &address).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "what listens at {address} does not know this run's token: it is not the destination of this run"
            )
        );
        let said = impostor.join().unwrap();
        assert!(!said.windows(BYTES).any(|part| part == token.0), "the token was sent");
    }
}

#[test]
fn a_listener_that_speaks_something_else_is_named() {
    let token = Token::random().unwrap();
    let greeted_with = |said: Vec<u8>| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let speaking = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&said).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = source(&token, &LinkAddress::Tcp { host: "127.0.0.1".to_owned(), port }).unwrap_err();
        speaking.join().unwrap();
        error.to_string()
    };
    let error = greeted_with(b"SSH-2.0-OpenSSH_9.2 and more than a header\r\n".to_vec());
    assert!(
        error.starts_with("bad frame at byte 0 of the stream: it starts with [53, 53, 48, 2d]"),
        "{error}"
    );
    let error = greeted_with(frame(FrameKind::Done, &[]));
    assert_eq!(error, "a Done frame came where Hello was due");
    let error = greeted_with(frame(FrameKind::Hello, &[1; 5]));
    assert_eq!(error, "a greeting of 5 bytes came, which is none");
    let error = greeted_with(frame(FrameKind::Abort, b"not \x1b[31mtoday"));
    assert_eq!(error, "the other side refused the greeting: not \\u{1b}[31mtoday");
    let long = encode_header(FrameKind::Pages, 0, [&[0; MAX_HELLO + 1][..]], 0).unwrap();
    let error = greeted_with(long.to_vec());
    assert!(error.contains("it ends after"), "{error}");
}

#[test]
fn one_source_is_admitted_and_a_second_one_is_not() {
    each_transport(|transport| {
        let token = Token::random().unwrap();
        let waiting = destination(transport, &token);
        let address = waiting.address.clone();
        let admitted = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| admitted.lock().unwrap().extend(source(&token, &address)));
            }
        });
        let mut admitted = admitted.into_inner().unwrap();
        assert_eq!(admitted.len(), 1);
        let mut there = waiting.end().unwrap();
        let error = source(&token, &address).unwrap_err();
        assert!(matches!(error, HelloError::Link(LinkError::Connect { .. })), "{error}");
        admitted[0].send(FrameKind::Done, &[]).unwrap();
        assert_eq!(there.recv().unwrap().kind, FrameKind::Done);
    });
}

/// A connection may be closed for others that came after it; the source comes again.
#[test]
fn a_source_that_is_closed_for_others_comes_again() {
    let token = Token::random().unwrap();
    let listener = LinkListener::bind(&cell::LinkSettings::unlimited(Transport::Unix)).unwrap();
    let address = listener.address().clone();
    let (_runner, node) = UnixStream::pair().unwrap();
    let mut control = ControlSocket::new(node).unwrap();
    thread::scope(|scope| {
        let coming = scope.spawn(|| source(&token, &address));
        for _ in 0..3 {
            drop(listener.accept(LONG).unwrap());
        }
        let greeting = greeting(&token);
        let caller = greeting.admit(listener, &mut control, LONG, &mut |_| Ok(())).unwrap();
        caller.answer(&greeting).unwrap();
        coming.join().unwrap().unwrap();
    });

    // A link that a fault has closed stays closed.
    let waiting = destination(Transport::Unix, &token);
    let mut connections = 0;
    let error = greeting(&token).connect(&waiting.address, &mut |link| {
        connections += 1;
        link.saboteur().close();
        Some(Action::Close)
    });
    assert!(error.unwrap_err().is_closed());
    assert_eq!(connections, 1);
    waiting.assert_admits(&token);
}

#[test]
fn the_wait_ends_when_its_time_is_over_or_the_runner_says_so() {
    let token = Token::random().unwrap();
    let waiting = destination_of(Transport::Unix, &token, hello(), Duration::from_millis(50));
    let error = waiting.end().unwrap_err().to_string();
    assert_eq!(error, "the source did not connect within 50ms; 0 connections without a proof were closed");

    let mut waiting = destination(Transport::Unix, &token);
    let mut silent = stranger(&waiting.address);
    challenge(&mut *silent);
    waiting.runner.send(&Order::SourceEnded).unwrap();
    assert!(matches!(waiting.end(), Err(HelloError::SourceEnded)));
    assert!(last_words(&mut *silent).is_empty());

    // An order that came in one piece with the one before it is in no socket any more.
    let (mut runner, node) =
        UnixStream::pair().map(|(one, other)| (ControlSocket::new(one).unwrap(), other)).unwrap();
    runner.send(&Order::Migrate { address: None }).unwrap();
    runner.send(&Order::SourceEnded).unwrap();
    let mut control = ControlSocket::new(node).unwrap();
    assert!(matches!(control.receive::<Order>().unwrap(), Order::Migrate { .. }));
    let listener = LinkListener::bind(&cell::LinkSettings::unlimited(Transport::Unix)).unwrap();
    let admitted = greeting(&token).admit(listener, &mut control, LONG, &mut |_| Ok(()));
    assert!(matches!(admitted, Err(HelloError::SourceEnded)));

    let waiting = destination(Transport::Unix, &token);
    drop(waiting.runner);
    assert!(matches!(waiting.thread.join().unwrap(), Err(HelloError::Protocol(ProtocolError::Closed))));
}

#[test]
fn a_connection_that_cannot_be_set_up_is_closed_and_a_link_that_cannot_be_is_named() {
    let token = Token::random().unwrap();
    let admit = |set_up: &mut (dyn FnMut(&mut Link) -> Result<(), LinkError> + Send)| {
        let listener = LinkListener::bind(&cell::LinkSettings::unlimited(Transport::Unix)).unwrap();
        let address = listener.address().clone();
        let (_runner, node) = UnixStream::pair().unwrap();
        let mut control = ControlSocket::new(node).unwrap();
        let greeting = greeting(&token);
        thread::scope(|scope| {
            let coming = scope.spawn(|| source(&token, &address));
            let caller = greeting.admit(listener, &mut control, LONG, set_up)?;
            caller.answer(&greeting)?;
            coming.join().unwrap().map(drop)
        })
    };
    // The first is a stranger's for all that is known; the source comes again.
    let mut first = true;
    admit(&mut |_| match std::mem::take(&mut first) {
        true => Err(LinkError::Io { doing: "setting up the socket", source: Errno::ECONNRESET.into() }),
        false => Ok(()),
    })
    .unwrap();
    let error = admit(&mut |_| Err(LinkError::DelayWithoutRate)).unwrap_err();
    assert!(matches!(error, HelloError::Link(LinkError::DelayWithoutRate)), "{error}");
}

/// Whatever it says until then.
#[test]
fn a_connection_without_a_proof_is_closed_in_the_end() {
    let token = Token::random().unwrap();
    for said in [&[][..], b"MIGB"] {
        let (link, there) = Link::pair(LONG).unwrap();
        let pending = Pending { link, nonce: [0; BYTES], patience: Patience::new(LONG), part: false };
        nix::sys::socket::send(there.as_fd().as_raw_fd(), said, MsgFlags::empty()).unwrap();
        let Ok(Heard::Nothing(mut pending)) = pending.listen(&token, PollFlags::POLLIN) else {
            panic!("it has time");
        };
        assert_eq!(pending.part, !said.is_empty());
        assert_eq!(pending.awaited().is_empty(), pending.part, "half a frame does not wake anybody");
        pending.patience = Patience::new(Duration::ZERO);
        assert!(matches!(pending.listen(&token, PollFlags::POLLIN), Err(HelloError::Late(_))));
    }
}
