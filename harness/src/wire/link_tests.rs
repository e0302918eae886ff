//! Links over both kinds of socket: frames arrive whole and in order, bytes are counted where they are
//! written, and a peer that closes, dies or hangs is a typed error.

use std::io::Write;
use std::thread;

use migbench_scenarios::cell::{self, Transport};
use migbench_workloads::units::Seconds;

use super::*;
use crate::sys::socket::Part;
use crate::wire::frame::{FrameFault, encode_header};
use crate::wire::netns::{self, Namespaces};
use crate::wire::receiver::{AT_A_HEADER, IN_A_FRAME};
use crate::wire::{LinkAddress, LinkListener, PageRecord, PageRecords};

const PAGE: usize = 4096;
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);

fn settings(transport: Transport) -> cell::LinkSettings {
    cell::LinkSettings::unlimited(transport)
}

/// The destination's end, then the source's.
fn connected(link: &cell::LinkSettings, namespaces: Option<&Namespaces>) -> (Link, Link) {
    thread::scope(|scope| {
        let (bound, address) = std::sync::mpsc::channel();
        let accepting = scope.spawn(move || {
            if let Some(both) = namespaces {
                netns::enter(&both.destination).unwrap();
            }
            let listener = LinkListener::bind(link).unwrap();
            bound.send(listener.address().clone()).unwrap();
            listener.accept(LONG).unwrap()
        });
        let connecting = scope.spawn(move || {
            if let Some(both) = namespaces {
                netns::enter(&both.source).unwrap();
            }
            address.recv().unwrap().connect(LONG).unwrap()
        });
        (accepting.join().unwrap(), connecting.join().unwrap())
    })
}

fn each_transport(test: impl Fn(Link, Link)) {
    for transport in [Transport::Unix, Transport::Tcp] {
        let (here, there) = connected(&settings(transport), None);
        test(here, there);
    }
    // Only root has them.
    if let Ok(namespaces) = Namespaces::new(&settings(Transport::Netns)) {
        let (here, there) = connected(&settings(Transport::Netns), Some(&namespaces));
        test(here, there);
    }
}

#[test]
fn frames_of_every_size_arrive_in_order_and_are_counted() {
    each_transport(|mut here, mut there| {
        let sizes = [0, 1, 27, 4096, 300_000, 5_000_000, 3];
        let sending = thread::spawn(move || {
            for (i, size) in sizes.into_iter().enumerate() {
                let payload = vec![u8::try_from(i).unwrap(); size];
                let (head, tail) = payload.split_at(size / 3);
                let kind = if size == 1 { FrameKind::State } else { FrameKind::Hashes };
                here.send(kind, &[head, &[], tail]).unwrap();
            }
            here
        });
        for (i, size) in sizes.into_iter().enumerate() {
            let frame = there.recv().unwrap();
            assert_eq!(frame.payload, vec![u8::try_from(i).unwrap(); size]);
        }
        let here = sending.join().unwrap();
        let headers = (HEADER * sizes.len()) as u64;
        assert_eq!(here.traffic().state, (1 + HEADER) as u64);
        assert_eq!(here.traffic().total(), sizes.iter().sum::<usize>() as u64 + headers);
        assert_eq!(here.sender().offset(), there.receiver().offset());
    });
}

