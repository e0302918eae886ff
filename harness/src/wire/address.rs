//! Where nodes meet: a listener on an address that the system picks, the address as a value that the runner
//! can carry to the other node, and the connection made from it.

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use migbench_scenarios::cell::{self, Transport};
use migbench_workloads::units::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::link::{Link, LinkError};
use super::netns;

/// The address of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkAddress {
    /// A Unix socket in the abstract namespace, which leaves no file behind.
    Unix {
        /// Its name, without the leading zero byte.
        name: String,
    },
    /// A TCP socket.
    Tcp {
        /// Name or address of the host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A TCP socket at the destination's end of the pair of [`netns::Namespaces`].
    Netns {
        /// The port.
        port: u16,
        /// Bytes that the sockets of both sides may hold; none leaves that to the kernel.
        queue: Option<Bytes>,
    },
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { name } => write!(f, "unix:@{name}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Netns { port, .. } => write!(f, "netns:{port}"),
        }
    }
}

impl LinkAddress {
    /// Connects to a listener, with `timeout` for the connection and for every later wait on the link.
    ///
    /// # Errors
    /// If nobody listens there or the address means nothing here.
    pub fn connect(&self, timeout: Duration) -> Result<Link, LinkError> {
        let connect = || match self {
            Self::Unix { name } => {
                Ok(UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?.into())
            }
            Self::Tcp { host, port } => {
                let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, timeout) {
                        Ok(stream) => return Ok(stream.into()),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Netns { port, queue } => Ok(netns::connect(*port, *queue, timeout)?.into()),
        };
        let stream = connect().map_err(|source| LinkError::Connect { address: self.to_string(), source })?;
        Link::new(stream, timeout)
    }
}

/// Waits for the other node.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: LinkAddress,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on a new address of this host: a name of its own in the abstract namespace, or a free port of
    /// the loopback interface or of the namespace that was entered.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn bind(link: &cell::Link) -> Result<Self, LinkError> {
        Self::bind_to(&match link.transport {
            Transport::Unix => LinkAddress::Unix { name: fresh_name() },
            Transport::Tcp => LinkAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 },
            Transport::Netns => LinkAddress::Netns { port: 0, queue: link.rate.map(|_| link.queue()) },
        })
    }

    /// Listens on `address`, where port 0 stands for any free one.
    ///
    /// # Errors
    /// If the address is taken or is not one of this host.
    pub fn bind_to(address: &LinkAddress) -> Result<Self, LinkError> {
        let bind = || {
            Ok(match address {
                LinkAddress::Unix { name } => {
                    let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
                    socket.set_nonblocking(true)?;
                    Self { socket: Socket::Unix(socket), address: address.clone() }
                }
                LinkAddress::Tcp { host, port } => {
                    let socket = TcpListener::bind((host.as_str(), *port))?;
                    socket.set_nonblocking(true)?;
                    let port = socket.local_addr()?.port();
                    let address = LinkAddress::Tcp { host: host.clone(), port };
                    Self { socket: Socket::Tcp(socket), address }
                }
                LinkAddress::Netns { port, queue } => {
                    let socket = netns::listen(*port, *queue)?;
                    socket.set_nonblocking(true)?;
                    let address = LinkAddress::Netns { port: socket.local_addr()?.port(), queue: *queue };
                    Self { socket: Socket::Tcp(socket), address }
                }
            })
        };
        bind().map_err(|source| LinkError::Listen { address: address.to_string(), source })
    }

    /// Where to connect to.
    #[must_use]
    pub const fn address(&self) -> &LinkAddress {
        &self.address
    }

    /// Waits for a connection, for at most `timeout`, which then holds for every later wait on the link.
    ///
    /// # Errors
    /// If nobody connects in time.
    pub fn accept(&self, timeout: Duration) -> Result<Link, LinkError> {
        let deadline = Instant::now() + timeout;
        let failed = |source| LinkError::Listen { address: self.address.to_string(), source };
        loop {
            // The socket does not block, since a peer may be gone again between poll and accept.
            let accepted = match &self.socket {
                Socket::Unix(socket) => socket.accept().map(|(stream, _)| stream.into()),
                Socket::Tcp(socket) => socket.accept().map(|(stream, _)| stream.into()),
            };
            match accepted {
                Ok(stream) => return Link::new(stream, timeout),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(failed(error)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::Timeout {
                    doing: "waiting for a connection",
                    after: timeout,
                    offset: 0,
                });
            }
            wait_readable(self.as_fd(), left).map_err(failed)?;
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

/// Waits until there is something to read, the peer is gone, or time is up; says whether it was not the last.
pub(super) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    // Rounded up, so that a wait of less than a millisecond is not a busy loop.
    let millis = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A name that no other process or thread picks: processes differ in their number, or at least in the time
/// at which a number is used again.
fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    format!("migbench-{}-{}-{nanos:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
