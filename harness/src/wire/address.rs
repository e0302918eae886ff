//! Where nodes meet: a listener on an address that the system picks, the address as a value that the runner
//! can carry to the other node, and the connection made from it.

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use migbench_scenarios::cell::{self, Transport};
use migbench_workloads::units::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::link::{Link, LinkError, SocketStream};
use super::netns;
use crate::sys::clock::Patience;

/// The address of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkAddress {
    /// A Unix socket in the abstract namespace, which leaves no file behind.
    Unix {
        /// Its name, without the leading zero byte.
        name: String,
    },
    /// A Unix socket in the file system.
    Path {
        /// Its path.
        path: PathBuf,
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
            Self::Path { path } => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Netns { port, .. } => write!(f, "netns:{port}"),
        }
    }
}

impl LinkAddress {
    /// Connects to a listener, with `timeout` for the connection and for every later wait on the link.
    ///
    /// # Errors
    /// If nobody listens there, the address means nothing here, or a Unix socket is another user's.
    pub fn connect(&self, timeout: Duration) -> Result<Link, LinkError> {
        let connect = || match self {
            Self::Unix { .. } | Self::Path { .. } => {
                let stream = UnixStream::connect_addr(&self.of_unix()?)?;
                require_own_user(&stream)?;
                Ok(stream.into())
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

impl LinkAddress {
    fn of_unix(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Unix { name } => SocketAddr::from_abstract_name(name),
            Self::Path { path } => SocketAddr::from_pathname(path),
            Self::Tcp { .. } | Self::Netns { .. } => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Waits for the other node.
#[derive(Debug)]
pub struct LinkListener {
    socket: ListeningSocket,
    address: LinkAddress,
}

#[derive(Debug)]
enum ListeningSocket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl LinkListener {
    /// Listens on a new address of this host: a name of its own in the abstract namespace, or a free port of
    /// the loopback interface or of the namespace that was entered.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn bind(link: &cell::LinkSettings) -> Result<Self, LinkError> {
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
                LinkAddress::Unix { .. } | LinkAddress::Path { .. } => {
                    let socket = UnixListener::bind_addr(&address.of_unix()?)?;
                    socket.set_nonblocking(true)?;
                    Self { socket: ListeningSocket::Unix(socket), address: address.clone() }
                }
                LinkAddress::Tcp { host, port } => {
                    let socket = TcpListener::bind((host.as_str(), *port))?;
                    socket.set_nonblocking(true)?;
                    let port = socket.local_addr()?.port();
                    let address = LinkAddress::Tcp { host: host.clone(), port };
                    Self { socket: ListeningSocket::Tcp(socket), address }
                }
                LinkAddress::Netns { port, queue } => {
                    let socket = netns::listen(*port, *queue)?;
                    socket.set_nonblocking(true)?;
                    let address = LinkAddress::Netns { port: socket.local_addr()?.port(), queue: *queue };
                    Self { socket: ListeningSocket::Tcp(socket), address }
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
        let mut patience = Patience::new(timeout);
        loop {
            if let Some(link) = self.accept_waiting(timeout)? {
                return Ok(link);
            }
            if patience.is_over() {
                return Err(LinkError::Timeout {
                    doing: "waiting for a connection",
                    after: timeout,
                    offset: 0,
                });
            }
            wait_readable(self.as_fd(), patience.next_look()).map_err(|source| self.failed(source))?;
        }
    }

    /// Accepts a connection that waits already. One that is gone again, or on a Unix socket comes from another user, is
    /// closed and is none. `timeout` holds for every later wait on the link.
    ///
    /// # Errors
    /// If the listener failed.
    pub fn accept_waiting(&self, timeout: Duration) -> Result<Option<Link>, LinkError> {
        let accepted: io::Result<SocketStream> = match &self.socket {
            ListeningSocket::Unix(socket) => match socket.accept() {
                Ok((stream, _)) if require_own_user(&stream).is_err() => return Ok(None),
                accepted => accepted.map(|(stream, _)| stream.into()),
            },
            ListeningSocket::Tcp(socket) => socket.accept().map(|(stream, _)| stream.into()),
        };
        match accepted {
            Ok(stream) => Ok(Link::new(stream, timeout).ok()),
            Err(error) if is_of_listener(&error) => Err(self.failed(error)),
            Err(_) => Ok(None),
        }
    }

    fn failed(&self, source: io::Error) -> LinkError {
        LinkError::Listen { address: self.address.to_string(), source }
    }
}

/// Whether `accept` failed because of the listener or this process. It also passes on what went wrong with the
/// connection (`accept(2)`), or has none.
fn is_of_listener(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    matches!(
        errno,
        Errno::EBADF
            | Errno::EINVAL
            | Errno::ENOTSOCK
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::UnknownErrno
    )
}

/// The kernel knows who made the other end of a Unix socket, or listened for it: nodes of a run have the same user.
fn require_own_user(stream: &UnixStream) -> io::Result<()> {
    let (theirs, ours) = (getsockopt(stream, sockopt::PeerCredentials)?.uid(), geteuid().as_raw());
    if theirs == ours {
        return Ok(());
    }
    let text = format!("the other end belongs to user {theirs}, this one to user {ours}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

impl AsFd for LinkListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListeningSocket::Unix(socket) => socket.as_fd(),
            ListeningSocket::Tcp(socket) => socket.as_fd(),
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
        Err(Errno::EINTR) => Ok(false),
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