/// Whole pages under the checksum, and behind the payload from memory to memory.
#[test]
fn batches_of_scattered_pages_arrive_whole() {
    for in_place in [false, true] {
        each_transport(|mut here, mut there| {
            let sending = thread::spawn(move || {
                let mut batch = PageBatch::new();
                let (mut whole, mut encoded): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
                for n in 0..60 {
                    batch.push_whole(2 * n);
                    whole.extend([u8::try_from(n).unwrap(); PAGE]);
                    batch.push_encoded(2 * n + 1, 3);
                    encoded.extend([u8::try_from(n).unwrap(); 3]);
                }
                let before = here.sender().offset();
                let pages: Vec<&[u8]> = whole.chunks(PAGE).collect();
                if in_place {
                    let behind: Vec<_> = pages.into_iter().map(Part::Private).collect();
                    here.sender_mut().send_pages(&mut batch, &encoded, &[], &behind).unwrap();
                } else {
                    here.sender_mut().send_pages(&mut batch, &encoded, &pages, &[]).unwrap();
                }
                assert_eq!(here.traffic(), batch.traffic());
                assert_eq!(here.traffic().total(), here.sender().offset() - before);
                here.send(FrameKind::RoundEnd, &[&[0; 4]]).unwrap();
            });
            let mut memory = vec![0; 120 * PAGE];
            let mut places: Vec<_> =
                memory.chunks_mut(PAGE).map(|page| Some(VolatileSlice::from(page))).collect();
            let received = there.recv_placing(|frame, into| {
                for record in PageRecords::parse(frame, 120)? {
                    if let PageRecord::Full { first, data: None, .. } = record {
                        into.push(places[usize::try_from(first).unwrap()].take().unwrap());
                    }
                }
                Ok::<_, LinkError>(())
            });
            let frame = received.unwrap();
            let (mut next, mut in_payload) = (0, Vec::new());
            for record in PageRecords::parse(&frame, 120).unwrap() {
                let n = u8::try_from(next / 2).unwrap();
                match record {
                    PageRecord::Full { first, count, data } => {
                        assert_eq!((first, count, data.is_none()), (next, 1, in_place));
                        in_payload.extend_from_slice(data.unwrap_or_default());
                    }
                    PageRecord::Delta { pfn, data } => assert_eq!((pfn, data), (next, &[n; 3][..])),
                    PageRecord::Zero { .. } => panic!("no zero page was sent"),
                }
                next += 1;
            }
            assert_eq!(next, 120);
            assert_eq!(there.recv().unwrap().kind, FrameKind::RoundEnd);
            sending.join().unwrap();
            drop(places);
            for (n, page) in memory.chunks(PAGE).enumerate() {
                let sent = if in_place && n % 2 == 0 { u8::try_from(n / 2).unwrap() } else { 0 };
                assert!(page.iter().all(|&byte| byte == sent), "page {n}");
            }
            let pages = in_payload.chunks(PAGE).enumerate();
            pages.for_each(|(n, page)| assert!(page.iter().all(|&byte| usize::from(byte) == n)));
        });
    }
}

/// Nobody but a destination has a place for them.
#[test]
fn pages_behind_a_payload_that_nobody_waits_for_are_refused() {
    let (mut here, mut there) = Link::pair(LONG).unwrap();
    let (mut batch, page) = (PageBatch::new(), [7; PAGE]);
    batch.push_whole(0);
    here.sender_mut().send_pages(&mut batch, &[], &[], &[Part::Private(&page)]).unwrap();
    let error = there.recv().unwrap_err().to_string();
    assert!(error.starts_with("bad Pages frame at byte 6 of the stream: 1 whole pages behind"), "{error}");
}

#[test]
fn a_peer_that_closes_is_an_error_at_each_place() {
    each_transport(|here, mut there| {
        drop(here);
        let error = there.recv().unwrap_err();
        assert!(matches!(error, LinkError::Closed { doing: AT_A_HEADER, offset: 0 }), "{error}");
        // Writes fail once the socket has noticed, and no signal arrives.
        let error = (0..1000).find_map(|_| there.send(FrameKind::State, &[&[0; 4096]]).err()).unwrap();
        assert!(matches!(error, LinkError::Closed { doing: SENDING, .. }), "{error}");
    });
}

/// Writes raw bytes into the link of `here` and closes it.
fn raw(here: &Link, bytes: &[u8]) {
    match &*here.sender.stream {
        SocketStream::Unix(stream) => (&mut &*stream).write_all(bytes).unwrap(),
        SocketStream::Tcp(stream) => (&mut &*stream).write_all(bytes).unwrap(),
    }
}

#[test]
fn a_peer_that_closes_in_the_middle_is_named_with_the_place() {
    each_transport(|here, mut there| {
        let payload = [5; 1000];
        raw(&here, &encode_header(FrameKind::State, 0, [&payload[..]], 0).unwrap());
        raw(&here, &payload[..700]);
        drop(here);
        let error = there.recv().unwrap_err();
        assert!(matches!(error, LinkError::Closed { doing: IN_A_FRAME, offset: 736 }), "{error}");
    });
    each_transport(|here, mut there| {
        raw(&here, &encode_header(FrameKind::State, 0, [], 0).unwrap()[..11]);
        drop(here);
        let error = there.recv().unwrap_err();
        assert!(matches!(error, LinkError::Closed { doing: IN_A_FRAME, offset: 11 }), "{error}");
    });
}

