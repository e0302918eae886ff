//! How commands read run directories: those of guests, and simulated ones only for tests that ask for them.

use std::path::Path;

use migbench_reports::report::Report;
use migbench_reports::store::{Accept, RunData, StoreError};

/// Shared by every command that reads a run directory.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Reading {
    /// Read simulated run directories too, for tests.
    #[arg(long, hide = true)]
    simulated: bool,
}

impl Reading {
    /// One that reads what `accept` says.
    #[must_use]
    pub const fn of(accept: Accept) -> Self {
        Self { simulated: matches!(accept, Accept::Simulated) }
    }

    /// What is read.
    #[must_use]
    pub const fn accept(self) -> Accept {
        if self.simulated { Accept::Simulated } else { Accept::Guests }
    }

    /// Manifest and records of a run directory.
    ///
    /// # Errors
    /// Those of [`RunData::load_as`].
    pub fn data(self, directory: &Path) -> Result<RunData, StoreError> {
        RunData::load_as(directory, self.accept())
    }

    /// The report of a run directory.
    ///
    /// # Errors
    /// Those of [`RunData::load_as`].
    pub fn report(self, directory: &Path) -> Result<Report, StoreError> {
        Report::load_as(directory, self.accept())
    }
}
