//! Others on the host connect to the destination of a real run, say anything or nothing, and replay what they have recorded:
//! the run ends as it would have without them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use migbench::node::hello::Token;
use migbench::node::protocol::{ControlSocket, Message, Order, Role, read_line};
use migbench::sys::memory::leave_open;
use migbench::wire::address::LinkAddress;
use migbench_reports::record::{Record, RunKind, Status};
use migbench_scenarios::cell::{Cell, LinkSettings, Transport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::support::{self, Migbench, SHORT, assert_nothing_left, marked, require_kvm, skip, validated};

const LONG: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_534;

/// A socket of either kind.
trait AnySocket: Read + Write + Send {}
impl<T: Read + Write + Send> AnySocket for T {}

fn connect(address: &LinkAddress) -> Box<dyn AnySocket> {
    match address {
        LinkAddress::Unix { name } => {
            let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            Box::new(stream)
        }
        LinkAddress::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            Box::new(stream)
        }
        LinkAddress::Path { .. } | LinkAddress::Netns { .. } => unreachable!("no test attacks it there"),
    }
}

/// Waits for the other side to close.
fn closed(mut socket: Box<dyn AnySocket>) {
    match socket.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("still open: {error}"),
        _ => {}
    }
}

/// Where one of these processes listens, and which one: the kernel shows everybody.
fn listener(processes: &[u32], transport: Transport) -> Option<(u32, LinkAddress)> {
    match transport {
        // Nobody outside of the run can reach it.
        Transport::Netns => None,
        Transport::Unix => {
            let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
            sockets.lines().find_map(|line| {
                let name = line.split_whitespace().nth(7)?.strip_prefix('@')?;
                let pid = name.strip_prefix("migbench-")?.split('-').next()?.parse().ok()?;
                processes.contains(&pid).then(|| (pid, LinkAddress::Unix { name: name.to_owned() }))
            })
        }
        Transport::Tcp => {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
            sockets.lines().find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // State 0A is LISTEN.
                if fields.get(3) != Some(&"0A") {
                    return None;
                }
                let port = u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok()?;
                let socket = format!("socket:[{}]", fields[9]);
                let pid = *processes.iter().find(|&&pid| has_open(pid, &socket))?;
                Some((pid, LinkAddress::Tcp { host: "127.0.0.1".to_owned(), port }))
            })
        }
    }
}

fn has_open(pid: u32, socket: &str) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(socket)))
}

/// The nodes among these processes.
pub fn nodes(processes: &[u32]) -> Vec<u32> {
    let is_node = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).nth(1) == Some(b"node")
    };
    processes.iter().copied().filter(is_node).collect()
}

/// A migration whose destination is attacked while it waits: its source stands still meanwhile, so that it cannot be over
/// before, however busy the host is. What the attack gives is kept until the end.
fn attacked<T>(transport: Transport, attack: impl FnOnce(&LinkAddress) -> T) -> Record {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("record.json");
    let (child, mark) = Migbench::new()
        .args(["migrate", "--memory", "32MiB", "--verify", "--transport", transport.word(), "--json"])
        .args([&path])
        .args(SHORT)
        .args(["--set", "windows.steady=500ms"])
        .start();
    let patience = Instant::now() + LONG;
    let (destination, address) = loop {
        if let Some(found) = listener(&marked(&mark), transport) {
            break found;
        }
        assert!(Instant::now() < patience, "nobody listens");
        std::thread::sleep(Duration::from_millis(2));
    };
    let source = nodes(&marked(&mark)).into_iter().find(|&pid| pid != destination).unwrap();
    let stopped = Stopped::new(source);
    let kept = attack(&address);
    drop(stopped);
    let output = child.wait_with_output().unwrap();
    drop(kept);
    assert_nothing_left(&mark);
    let said = String::from_utf8_lossy(&output.stderr);
    let record = validated(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {said}")));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {said}{shown}", output.status);
    record
}