#[test]
fn damaged_and_repeated_frames_are_refused() {
    each_transport(|here, mut there| {
        let mut bytes = encode_header(FrameKind::State, 0, [&b"state"[..]], 0).unwrap().to_vec();
        bytes.extend(b"stale");
        raw(&here, &bytes);
        let LinkError::Frame(error) = there.recv().unwrap_err() else { panic!("not a frame error") };
        assert_eq!((error.kind, error.offset), (Some(FrameKind::State), HEADER as u64));
    });
    each_transport(|mut here, mut there| {
        here.send(FrameKind::Hello, &[b"once"]).unwrap();
        assert_eq!(there.recv().unwrap().payload, b"once");
        raw(&here, &encode_header(FrameKind::Hello, 0, [], 0).unwrap());
        let LinkError::Frame(error) = there.recv().unwrap_err() else { panic!("not a frame error") };
        assert_eq!(error.fault, FrameFault::Sequence { expected: 1, found: 0 });
        assert_eq!(error.offset, HEADER as u64 + 4 + 12);
    });
}

#[test]
fn a_silent_peer_runs_into_the_time_limit() {
    each_transport(|mut here, mut there| {
        there.set_timeout(SHORT).unwrap();
        let error = there.recv().unwrap_err();
        assert!(
            matches!(error, LinkError::Timeout { doing: AT_A_HEADER, after: SHORT, offset: 0 }),
            "{error}"
        );
        // The link is still good: nothing was read.
        assert!(!there.wait(Duration::ZERO).unwrap());
        here.send(FrameKind::Hello, &[b"late"]).unwrap();
        assert!(there.wait(LONG).unwrap());
        assert_eq!(there.recv().unwrap().payload, b"late");
    });
}

/// What came while this process was stopped is taken, whatever the clock says, and however the wait for it ended.
#[test]
fn what_has_come_counts_more_than_the_time_that_passed() {
    for ended in [Errno::EINTR, Errno::EAGAIN] {
        let mut calls = 0;
        let moved = moved_within(Duration::from_millis(80), || {
            calls += 1;
            if calls == 1 {
                thread::sleep(Duration::from_millis(200));
                return Err(ended);
            }
            Ok(7)
        });
        assert_eq!(moved, Ok(7));
        // A silent peer is noticed all the same, and an error is one at once.
        assert_eq!(moved_within(Duration::from_millis(80), || Err(ended)), Err(Errno::EAGAIN));
    }
    assert_eq!(moved_within(LONG, || Err(Errno::ECONNRESET)), Err(Errno::ECONNRESET));
}

/// A call that waits for all of the limit gives the part of a frame that had come before, and the limit starts again.
#[test]
fn no_single_call_waits_for_all_of_the_limit() {
    each_transport(|mut here, _there| {
        here.set_timeout(LONG).unwrap();
        let fd = here.as_fd();
        for limit in [
            nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::ReceiveTimeout).unwrap(),
            nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::SendTimeout).unwrap(),
        ] {
            let limit = Duration::from_micros(
                u64::try_from(nix::sys::time::TimeValLike::num_microseconds(&limit)).unwrap(),
            );
            assert!(!limit.is_zero() && limit <= LONG / 8, "{limit:?}");
        }
    });
}

#[test]
fn a_peer_that_does_not_read_runs_into_the_time_limit_and_breaks_the_link() {
    each_transport(|mut here, there| {
        here.set_timeout(SHORT).unwrap();
        let much = vec![0; 16 << 20];
        let error = here.send(FrameKind::Hashes, &[&much]).unwrap_err();
        assert!(matches!(error, LinkError::Timeout { doing: SENDING, .. }), "{error}");
        let error = here.send(FrameKind::Abort, &[]).unwrap_err();
        assert!(matches!(error, LinkError::Broken { offset } if offset > 0), "{error}");
        drop(there);
    });
}

fn link(rate: u64, delay: f64) -> cell::LinkSettings {
    let plan = migbench_scenarios::Suite::find("quick").unwrap().expand().unwrap();
    let link = plan.comparisons[0].cells[0].cell.link;
    cell::LinkSettings { rate: Some(Rate(rate)), queue: None, delay: Seconds(delay), ..link }
}

