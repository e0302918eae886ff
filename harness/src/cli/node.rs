//! `migbench node`: one half of a migration, started by the runner.

use super::Exit;

/// One half of a migration; started by `migbench run` and `migbench migrate`.
#[derive(Debug, clap::Args)]
pub struct Node {
    /// Descriptor of the control socket.
    #[arg(long)]
    control: i32,
}

impl Node {
    pub fn execute(self) -> anyhow::Result<Exit> {
        crate::node::serve(self.control)?;
        Ok(Exit::Success)
    }
}
