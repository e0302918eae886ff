//! `/dev/kvm`: opening it, with an error that says what to do.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::Kvm;
use nix::errno::Errno;

/// Why KVM can't be used. The text is [`found`](Self::found) and [`remedy`](Self::remedy) in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.found(), self.remedy())]
pub enum KvmOpenError {
    /// There is no such file.
    Missing {
        /// The device.
        path: PathBuf,
    },
    /// This user may not open it.
    Denied {
        /// The device.
        path: PathBuf,
    },
    /// The file is there, but no driver answers.
    NoDriver {
        /// The device.
        path: PathBuf,
    },
    /// Something opened that is not KVM, or a KVM that nobody knows.
    Version {
        /// The device.
        path: PathBuf,
        /// What it gave as its version; negative if it knows no such question.
        version: i32,
    },
    /// Anything else.
    Other {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
}

impl KvmOpenError {
    /// What is wrong, without the remedy.
    #[must_use]
    pub fn found(&self) -> String {
        match self {
            Self::Missing { path } => format!("{} does not exist", path.display()),
            Self::Denied { path } => format!("no rights to open {}", path.display()),
            Self::NoDriver { path } => format!("{} exists, but no KVM module answers", path.display()),
            Self::Version { path, version } if *version < 0 => format!("{} is not KVM", path.display()),
            Self::Version { path, version } => {
                format!(
                    "{} speaks version {version} of the KVM interface, not {KVM_API_VERSION}",
                    path.display()
                )
            }
            Self::Other { path, errno } => format!("can't open {}: {}", path.display(), errno.desc()),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "load the module (`modprobe kvm_intel` or `modprobe kvm_amd`); if that fails, enable \
                 virtualisation (VT-x, AMD-V) in the firmware, or nested virtualisation in the hypervisor below; \
                 in a container, pass the device in (`--device /dev/kvm`)"
            }
            Self::Denied { .. } => {
                "add yourself to the group `kvm` (`sudo usermod -aG kvm $USER`, then log in again), or run as root"
            }
            Self::NoDriver { .. } => {
                "enable virtualisation (VT-x, AMD-V) in the firmware, or nested virtualisation in the hypervisor \
                 below, then load the module (`modprobe kvm_intel` or `modprobe kvm_amd`)"
            }
            Self::Version { .. } => "use the device of a Linux kernel from 2.6.22 on",
            Self::Other { .. } => "see `dmesg` for what the kernel has to say",
        }
    }

    fn from_errno(path: PathBuf, errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Self::Missing { path },
            Errno::EACCES | Errno::EPERM => Self::Denied { path },
            Errno::ENODEV | Errno::ENXIO => Self::NoDriver { path },
            errno => Self::Other { path, errno },
        }
    }
}

/// Opens KVM and checks that it is KVM.
///
/// # Errors
/// With the remedy in the text.
pub fn open_kvm(path: &Path) -> Result<Kvm, KvmOpenError> {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return Err(KvmOpenError::Missing { path: path.to_owned() });
    };
    let kvm = Kvm::new_with_path(&name)
        .map_err(|error| KvmOpenError::from_errno(path.to_owned(), Errno::from_raw(error.errno())))?;
    let version = kvm.get_api_version();
    if u32::try_from(version) == Ok(KVM_API_VERSION) {
        Ok(kvm)
    } else {
        Err(KvmOpenError::Version { path: path.to_owned(), version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_has_its_own_remedy() {
        let error = |errno| KvmOpenError::from_errno("/dev/kvm".into(), errno);
        assert_eq!(error(Errno::EACCES), KvmOpenError::Denied { path: "/dev/kvm".into() });
        assert!(error(Errno::EACCES).to_string().contains("group `kvm`"));
        assert!(error(Errno::ENOENT).to_string().contains("/dev/kvm does not exist; load the module"));
        assert!(error(Errno::ENODEV).to_string().contains("firmware"));
        assert!(error(Errno::EMFILE).to_string().contains("Too many open files"));
    }

    #[test]
    fn a_missing_and_a_wrong_device_are_told_apart() {
        let missing = open_kvm(Path::new("/nowhere/kvm")).expect_err("no such file");
        assert_eq!(missing, KvmOpenError::Missing { path: "/nowhere/kvm".into() });
        let wrong = open_kvm(Path::new("/dev/null")).expect_err("not KVM");
        assert_eq!(wrong, KvmOpenError::Version { path: "/dev/null".into(), version: -1 });
        assert!(wrong.to_string().starts_with("/dev/null is not KVM"));
    }
}