/// A process that stands still until this is dropped, also by a test that fails.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// All of the guest's memory is at the destination as the source had it, and one guest runs.
fn assert_undisturbed(record: &Record) {
    assert_eq!((record.status, record.kind), (Status::Ok, RunKind::Verification), "{:?}", record.error);
    assert!(record.error.is_none());
    assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)));
}

fn each_transport(test: impl Fn(Transport)) {
    [Transport::Unix, Transport::Tcp].into_iter().for_each(test);
}

#[test]
fn port_scans_and_silence_do_not_matter() {
    require_kvm!();
    each_transport(|transport| {
        let record = attacked(transport, |address| {
            (0..50).for_each(|_| drop(connect(address)));
            (0..20).map(|_| connect(address)).collect::<Vec<_>>()
        });
        assert_undisturbed(&record);
    });
}

#[test]
fn a_flood_of_connections_does_not_matter() {
    require_kvm!();
    each_transport(|transport| {
        let record = attacked(transport, |address| (0..200).map(|_| connect(address)).collect::<Vec<_>>());
        assert_undisturbed(&record);
    });
}

#[test]
fn nonsense_does_not_matter() {
    require_kvm!();
    each_transport(|transport| {
        let record = attacked(transport, |address| {
            for said in [&b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"[..], &[0; 36], &[0x55; 1_000_000]] {
                let mut socket = connect(address);
                let _ = socket.write_all(said);
                closed(socket);
            }
        });
        assert_undisturbed(&record);
    });
}

/// A byte now and then, of what could become a frame.
#[test]
fn somebody_who_speaks_slowly_does_not_matter() {
    require_kvm!();
    each_transport(|transport| {
        let record = attacked(transport, |address| {
            let mut slow = connect(address);
            slow.write_all(b"M").unwrap();
            std::thread::spawn(move || {
                let mut rest = b"IGB\x01\x01".iter().cycle();
                while slow.write_all(&[*rest.next().unwrap()]).is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        });
        assert_undisturbed(&record);
    });
}

/// What a source has sent in an earlier run, from the greeting to the last byte.
fn recorded(transport: Transport) -> Vec<u8> {
    let cell = Cell { link: LinkSettings { transport, ..support::cell().link }, ..support::cell() };
    let token = Token::random().unwrap();
    let memory = support::telemetry_file();
    let telemetry = leave_open(&memory).unwrap();
    let start = |role| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(assert_cmd::cargo::cargo_bin!("migbench"))
            .args(["node", "--control", &leave_open(&theirs).unwrap().to_string()])
            .spawn()
            .unwrap();
        let mut control = ControlSocket::new(ours).unwrap();
        let assignment = crate::support::node_assignment(role, &cell, telemetry, &token);
        control.send(&Order::Prepare(Box::new(assignment))).unwrap();
        (Ended(child), control)
    };
    let (_destination, mut destination) = start(Role::Destination);
    let (_source, mut source) = start(Role::Source);
    let Message::Listening { address } = destination.receive().unwrap() else { panic!("it listens first") };
    let (middle, recording) = man_in_the_middle(address);
    let Message::Steady = source.receive().unwrap() else { panic!("the source is steady first") };
    source.send(&Order::Migrate { address: Some(middle) }).unwrap();
    let mut said = source.into_reader();
    let report = loop {
        if let Message::Source(report) = read_line(&mut said, 1 << 30).unwrap() {
            break report;
        }
    };
    assert!(report.failure.is_none() && report.handed_over, "{:?}", report.failure);
    recording.join().unwrap()
}

/// A node that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes on what two nodes say to each other, and gives what came from the one that connects.
fn man_in_the_middle(there: LinkAddress) -> (LinkAddress, std::thread::JoinHandle<Vec<u8>>) {
    type Sockets = (OwnedFd, OwnedFd);
    let (address, accept): (LinkAddress, Box<dyn FnOnce() -> Sockets + Send>) = match there {
        LinkAddress::Unix { name } => {
            let here = format!("{name}-recorded");
            let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&here).unwrap()).unwrap();
            let accept = move || {
                let far = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
                (listener.accept().unwrap().0.into(), far.into())
            };
            (LinkAddress::Unix { name: here }, Box::new(accept))
        }
        LinkAddress::Tcp { host, port } => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let here = listener.local_addr().unwrap().port();
            let address = LinkAddress::Tcp { host: host.clone(), port: here };
            let accept = move || {
                let far = TcpStream::connect((host.as_str(), port)).unwrap();
                (listener.accept().unwrap().0.into(), far.into())
            };
            (address, Box::new(accept))
        }
        LinkAddress::Path { .. } | LinkAddress::Netns { .. } => unreachable!("no test records there"),
    };
    let recording = std::thread::spawn(move || {
        let (near, far) = accept();
        let (answers, to_source) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        std::thread::spawn(move || {
            std::io::copy(&mut std::fs::File::from(answers), &mut std::fs::File::from(to_source))
        });
        let (mut near, mut far) = (std::fs::File::from(near), std::fs::File::from(far));
        let (mut recorded, mut room) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(read @ 1..) = near.read(&mut room) {
            recorded.extend_from_slice(&room[..read]);
            // Commit is the last frame; the destination may be gone when the source closes.
            let _ = far.write_all(&room[..read]);
        }
        recorded
    });
    (address, recording)
}

