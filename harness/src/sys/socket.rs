//! Sockets: what is still to be sent.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

nix::ioctl_read_bad!(
    /// `SIOCOUTQ` of linux/sockios.h, which is `TIOCOUTQ` under another name.
    siocoutq,
    libc::TIOCOUTQ,
    libc::c_int
);

/// Bytes that were written to a connected socket and have not reached the other side's socket: of TCP those that are not
/// acknowledged (tcp(7)), of a Unix socket those that the peer has not read, with the kernel's own overhead (unix(7)).
///
/// # Errors
/// When it is no connected socket.
pub fn queued(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes = 0;
    // SAFETY: the request stores one int, and `bytes` is one.
    unsafe { siocoutq(socket.as_fd().as_raw_fd(), &raw mut bytes) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_nobody_reads_is_queued() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        assert_eq!(queued(&one).unwrap(), 0);
        one.write_all(&[7; 1000]).unwrap();
        assert!(queued(&one).unwrap() >= 1000);
        other.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(queued(&one).unwrap(), 0);
    }

    #[test]
    fn what_fills_a_tcp_socket_is_queued_until_it_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        one.set_nonblocking(true).unwrap();
        let mut written = 0;
        loop {
            match one.write(&[7; 1 << 16]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let full = queued(&one).unwrap();
        assert!(full > 0 && full <= written as u64, "{full} of {written}");
        drop(one.try_clone().unwrap());
        other.read_exact(&mut vec![0; written]).unwrap();
        // The last acknowledgement is on its way.
        while queued(&one).unwrap() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_is_no_socket() {
        assert!(queued(&tempfile::tempfile().unwrap()).is_err());
    }
}
