//! What a build of the program says of itself. A runner asks before it lets nodes of another build run: the two speak one
//! protocol, or they would lose each other in the middle of a suite.

use migbench_reports::manifest::Tool;
use serde::{Deserialize, Serialize};

/// The language between runner and node. To be raised with every change of [`super::protocol`] or of the types that its
/// messages carry (a cell, a round): `cargo test` shows such a change and asks for it.
pub const PROTOCOL: u32 = 7;

/// The program that this is.
pub const PROGRAM: &str = "migbench";

/// What `migbench node --about` prints, in one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// [`PROGRAM`].
    pub program: String,
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version and commit.
    #[serde(flatten)]
    pub tool: Tool,
}

impl About {
    /// This build.
    #[must_use]
    pub fn this() -> Self {
        let tool = crate::host::provenance::this_tool();
        Self { program: PROGRAM.to_owned(), protocol: PROTOCOL, tool }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::steady::Steady;
    use crate::node::protocol::{Message, NodeAssignment, Order, Role, SourceReport};
    use crate::wire::address::LinkAddress;
    use migbench_reports::record::{Decided, Decision, Round};
    use migbench_scenarios::cell::{Rule, Side, Throttle};
    use migbench_workloads::units::Bytes;

    fn assignment() -> NodeAssignment {
        let plan = migbench_scenarios::Suite::find("quick").unwrap().expand().unwrap();
        let mut cell = plan.comparisons[0].cells[0].cell.clone();
        cell.side = Some(Side::New);
        cell.binary = Some("binary".to_owned());
        cell.qemu = Some(Default::default());
        cell.stop.set_rule(Rule::Ramp);
        (cell.stop.ramp_steps, cell.stop.rounds, cell.stop.ceiling.0) = (3, 3, 3.0);
        cell.throttle = Throttle::Quota;
        cell.throttle_settings = Some(Default::default());
        NodeAssignment {
            role: Role::Source,
            cell,
            seed: 1,
            guest_flags: 0,
            verify: true,
            start_jitter: 0.0,
            fault: "source:kill@connect".parse().ok(),
            planted_cost: "encode+10%".parse().ok(),
            telemetry: 3,
            network: Some(4),
            token: serde_json::from_value("0123456789abcdef".repeat(4).into()).unwrap(),
            scratch: Some("scratch".into()),
        }
    }

    /// The fields of all that is said, in their order.
    #[test]
    fn another_language_has_another_number() {
        // What may be absent must be there to be seen.
        let stage = Some(0.0);
        let round = Round {
            harvest_time: stage,
            copy_time: stage,
            encode_time: stage,
            send_time: stage,
            wait_time: stage,
            wire_idle: stage,
            estimate: stage,
            decision: Some(Decision {
                decided: Decided::SwitchOver,
                pages: 0,
                queued: 0.0,
                estimate: stage,
                bytes: stage,
                overhead: stage,
                limit: stage,
            }),
            ..Round::default()
        };
        let source = SourceReport {
            steady: Some(Steady::default()),
            sending: Some(crate::node::protocol::Sending { rounds: vec![round], ..Default::default() }),
            precopy: Some(Default::default()),
            peer: Some(Default::default()),
            stalled: Some(Default::default()),
            ..SourceReport::default()
        };
        let said = (
            PROTOCOL,
            Order::Prepare(Box::new(assignment())),
            Order::Migrate { address: None },
            Order::SourceEnded,
            Message::Listening { address: LinkAddress::Tcp { host: "host".to_owned(), port: 1 } },
            Message::Listening { address: LinkAddress::Netns { port: 1, queue: Some(Bytes(1)) } },
            Message::Source(Box::new(source)),
            Message::Destination(Box::default()),
        );
        insta::assert_snapshot!(serde_json::to_string_pretty(&said).unwrap());
    }

    #[test]
    fn a_build_says_what_it_is() {
        let text = serde_json::to_string(&About::this()).unwrap();
        assert_eq!(serde_json::from_str::<About>(&text).unwrap(), About::this());
        assert!(text.starts_with("{\"program\":\"migbench\",\"protocol\":"), "{text}");
    }
}