#[test]
fn no_byte_comes_before_a_wire_would_have_delivered_it() {
    each_transport(|mut here, mut there| {
        let shape = link(20_000_000, 0.002);
        let queue = here.shape(&shape).unwrap().unwrap();
        assert_eq!(there.shape(&shape).unwrap(), Some(queue));
        let sending = thread::spawn(move || {
            let payload = vec![1; 250_000];
            let mut started = Vec::new();
            for pause in [0, 30, 0, 0] {
                thread::sleep(Duration::from_millis(pause));
                started.push(clock::now());
                here.send(FrameKind::Hashes, &[&payload]).unwrap();
                // It went on with no more than the queue ahead.
                assert!(here.sender().empty_at() <= clock::now() + wire_time(queue.0, Rate(20_000_000)));
            }
            here.sender().drain(1_000_000);
            assert!(here.sender().empty_at() <= clock::now() + 1_000_000);
            (started, here.sender().waited())
        });
        let length = wire_time(250_000 + HEADER as u64, Rate(20_000_000));
        let mut dues = Vec::new();
        for _ in 0..4 {
            assert_eq!(there.recv().unwrap().payload.len(), 250_000);
            let (arrived, due) = (there.receiver().arrival(), there.receiver().due());
            assert!(arrived >= due, "a frame was early by {} ns", due - arrived);
            dues.push(due);
        }
        let (started, waited) = sending.join().unwrap();
        let mut free = 0;
        for (started, due) in started.iter().zip(dues) {
            // An idle wire has earned nothing, and a busy one sends one frame after the other.
            assert!(due >= (*started).max(free) + length + 2_000_000);
            free = due - 2_000_000;
        }
        assert!(waited > 0, "a megabyte does not fit into the queue");
    });
}

#[test]
fn what_is_ahead_of_the_wire_must_fit_into_the_socket() {
    let (mut here, _there) = Link::pair(LONG).unwrap();
    let mut wanted = cell::LinkSettings { queue: Some(Bytes(1 << 40)), ..link(125_000_000, 0.0) };
    let error = here.shape(&wanted).unwrap_err().to_string();
    assert!(error.contains("link.queue") && error.contains(" as root `sysctl net.core.wmem_max="), "{error}");
    wanted = cell::LinkSettings { rate: None, queue: None, ..link(1, 0.001) };
    assert!(matches!(here.shape(&wanted), Err(LinkError::DelayWithoutRate)));
    wanted.delay = Seconds(0.0);
    assert_eq!(here.shape(&wanted).unwrap(), None, "an unlimited link has no queue");
}

#[test]
fn a_frame_from_the_far_future_is_refused() {
    let (here, mut there) = Link::pair(LONG).unwrap();
    there.shape(&link(125_000_000, 0.0)).unwrap();
    let mut header = encode_header(FrameKind::Hello, 0, [], 0).unwrap();
    frame::seal(&mut header, 0, u64::MAX);
    raw(&here, &header);
    let LinkError::Frame(error) = there.recv().unwrap_err() else { panic!("not a frame error") };
    assert!(matches!(error.fault, FrameFault::Release { seconds } if seconds > 20), "{error}");
}

#[test]
fn nobody_to_connect_to_and_nobody_who_connects() {
    let gone = LinkListener::bind(&settings(Transport::Tcp)).unwrap().address().clone();
    let error = gone.connect(LONG).unwrap_err();
    assert!(matches!(&error, LinkError::Connect { address, .. } if *address == gone.to_string()), "{error}");
    let unix = LinkAddress::Unix { name: "migbench-nobody-listens-here".to_owned() };
    assert!(matches!(unix.connect(LONG), Err(LinkError::Connect { .. })));
    let directory = tempfile::tempdir().unwrap();
    let path = LinkAddress::Path { path: directory.path().join("link") };
    assert!(matches!(path.connect(LONG), Err(LinkError::Connect { .. })));
    let listener = LinkListener::bind_to(&path).unwrap();
    let mut here = path.connect(LONG).unwrap();
    here.send(FrameKind::Done, &[]).unwrap();
    assert_eq!(listener.accept(LONG).unwrap().recv().unwrap().kind, FrameKind::Done);
    for transport in [Transport::Unix, Transport::Tcp] {
        let listener = LinkListener::bind(&settings(transport)).unwrap();
        assert!(matches!(listener.accept(SHORT), Err(LinkError::Timeout { .. })));
        let json = serde_json::to_string(listener.address()).unwrap();
        assert_eq!(serde_json::from_str::<LinkAddress>(&json).unwrap(), *listener.address());
    }
}
