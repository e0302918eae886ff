//! `migbench artifact`: a run directory for reviewers.

use std::path::{Path, PathBuf};

use migbench_reports::artifact::Artifact;

use super::reading::Reading;
use super::{Exit, last_run, print};

/// Packs a run directory, or a directory of them, for reviewers.
///
/// The archive holds the records, the reports with their figures, the host, the commands and the suites, SHA256SUMS for
/// `sha256sum -c`, and REPRODUCE.md, which explains to a reviewer what it is, how to check it, how to make the tables again from the records, and how to
/// measure again, with the time and the disk that takes. It needs no KVM, and the same directory gives the same bytes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench artifact results/bhardwaj               -> bhardwaj-artifact.tar.gz
  migbench artifact results/bhardwaj -o review     a folder in place of an archive
  migbench artifact results/bhardwaj --anonymous   for a review in which authors have no name")]
pub struct ArtifactCommand {
    /// What `migbench run -o` or `migbench reproduce -o` was given; without it the last run.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// An archive where it ends in .tar.gz or .tgz, else a folder; must not be there yet. Without it <DIR's
    /// name>-artifact.tar.gz here, or anonymous-artifact.tar.gz.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out what tells who measured and where: host names, paths, names of run directories, the kernel's command line, and files
    /// beside the records.
    /// Times, the class of the host and the commit of migbench stay.
    #[arg(long)]
    anonymous: bool,
    #[command(flatten)]
    reading: Reading,
}

impl ArtifactCommand {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let directory = last_run::or_last(self.directory)?;
        let made = if self.anonymous { Artifact::anonymous } else { Artifact::of };
        let artifact = made(&directory, self.reading.accept())?;
        let target = self.output.unwrap_or_else(|| match self.anonymous {
            true => PathBuf::from("anonymous-artifact.tar.gz"),
            false => default(&directory),
        });
        artifact.write(&target)?;
        let files = artifact.files().len();
        print(&format!("{}: {files} files, {} records", target.display(), artifact.runs()))?;
        Ok(Exit::Success)
    }
}

/// Named after the directory, which may be `.`.
fn default(directory: &Path) -> PathBuf {
    let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let name = whole.file_name().map_or_else(|| "runs".into(), std::ffi::OsStr::to_string_lossy);
    PathBuf::from(format!("{name}-artifact.tar.gz"))
}
