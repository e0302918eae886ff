//! `migbench node`: one half of a migration, started by the runner.

use super::{Exit, print};
use crate::node::{self, about::About};
use crate::peer;

/// One half of a migration; started by `migbench run` and `migbench migrate`.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// Descriptor of the control socket.
    #[arg(long, required_unless_present = "about")]
    control: Option<i32>,
    /// Only say which build this is, in a line of JSON.
    #[arg(long)]
    about: bool,
}

impl NodeArgs {
    pub fn execute(self) -> anyhow::Result<Exit> {
        match self.control {
            Some(descriptor) if !self.about => {
                let (mut control, assignment) = node::accept(descriptor)?;
                let serve = if assignment.cell.engine.is_peer() { peer::serve } else { node::serve };
                serve(&mut control, &assignment)?;
            }
            _ => print(&serde_json::to_string(&About::this())?)?,
        }
        Ok(Exit::Success)
    }
}
