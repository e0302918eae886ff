//! Sockets: bytes out of guest memory and into it without a copy in between, and what is still to be sent.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::sys::socket::MsgFlags;
use vm_memory::VolatileSlice;

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

/// Slices of one call; what is beyond them is left to the next.
const SLICES: usize = 128;

/// Bytes that are to be sent.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Of this process alone.
    Private(&'a [u8]),
    /// Of a guest, which may change them meanwhile: what leaves is then neither the old nor the new.
    Guest(VolatileSlice<'a>),
}

impl Part<'_> {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Private(bytes) => bytes.len(),
            Self::Guest(slice) => slice.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn address(&self) -> *mut u8 {
        match self {
            Self::Private(bytes) => bytes.as_ptr().cast_mut(),
            Self::Guest(slice) => slice.ptr_guard_mut().as_ptr(),
        }
    }
}

/// A list for the kernel of the `limit` bytes from byte `skip` of `stretches` (address and length) on, as far as there is room.
fn vector(
    stretches: impl Iterator<Item = (*mut u8, usize)>,
    mut skip: usize,
    mut limit: usize,
) -> ([libc::iovec; SLICES], usize) {
    let mut list = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLICES];
    let mut used = 0;
    for (address, length) in stretches {
        let start = skip.min(length);
        skip -= start;
        let taken = (length - start).min(limit);
        if taken == 0 {
            continue;
        }
        if used == SLICES {
            break;
        }
        list[used] = libc::iovec { iov_base: address.wrapping_add(start).cast(), iov_len: taken };
        used += 1;
        limit -= taken;
    }
    (list, used)
}

fn message(list: &mut [libc::iovec]) -> libc::msghdr {
    libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: list.as_mut_ptr(),
        msg_iovlen: list.len(),
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// Sends what follows byte `skip` of `parts`, one after the other: as much as goes in one call, which it gives.
///
/// # Errors
/// As sendmsg(2).
pub fn send<'a>(
    socket: &impl AsFd,
    parts: impl Iterator<Item = Part<'a>>,
    skip: usize,
    flags: MsgFlags,
) -> nix::Result<usize> {
    let stretches = parts.map(|part| (part.address(), part.len()));
    let (mut list, used) = vector(stretches, skip, usize::MAX);
    let message = message(&mut list[..used]);
    // SAFETY: the kernel reads the list, and the bytes that its entries name: each lies inside of a slice that is borrowed for
    // 'a, longer than this call. No reference to guest memory is made.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags.bits()) };
    nix::errno::Errno::result(sent).map(isize::unsigned_abs)
}

/// Receives into the `limit` bytes that follow byte `skip` of `slices`, one after the other. Gives how many came; none is the end
/// of the stream.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(
    socket: &impl AsFd,
    slices: &[VolatileSlice<'_>],
    skip: usize,
    limit: usize,
    flags: MsgFlags,
) -> nix::Result<usize> {
    let stretches = slices.iter().map(|slice| (slice.ptr_guard_mut().as_ptr(), slice.len()));
    let (mut list, used) = vector(stretches, skip, limit);
    let mut message = message(&mut list[..used]);
    // SAFETY: the kernel reads the list, and writes where its entries say: each lies inside of a slice that is valid for writes,
    // borrowed for longer than this call. No reference to what it writes exists: that is what a volatile slice promises.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags.bits()) };
    nix::errno::Errno::result(received).map(isize::unsigned_abs)
}

/// Puts `other` in the place of `socket`: whoever holds that descriptor speaks through `other` from here on.
///
/// # Errors
/// As dup3(2).
pub fn replace(socket: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open, and `socket` stays one that its owner closes.
    let done = unsafe { libc::dup3(other.as_raw_fd(), socket.as_raw_fd(), libc::O_CLOEXEC) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
    fn bytes_go_from_many_places_to_many_from_any_byte_on() {
        let (one, other) = UnixStream::pair().unwrap();
        let from: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let mut guest = from[300..].to_vec();
        let guest = VolatileSlice::from(&mut guest[..]);
        let parts =
            [Part::Private(&from[..7]), Part::Private(&[]), Part::Private(&from[7..300]), Part::Guest(guest)];
        for skip in [0, 1, 6, 7, 8, 299, 300, 301, 999] {
            assert_eq!(send(&one, parts.into_iter(), skip, MsgFlags::empty()).unwrap(), 1000 - skip);
            let (mut first, mut second) = ([0; 400], [0; 600]);
            let into = [VolatileSlice::from(&mut first[..]), VolatileSlice::from(&mut second[..])];
            let (mut done, limit) = (skip, 1000 - skip);
            // In two: what one call leaves the next goes on with.
            done += receive(&other, &into, done, limit / 2, MsgFlags::MSG_WAITALL).unwrap();
            if done < 1000 {
                done += receive(&other, &into, done, 1000 - done, MsgFlags::MSG_WAITALL).unwrap();
            }
            assert_eq!(done, 1000);
            let came = [&first[..], &second[..]].concat();
            assert!(came[..skip].iter().all(|&byte| byte == 0) && came[skip..] == from[skip..], "{skip}");
        }
        drop(one);
        let mut rest = [0; 1];
        assert_eq!(
            receive(&other, &[VolatileSlice::from(&mut rest[..])], 0, 1, MsgFlags::empty()).unwrap(),
            0
        );
    }

    #[test]
    fn more_stretches_than_a_call_takes_are_left_to_the_next() {
        let (one, other) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        let parts = bytes.chunks(1).map(Part::Private);
        assert_eq!(send(&one, parts.clone(), 0, MsgFlags::empty()).unwrap(), SLICES);
        assert_eq!(send(&one, parts, SLICES, MsgFlags::empty()).unwrap(), SLICES);
        let mut came = [0; 256];
        let into: Vec<_> = came.chunks_mut(1).map(VolatileSlice::from).collect();
        assert_eq!(receive(&other, &into, 0, 256, MsgFlags::MSG_WAITALL).unwrap(), SLICES);
        assert_eq!(receive(&other, &into, SLICES, 128, MsgFlags::MSG_WAITALL).unwrap(), SLICES);
        assert_eq!(came[..], bytes);
    }

    #[test]
    fn a_file_is_no_socket() {
        assert!(queued(&tempfile::tempfile().unwrap()).is_err());
    }
}
