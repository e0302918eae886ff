//! Two network namespaces of one run, joined by a pair of veth interfaces that the kernel's token bucket filter keeps to
//! the link's rate: the check of the modelled wire. In goes a cell's link; out come two descriptors, which the runner
//! hands to the nodes and by which each enters its namespace. Namespaces without a name end with the last process in them,
//! however that ends, and the interfaces with them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use migbench_scenarios::cell::LinkSettings;
use migbench_workloads::units::{Bytes, Rate};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockProtocol, SockType, getsockopt, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::sys::clock::found_within;

/// The interface, under the same name in both namespaces.
const INTERFACE: &str = "wire";
/// Addresses for documentation (RFC 5737): nothing else is in these namespaces.
const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Of the destination.
pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// The Ethernet header, which the filter counts.
const ETHERNET: u64 = 14;
/// Headers of IP and TCP with its time stamps, which the filter counts and `link.rate` does not.
const TCP_IP: u64 = 52;
/// MTUs of plain Ethernet and of jumbo frames.
const MTU: (u64, u64) = (1500, 9000);
/// How long the filter may send without a break after it was idle, in us: it then has that much credit, which a wire has
/// not. With less, wake-ups that are late cost throughput.
const CREDIT: u64 = 130;

/// What the kernel is asked to make of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LinkShape {
    /// Of both interfaces.
    mtu: u64,
    /// None where the link has no limit.
    filter: Option<Filter>,
}

/// A token bucket filter, see tc-tbf(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filter {
    /// Bytes a second, all headers counted.
    rate: u64,
    /// Bytes of the bucket.
    burst: u64,
    /// Bytes that may wait for tokens. More would be dropped.
    limit: u64,
}

impl LinkShape {
    fn new(link: &LinkSettings) -> Self {
        let Some(Rate(rate)) = link.rate else { return Self { mtu: MTU.1, filter: None } };
        let in_time = |microseconds: u64| {
            u64::try_from(u128::from(rate) * u128::from(microseconds) / 1_000_000).unwrap_or(u64::MAX)
        };
        // Frames as long as half the credit, so that two of them are all of it. The kernel sends and receives each one by
        // itself, on the cores that the guest runs on: at 1 Gbit/s frames of 1500 bytes took four times the CPU of these.
        let mtu = in_time(CREDIT / 2).saturating_sub(ETHERNET).clamp(MTU.0, MTU.1);
        let (frame, payload) = (mtu + ETHERNET, mtu - TCP_IP);
        let on_the_line = u128::from(rate) * u128::from(frame) / u128::from(payload);
        Self {
            mtu,
            filter: Some(Filter {
                rate: u64::try_from(on_the_line).unwrap_or(u64::MAX),
                // A frame that is larger than the bucket would never leave.
                burst: in_time(CREDIT).max(2 * frame),
                // All that a socket may hold, sent once more: nothing is dropped.
                limit: 2 * link.queue().0 + (1 << 20),
            }),
        }
    }
}

/// Why there is no such link here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{missing}; {remedy}")]
pub struct NetnsError {
    /// What was not possible.
    pub missing: String,
    /// What would make it possible.
    pub remedy: &'static str,
}

const RIGHTS: &str =
    "run as root (in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN), or choose link.transport = \"unix\"";
const TOOLS: &str =
    "install iproute2 (as root, scripts/setup.sh does so), or choose link.transport = \"unix\"";
const KERNEL: &str = "use a kernel with CONFIG_NET_NS=y, CONFIG_VETH and CONFIG_NET_SCH_TBF, or choose link.transport = \"unix\"";

impl NetnsError {
    fn new(missing: impl Into<String>, remedy: &'static str) -> Self {
        Self { missing: missing.into(), remedy }
    }

    fn from_errno(errno: Errno, doing: &str) -> Self {
        match errno {
            Errno::EPERM | Errno::EACCES => Self::new(format!("no rights to {doing}"), RIGHTS),
            errno => Self::new(format!("cannot {doing}: {}", errno.desc()), KERNEL),
        }
    }
}

