//! migbench.
