//! What the runner makes of nodes that say too much, nonsense, or nothing more.

use std::io::BufReader;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// What is heard of a node that says this.
fn heard(said: impl std::io::Read, longest: usize) -> Vec<NodeEvent> {
    let (sender, events) = sync_channel(16);
    listen(Role::Source, BufReader::new(said), longest, &sender);
    drop(sender);
    events.iter().collect()
}

#[test]
fn what_is_no_message_is_named_and_nothing_is_read_after_it() {
    let events = heard(&b"\"Steady\"\n\"Steady\"\n"[..], 100);
    assert!(
        matches!(&events[..], [NodeEvent::Said(_), NodeEvent::Said(_), NodeEvent::Closed(Role::Source)]),
        "{events:?}"
    );

    let events = heard(&b"\"Steady\"\n{\"Un\x1bknown\":1}\n\"Steady\"\n"[..], 100);
    let [NodeEvent::Said(_), NodeEvent::Garbled(Role::Source, why)] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(why.starts_with("the control socket carried what is no message: "), "{why}");
    assert!(!why.contains('\x1b'), "{why:?}");

    let events = heard(std::io::repeat(b' '), 1000);
    let [NodeEvent::Garbled(Role::Source, why)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(why, "the control socket carried a line of more than 1000 bytes");

    // Killed while it reported.
    let events = heard(&b"{\"Source\":{\"fail"[..], 1000);
    assert!(matches!(&events[..], [NodeEvent::Closed(Role::Source)]), "{events:?}");
}

/// A whole report of samples, stalls, rounds and histograms fits.
#[test]
fn the_longest_report_is_let_through() {
    let cell = Cell::default_for(migbench_scenarios::cell::Engine::Full, "idle").unwrap();
    let limit = Duration::from_secs(20);
    let longest = longest_message(&cell, limit);
    let mut report = SourceReport::default();
    report.samples.operations = vec![(u64::MAX, u64::MAX); 20_000];
    let event = events::Event {
        start: u64::MAX,
        end: u64::MAX,
        cause: migbench_reports::record::Cause::Arm,
        vcpu: Some(u32::MAX),
    };
    let stalled = crate::node::protocol::Stalled { events: vec![event; events::ROOM], ..Default::default() };
    report.stalled = Some(stalled);
    let number = -f64::MAX / 3.0;
    let round = Round {
        round: u32::MAX,
        start: number,
        dirty_pages: u64::MAX,
        traffic: u64::MAX,
        pages_full: u64::MAX,
        pages_zero: u64::MAX,
        pages_delta: u64::MAX,
        pages_unchanged: u64::MAX,
        pages_overflow: u64::MAX,
        estimate: Some(number),
        decision: Some(migbench_reports::record::Decision {
            decided: migbench_reports::record::Decided::SwitchOver,
            pages: u64::MAX,
            queued: number,
            estimate: Some(number),
            bytes: Some(number),
            overhead: Some(number),
            limit: Some(number),
        }),
        ..Round::default()
    };
    assert!(serde_json::to_string(&round).unwrap().len() < 2048 / 2, "the bound of a round");
    report.rounds = vec![round; cell.stop.max_rounds as usize + 1];
    let all = 5 * 4 * 2;
    report.histograms = (0..all).map(|n| (n.to_string(), "A".repeat(31 * 1024 * 12))).collect();
    let line = serde_json::to_vec(&Message::Source(Box::new(report))).unwrap();
    assert!(line.len() <= longest, "{} of {longest} bytes", line.len());
    assert!(longest < 2 * line.len(), "{longest} bytes for a line of {}", line.len());
    // Without an end to rounds, what bounds them is time.
    let mut endless = cell;
    endless.stop.max_rounds = u32::MAX;
    assert!(longest_message(&endless, limit) < usize::MAX / 2);
}

/// As large as they can be written.
#[test]
fn no_option_overflows_what_a_run_may_take_or_say() {
    let mut cell = Cell::default_for(migbench_scenarios::cell::Engine::Full, "idle").unwrap();
    cell.stop.max_rounds = u32::MAX;
    cell.memory.0 = u64::MAX;
    cell.link.rate = Some(migbench_workloads::units::Rate(1));
    for time in [0.3, 3.6e19, 1e308] {
        cell.stop.max_time.0 = time;
        cell.windows.steady.0 = time;
        let limit = crate::runner::suite::limit(&cell);
        assert!(limit > Duration::from_secs(120) && longest_message(&cell, limit) > 0);
    }
    let mut empty: &[u8] = b"";
    assert!(matches!(read_line::<Message>(&mut empty, usize::MAX), Err(ProtocolError::Closed)));
}

/// A node that does as the test says.
#[derive(Default)]
struct Played {
    orders: Vec<String>,
    killed: bool,
}

impl Node for Played {
    fn order(&mut self, order: &Order) {
        self.orders.push(serde_json::to_string(order).unwrap());
    }

    fn kill(&mut self) {
        self.killed = true;
    }

    fn reap(&mut self) -> String {
        if self.killed { "was killed by signal 9".into() } else { "ended with status 0".into() }
    }
}

/// Ctrl-Z stops the runner and not the nodes.
#[test]
fn what_nodes_have_said_counts_more_than_the_time_that_passed() {
    let (sender, events) = sync_channel(16);
    let ends = [NodeEvent::Closed(Role::Source), NodeEvent::Closed(Role::Destination)];
    // Five looks, each of which counts for an eighth at most.
    let limit = Duration::from_millis(80);
    let (mut source, mut destination) = (Played::default(), Played::default());
    let stopped = std::cell::Cell::new(false);
    let stop = || {
        if !stopped.replace(true) {
            std::thread::sleep(3 * limit);
            sender.send(said(Message::Source(Box::default()))).unwrap();
            sender.send(said(Message::Destination(Box::default()))).unwrap();
        }
        false
    };
    let mut moments = Vec::new();
    let mut ends = ends.into_iter();
    let outcome = conduct(&mut source, Some(&mut destination), &events, limit, &stop, &mut |moment| {
        moments.push(moment.to_string());
        if let Moment::Reported(_) = moment {
            sender.send(ends.next().unwrap()).unwrap();
        }
    })
    .unwrap();
    assert_eq!(outcome.timed_out, None, "{moments:?}");
    assert!(outcome.source.report().is_some() && outcome.destination.unwrap().report().is_some());

    // Nodes that say nothing, or do not end, are ended.
    let outcome =
        conduct(&mut source, Some(&mut destination), &events, limit, &|| false, &mut |_| {}).unwrap();
    assert!(outcome.timed_out.is_some() && source.killed && destination.killed);
    let Some(NodeOutcome::Died(how)) = outcome.destination else { panic!("{outcome:?}") };
    assert_eq!(how, "was ended by the runner", "a signal of its own is nobody else's");
}

/// Plays these events; gives the outcome and both nodes.
fn played(events: Vec<NodeEvent>) -> (RunOutcome, Played, Played) {
    let (sender, said) = sync_channel(events.len());
    events.into_iter().for_each(|event| sender.send(event).unwrap());
    let (mut source, mut destination) = (Played::default(), Played::default());
    let outcome = conduct(&mut source, Some(&mut destination), &said, LONG, &|| false, &mut |_| {}).unwrap();
    (outcome, source, destination)
}

fn said(message: Message) -> NodeEvent {
    NodeEvent::Said(Box::new(message))
}

/// Before it was ordered to migrate, while it tried to connect, or killed at any time: nobody waits for it.
#[test]
fn a_destination_hears_that_the_source_will_not_come() {
    let listening = || said(Message::Listening { address: LinkAddress::Unix { name: "a".into() } });
    let report = |handed_over| {
        said(Message::Source(Box::new(SourceReport { handed_over, ..SourceReport::default() })))
    };
    let ends =
        || [NodeEvent::Closed(Role::Source), said(Message::Steady), NodeEvent::Closed(Role::Destination)];
    let called_off = |before: Vec<NodeEvent>| {
        let (_, _, destination) = played(before.into_iter().chain(ends()).collect());
        assert!(!destination.killed);
        destination.orders
    };
    assert_eq!(called_off(vec![]), ["\"SourceEnded\""], "killed as it booted");
    assert_eq!(called_off(vec![listening(), report(false)]), ["\"SourceEnded\""]);
    assert_eq!(called_off(vec![listening(), said(Message::Steady), report(false)]), ["\"SourceEnded\""]);
    let handed_over = vec![listening(), said(Message::Steady), report(true)];
    assert!(called_off(handed_over).is_empty(), "the guest is there");
}

#[test]
fn a_run_of_which_no_node_can_tell_has_come_as_far_as_was_heard() {
    let listening = || said(Message::Listening { address: LinkAddress::Unix { name: "a".into() } });
    let both = || [NodeEvent::Closed(Role::Source), NodeEvent::Closed(Role::Destination)];
    for (before, reached) in [
        (vec![], "warmup"),
        (vec![listening(), said(Message::Steady)], "connect"),
        (vec![listening(), said(Message::Steady), said(Message::Round(Box::default()))], "precopy"),
    ] {
        let (outcome, _, _) = played(before.into_iter().chain(both()).collect());
        assert_eq!(outcome.reached, reached);
    }
}

#[test]
fn telemetry_tells_how_far_a_guest_had_come() {
    let file =
        || nix::sys::memfd::memfd_create(c"telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut cell = Cell::default_for(migbench_scenarios::cell::Engine::Full, "idle").unwrap();
    cell.vcpus = 2;
    assert_eq!(reached(&file(), &cell), Some("boot"), "nobody has even mapped it");
    let file = file();
    let telemetry = Telemetry::map(&file, 2, cell.timing).unwrap();
    let at = |states: [u32; 2], phase| {
        for (vcpu, state) in states.into_iter().enumerate() {
            telemetry.vcpu(vcpu).state.store(state, std::sync::atomic::Ordering::Release);
        }
        telemetry.control().phase.store(phase, std::sync::atomic::Ordering::Release);
        reached(&file, &cell)
    };
    let running = [abi::STATE_RUNNING; 2];
    assert_eq!(at([abi::STATE_RUNNING, abi::STATE_BOOTED], abi::PHASE_WARMUP), Some("boot"));
    assert_eq!(at(running, abi::PHASE_WARMUP), Some("warmup"));
    assert_eq!(at(running, abi::PHASE_STEADY), Some("warmup"));
    assert_eq!(at(running, abi::PHASE_PRECOPY), None, "connecting or later: others know more");
    assert_eq!(at(running, abi::PHASE_CATCHUP), Some("after"));
    assert_eq!(at([abi::STATE_RUNNING, abi::STATE_STOPPED], abi::PHASE_CATCHUP), Some("validate"));
}

#[test]
fn a_node_that_cannot_be_understood_is_ended_and_the_outcome_says_why() {
    let events = vec![
        NodeEvent::Garbled(Role::Destination, "nonsense".into()),
        said(Message::Source(Box::default())),
        NodeEvent::Closed(Role::Source),
    ];
    let (outcome, source, destination) = played(events);
    assert!(destination.killed && !source.killed);
    let Some(NodeOutcome::Died(how)) = outcome.destination else { panic!("{outcome:?}") };
    assert_eq!(how, "sent what is no message: nonsense");
    assert!(outcome.source.report().is_some());
}