/// Both namespaces, for as long as this lives or a process is in them.
#[derive(Debug)]
pub struct Namespaces {
    /// Where the source's node belongs.
    pub source: OwnedFd,
    /// Where the destination's node belongs.
    pub destination: OwnedFd,
}

impl Namespaces {
    /// Makes two namespaces with nothing in them but the two ends of `link`.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn new(link: &LinkSettings) -> Result<Self, NetnsError> {
        let shape = LinkShape::new(link);
        // A namespace is of a thread; this one ends in the ones that it made.
        let made = std::thread::scope(|scope| {
            let maker = std::thread::Builder::new().spawn_scoped(scope, || Self::make(&shape));
            maker.map(|maker| maker.join())
        });
        match made {
            Ok(made) => made.unwrap_or_else(|_| {
                Err(NetnsError::new("the thread that makes namespaces panicked", KERNEL))
            }),
            Err(error) => Err(NetnsError::new(format!("no thread can be had: {error}"), KERNEL)),
        }
    }

    fn make(shape: &LinkShape) -> Result<Self, NetnsError> {
        let made = Self { destination: fresh()?, source: fresh()? };
        let peer = format!("/proc/{}/fd/{}", std::process::id(), made.destination.as_raw_fd());
        let mtu = shape.mtu.to_string();
        ip(&[
            "link", "add", INTERFACE, "mtu", &mtu, "type", "veth", "peer", "name", INTERFACE, "mtu", &mtu,
            "netns", &peer,
        ])?;
        let ends = [(&made.source, SOURCE, DESTINATION), (&made.destination, DESTINATION, SOURCE)];
        for (namespace, here, there) in ends {
            enter(namespace).map_err(|errno| NetnsError::from_errno(errno, "enter a network namespace"))?;
            ip(&["address", "add", &format!("{here}/32"), "dev", INTERFACE])?;
            ip(&["link", "set", INTERFACE, "up"])?;
            // Otherwise what has arrived may be acknowledged only when it is read, and the sender would take it for unsent.
            ip(&["route", "add", &there.to_string(), "dev", INTERFACE, "quickack", "1"])?;
            if let Some(Filter { rate, burst, limit }) = shape.filter {
                // tc's `bps` is bytes a second.
                let (rate, burst, limit) = (format!("{rate}bps"), burst.to_string(), limit.to_string());
                let tbf = ["tbf", "rate", &rate, "burst", &burst, "limit", &limit];
                call("tc", &[&["qdisc", "add", "dev", INTERFACE, "root"][..], &tbf].concat())?;
            }
        }
        Ok(made)
    }
}

/// Has the calling thread, and all threads that it starts from now on, be in a network namespace.
///
/// # Errors
/// Without the right to, or when it is something else.
pub fn enter(namespace: impl AsFd) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
}

/// Puts the calling thread into a new namespace, and opens it.
fn fresh() -> Result<OwnedFd, NetnsError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| NetnsError::from_errno(errno, "make a network namespace"))?;
    // Keeps IPv6 from looking for neighbours over the wire. Where there is no IPv6, nobody looks.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let opened = File::open("/proc/thread-self/ns/net");
    opened
        .map(OwnedFd::from)
        .map_err(|error| NetnsError::new(format!("cannot open a network namespace: {error}"), KERNEL))
}

fn ip(arguments: &[&str]) -> Result<(), NetnsError> {
    call("ip", arguments)
}

/// Runs a tool of iproute2 in the calling thread's namespace.
fn call(tool: &str, arguments: &[&str]) -> Result<(), NetnsError> {
    let Some(path) = find(tool) else {
        return Err(NetnsError::new(format!("there is no `{tool}`"), TOOLS));
    };
    let mut command = Command::new(path);
    // Ctrl-C reaches the runner, which decides.
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let output = command
        .output()
        .map_err(|error| NetnsError::new(format!("cannot start `{tool}`: {error}"), TOOLS))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    let remedy = if said.contains("Operation not permitted") { RIGHTS } else { KERNEL };
    Err(NetnsError::new(format!("`{tool} {}` failed: {said}", arguments.join(" ")), remedy))
}

/// Where a tool is: on the path, or where systems keep what only root needs.
fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(tool)).find(|file| file.is_file())
}

