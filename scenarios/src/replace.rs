//! Files that are replaced as a whole: who finds one finds all of it, of before or of now.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts `content` in the place of what the file at `path` holds. It is written beside it and renamed: a full disk or a process
/// that is killed leaves what was there. What is no file of its own, such as a pipe, is written to as it is.
///
/// # Errors
/// As the file system; the file is as it was.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = &target(path);
    let before = fs::metadata(path).ok();
    if before.as_ref().is_some_and(|found| !found.is_file()) {
        return fs::write(path, content);
    }
    let half = beside(path)?;
    let write = || {
        let mut file = File::create(&half)?;
        if let Some(before) = &before {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&half, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })
}

/// Makes a file with this content, whole or not at all.
///
/// # Errors
/// As the file system, and where there is one already, which stays.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let half = beside(path)?;
    let write = || {
        let mut file = File::create(&half)?;
        file.write_all(content)?;
        file.sync_all()?;
        match fs::hard_link(&half, path) {
            // Not every file system has second names.
            Err(error)
                if error.kind() != io::ErrorKind::AlreadyExists && fs::symlink_metadata(path).is_err() =>
            {
                fs::rename(&half, path)
            }
            other => other,
        }
    };
    let written = write();
    let _ = fs::remove_file(&half);
    written
}

/// Adds to the end of a file, all or nothing: where there is no room, what there was for is given back.
///
/// # Errors
/// As the file system; the file is as it was, unless that can't be either.
pub fn append(file: &mut File, content: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(content).inspect_err(|_| {
        let _ = file.set_len(before);
    })
}

/// Whether [`replace`] could put a file there, as far as can be known before there is something to write.
///
/// # Errors
/// As the file system.
pub fn check(path: &Path) -> io::Result<()> {
    let path = &target(path);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => Ok(()),
        _ => {
            let half = beside(path)?;
            File::create(&half)?;
            fs::remove_file(half)
        }
    }
}

/// Behind a link the file is replaced, and not the link.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Hidden: what a killed process leaves is nobody's result, and no artifact packs it.
pub fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(".partial");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("record.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // Nothing can be written beside it.
        let beside = scratch.path().join(".record.json.partial");
        fs::create_dir(&beside).unwrap();
        replace(&path, b"three").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        check(&path).unwrap_err();
        fs::remove_dir(&beside).unwrap();
        check(&path).unwrap();
        assert!(check(&scratch.path().join("none/record.json")).is_err() && check(scratch.path()).is_err());

        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        create(&path, b"other").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        let new = scratch.path().join("new");
        create(&new, b"new").unwrap();
        assert_eq!(fs::read(&new).unwrap(), b"new");
        fs::remove_file(new).unwrap();
        replace(Path::new("/dev/null"), b"five").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
