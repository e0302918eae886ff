//! Writing an artifact: as a folder, or as a compressed archive that is the same, byte for byte, whenever it is made.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use flate2::{Compression, GzBuilder};

use super::{Artifact, ArtifactError};
use crate::replace::beside;

impl Artifact {
    /// Writes it to `target`: an archive where the name ends in `.tar.gz` or `.tgz`, with one folder named after it; else a
    /// folder. What is there already is left alone.
    ///
    /// # Errors
    /// [`ArtifactError::Occupied`], [`ArtifactError::Unwritable`].
    pub fn write(&self, target: &Path) -> Result<(), ArtifactError> {
        let unwritable = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => ArtifactError::Occupied { path: target.to_owned() },
            _ => ArtifactError::Unwritable { path: target.to_owned(), source },
        };
        match folder_of(target) {
            Some(folder) => self.archive(target, &folder).map_err(unwritable),
            None => self.folder(target).map_err(unwritable),
        }
    }

    fn folder(&self, target: &Path) -> io::Result<()> {
        made_whole(target, |half| {
            for (path, content) in self.files() {
                let path = half.join(path);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(path, content)?;
            }
            Ok(())
        })
    }

    fn archive(&self, target: &Path, folder: &str) -> io::Result<()> {
        made_whole(target, |half| {
            let file = File::create(half)?;
            self.compressed(&file, folder)?;
            file.sync_all()
        })
    }

    fn compressed(&self, file: &File, folder: &str) -> io::Result<()> {
        // Neither time nor owner, so that the same records give the same archive.
        let gzip = GzBuilder::new().mtime(0).write(file, Compression::best());
        let mut archive = tar::Builder::new(gzip);
        archive.mode(tar::HeaderMode::Deterministic);
        for (path, content) in self.files() {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_entry_type(tar::EntryType::Regular);
            archive.append_data(&mut header, format!("{folder}/{path}"), content.as_slice())?;
        }
        archive.into_inner()?.finish()?.flush()
    }
}

/// Makes `target`, which must not be there, by what `make` writes beside it: half an artifact is none, and nobody's to remove
/// before the next try.
fn made_whole(target: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    if fs::symlink_metadata(target).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let half = beside(target)?;
    let clear = || fs::remove_dir_all(&half).or_else(|_| fs::remove_file(&half));
    let _ = clear();
    make(&half).and_then(|()| fs::rename(&half, target)).inspect_err(|_| drop(clear()))
}

/// The folder in an archive of that name; `None` where it is the name of no archive.
fn folder_of(target: &Path) -> Option<String> {
    let name = target.file_name()?.to_str()?;
    let stem = name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".tgz"))?;
    (!stem.is_empty()).then(|| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn artifact() -> Artifact {
        let files = BTreeMap::from([
            ("a.txt".to_owned(), b"one".to_vec()),
            ("inner/b.txt".to_owned(), b"two".to_vec()),
        ]);
        Artifact { files, runs: 0 }
    }

    #[test]
    fn the_same_content_gives_the_same_archive() {
        let scratch = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let path = scratch.path().join(name).join("out.tar.gz");
            artifact().write(&path).unwrap();
            fs::read(path).unwrap()
        };
        let (first, second) = (read("x"), read("y"));
        assert!(first == second && first.starts_with(&[0x1f, 0x8b]));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(first.as_slice()));
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["out/SHA256SUMS", "out/a.txt", "out/inner/b.txt"]);
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        // As killed ones leave them.
        fs::write(scratch.path().join(".out.tgz.partial"), "half").unwrap();
        fs::create_dir_all(scratch.path().join(".folder.partial/inner/old")).unwrap();
        for name in ["out.tgz", "folder"] {
            let path = scratch.path().join(name);
            artifact().write(&path).unwrap();
            let error = artifact().write(&path).unwrap_err().to_string();
            assert!(error.contains("is there already"), "{error}");
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing half is left");
        assert!(!scratch.path().join("folder/inner/old").exists());
        assert_eq!(fs::read_to_string(scratch.path().join("folder/inner/b.txt")).unwrap(), "two");
    }
}