/// Listens at the destination's end of the wire, in a namespace that was entered.
pub(super) fn listen(port: u16, queue: Option<Bytes>) -> io::Result<TcpListener> {
    let socket = fresh_socket(queue)?;
    socket::bind(socket.as_raw_fd(), &at_destination(port))?;
    socket::listen(&socket, socket::Backlog::new(1)?)?;
    Ok(TcpListener::from(socket))
}

/// Connects from the source's end.
pub(super) fn connect(port: u16, queue: Option<Bytes>, timeout: Duration) -> io::Result<TcpStream> {
    let socket = fresh_socket(queue)?;
    let limit = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::microseconds(limit))?;
    match socket::connect(socket.as_raw_fd(), &at_destination(port)) {
        // A process that was stopped meanwhile; the connection goes on by itself, and must not be begun again.
        Err(Errno::EINTR) => connected(&socket, timeout)?,
        done => done?,
    }
    Ok(TcpStream::from(socket))
}

/// Waits for a connection that was begun.
fn connected(socket: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let mut writable = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let look = || match poll(&mut writable, PollTimeout::ZERO) {
        Ok(found) => Ok(found > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(io::Error::from(error)),
    };
    if !found_within(timeout, Duration::from_millis(1), look)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn at_destination(port: u16) -> socket::SockaddrIn {
    SocketAddrV4::new(DESTINATION, port).into()
}

/// A socket that is set before it has a peer: what is accepted inherits it, the window that a peer is offered follows the
/// buffer, and a congestion control that paces would go on pacing after it was replaced.
fn fresh_socket(queue: Option<Bytes>) -> io::Result<OwnedFd> {
    let socket =
        socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
    // Every kernel has it, and it paces nothing: the filter does. The default may be bbr.
    setsockopt(&socket, sockopt::TcpCongestion, &OsString::from("reno"))?;
    if let Some(Bytes(queue)) = queue {
        let queue = usize::try_from(queue).unwrap_or(usize::MAX);
        // Left to itself a socket grows until it holds 25 ms of bytes and more. The kernel doubles what it is asked for, and
        // the payload of large segments takes nearly all of that.
        setsockopt(&socket, sockopt::SndBufForce, &(queue / 2))?;
        // As much on the other side, so that a destination that is held up for a moment does not make the wire idle.
        setsockopt(&socket, sockopt::RcvBufForce, &queue)?;
    }
    Ok(socket)
}

/// What the kernel delivered of a rate, over times in which the socket never ran empty: only the filter held them up. A time
/// begins with a write that finds bytes in the socket and ends with the last such write in a row, so that what left between
/// two writes counts with the time in which it left.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    rate: Rate,
    left: u64,
    nanoseconds: u64,
    busy: Option<BusyPeriod>,
}

/// A time in which the socket did not run empty.
#[derive(Debug, Clone, Copy)]
struct BusyPeriod {
    since: u64,
    until: u64,
    /// Bytes that were in the socket at its start or were written since.
    given: u64,
    /// Bytes in the socket at its end.
    queued: u64,
}

impl Delivered {
    /// Nothing yet of `rate`.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self { rate, left: 0, nanoseconds: 0, busy: None }
    }

    /// The rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// `written` bytes were written between `start` and `end`, in ns; the socket held `before` and `after` bytes then.
    pub fn note(&mut self, written: u64, before: u64, after: u64, start: u64, end: u64) {
        if before == 0 {
            (self.left, self.nanoseconds) = self.total();
            self.busy = None;
            return;
        }
        let busy =
            self.busy.get_or_insert(BusyPeriod { since: start, until: end, given: before, queued: after });
        busy.given += written;
        (busy.until, busy.queued) = (end, after);
    }

    /// Bytes that left, and the nanoseconds in which they did.
    const fn total(&self) -> (u64, u64) {
        match self.busy {
            Some(BusyPeriod { since, until, given, queued }) => {
                (self.left + given.saturating_sub(queued), self.nanoseconds + until.saturating_sub(since))
            }
            None => (self.left, self.nanoseconds),
        }
    }

    /// See the metric `link_rate_achieved`; none where no write found the socket in use.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio, for which 53 bits are plenty")]
    pub fn rate_achieved(&self) -> Option<f64> {
        let (left, nanoseconds) = self.total();
        (nanoseconds > 0).then(|| left as f64 * 1e9 / (self.rate.0 as f64 * nanoseconds as f64))
    }
}