/// A stream with all that a destination asks for, but of another run.
#[test]
fn a_replayed_migration_starts_no_second_guest() {
    require_kvm!();
    each_transport(|transport| {
        let recorded = recorded(transport);
        assert!(recorded.len() > 4 << 20, "{} bytes of pages", recorded.len());
        let record = attacked(transport, |address| {
            for _ in 0..3 {
                let mut socket = connect(address);
                // It is closed in the middle.
                let _ = socket.write_all(&recorded);
                closed(socket);
            }
        });
        assert_undisturbed(&record);
    });
}

/// Does that to a socket in the abstract namespace as the user nobody, and gives the process, which says what came of it.
fn as_nobody(program: &str, name: &str) -> Option<Child> {
    if !geteuid().is_root() {
        skip("only root can be somebody else");
        return None;
    }
    let socket = r#"socket(S, 1, 1, 0) or die; my $address = pack("S a*", 1, "\0$ARGV[0]"); $| = 1;"#;
    let spawned = Command::new("perl")
        .args(["-e", &format!("{socket} {program}"), name])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    match spawned {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip("there is no perl to be somebody else with");
            None
        }
        Err(error) => panic!("perl: {error}"),
    }
}

#[test]
fn another_user_does_not_matter() {
    require_kvm!();
    let record = attacked(Transport::Unix, |address| {
        let LinkAddress::Unix { name } = address else { panic!("{address}") };
        let connecting =
            "connect(S, $address) or die $!; my $n = sysread(S, my $said, 9999); print defined $n ? $n : $!;";
        if let Some(child) = as_nobody(connecting, name) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "0", "closed without a word");
        }
        // Of this user, somebody who is asked who it is.
        let mut socket = connect(address);
        assert!(socket.read(&mut [0; 100]).unwrap() > 0);
        socket
    });
    assert_undisturbed(&record);
}

#[test]
fn a_source_does_not_connect_to_another_user() {
    let name = format!("another-user-{}", std::process::id());
    let listening = "bind(S, $address) or die $!; listen(S, 5) or die $!; print qq(ready\n); <STDIN>;";
    let Some(child) = as_nobody(listening, &name) else { return };
    let mut child = Ended(child);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let error = LinkAddress::Unix { name: name.clone() }.connect(LONG).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to unix:@{name}"));
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, format!("the other end belongs to user {NOBODY}, this one to user 0"));
}
