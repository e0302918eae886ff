//! migbench.

pub mod codec;
pub mod wire;