#[cfg(test)]
mod tests {
    use migbench_scenarios::cell::Transport;

    use super::*;

    fn link(rate: Option<u64>, queue: Option<u64>) -> LinkSettings {
        LinkSettings {
            rate: rate.map(Rate),
            queue: queue.map(Bytes),
            ..LinkSettings::unlimited(Transport::Netns)
        }
    }

    #[test]
    fn a_filter_delivers_the_rate_and_has_little_credit() {
        let filter = |rate, burst, limit| Some(Filter { rate, burst, limit });
        let default = 2 * (544 << 10) + (1 << 20);
        // Rate in bytes a second, MTU, what the filter counts a second, burst.
        for (rate, mtu, counted, burst) in [
            (12_500_000, 1500, 13_069_751, 2 * 1514),
            (125_000_000, 8111, 126_023_700, 16_250),
            (1_250_000_000, 9000, 1_259_219_937, 162_500),
        ] {
            assert_eq!(
                LinkShape::new(&link(Some(rate), None)),
                LinkShape { mtu, filter: filter(counted, burst, default) }
            );
        }
        let bounded =
            LinkShape::new(&link(Some(125_000_000), Some(64 << 10))).filter.map(|filter| filter.limit);
        assert_eq!(bounded, Some((128 << 10) + (1 << 20)));
    }

    #[test]
    fn any_rate_has_a_filter_that_lets_two_frames_through() {
        for rate in (0..64).map(|bits| 1_u64 << bits).chain([u64::MAX]) {
            let LinkShape { mtu, filter: Some(filter) } = LinkShape::new(&link(Some(rate), None)) else {
                panic!("no filter at {rate}");
            };
            assert!((1500..=9000).contains(&mtu), "{mtu} at {rate}");
            assert!(filter.burst >= 2 * (mtu + 14), "{filter:?}");
            assert!(
                filter.rate >= rate && filter.rate as f64 <= rate as f64 * 1.05 + 1.0,
                "{filter:?} at {rate}"
            );
        }
    }

    #[test]
    fn what_left_a_socket_in_use_is_held_against_the_rate() {
        let mut delivered = Delivered::new(Rate(1_000_000));
        let ms = |ms: u64| ms * 1_000_000;
        // An empty socket takes it at once: that says nothing of the link.
        delivered.note(500_000, 0, 500_000, ms(0), ms(1));
        assert_eq!(delivered.rate_achieved(), None);
        // 240 kB leave during a write, then 100 kB between two.
        delivered.note(250_000, 500_000, 510_000, ms(1), ms(251));
        assert_eq!(delivered.rate_achieved(), Some(0.96));
        delivered.note(150_000, 410_000, 410_000, ms(351), ms(501));
        assert_eq!(delivered.rate_achieved(), Some(0.98));
        // What leaves while the socket runs empty is in no time.
        delivered.note(500_000, 0, 500_000, ms(900), ms(901));
        assert_eq!(delivered.rate_achieved(), Some(0.98));
    }

    #[test]
    fn without_a_limit_there_is_no_filter() {
        assert_eq!(LinkShape::new(&link(None, None)), LinkShape { mtu: 9000, filter: None });
    }

    #[test]
    fn who_lacks_something_hears_what_to_do() {
        let denied = NetnsError::from_errno(Errno::EPERM, "make a network namespace").to_string();
        assert!(denied.starts_with("no rights to make a network namespace; run as root"), "{denied}");
        let absent = NetnsError::from_errno(Errno::EINVAL, "make a network namespace").to_string();
        assert!(absent.contains("CONFIG_NET_NS=y"), "{absent}");
        let missing = call("no-such-tool-of-iproute2", &[]).unwrap_err().to_string();
        assert!(missing.starts_with("there is no `no-such-tool-of-iproute2`; install iproute2"), "{missing}");
        let failed = call("false", &["link"]).unwrap_err().to_string();
        assert!(failed.starts_with("`false link` failed: "), "{failed}");
    }
}
