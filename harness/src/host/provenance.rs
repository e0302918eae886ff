//! What machine and what program made a record. [`collect`] reads `/proc` and `/sys` below a root directory into
//! the manifest's [`Host`]; [`this_host`] adds what only instructions and ioctls report. Nothing is guessed: what
//! the machine does not say is absent.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kvm_ioctls::{Cap, Kvm as KvmDevice};
use migbench_reports::manifest::{Host, KvmBackend, KvmInfo, Thp, Tool, Userfaultfd};
use procfs::prelude::FromRead;
use procfs::{CpuInfo, LoadAverage};

use super::limits::{memory_left, usable_cpus};

/// The machine that this process runs on.
#[must_use]
pub fn this_host() -> Host {
    let root = Path::new("/");
    let mut host = collect(root);
    if host.nested == Some(true) {
        host.hypervisor = host.hypervisor.or_else(hypervisor_signature);
    }
    host.usable_cores = usable_cpus().filter(|usable| Some(*usable) < host.logical_cores);
    if let (Some(free), Some(left)) = (&mut host.memory_free, memory_left(root)) {
        *free = left.free.0.min(*free);
    }
    host.tsc_khz = super::kvm::open_kvm(&root.join("dev/kvm")).ok().as_ref().and_then(tsc_khz);
    host
}

/// The program, as its build saw it.
#[must_use]
pub fn this_tool() -> Tool {
    Tool {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("MIGBENCH_COMMIT").map(str::to_owned),
        dirty: option_env!("MIGBENCH_DIRTY").map(|dirty| dirty == "true"),
    }
}

/// Reads the machine's description from the files below `root`, which is `/` but in tests.
#[must_use]
pub fn collect(root: &Path) -> Host {
    let files = Files { root };
    let cpu = files.cpu_info();
    let flag = |name: &str| -> Option<bool> {
        Some(cpu.as_ref()?.get_field(0, "flags")?.split_whitespace().any(|flag| flag == name))
    };
    let nested = flag("hypervisor");
    Host {
        hostname: files.read("proc/sys/kernel/hostname"),
        cpu_model: cpu.as_ref().and_then(|cpu| cpu.model_name(0)).map(str::to_owned),
        physical_cores: cpu.as_ref().and_then(physical_cores),
        usable_cores: None,
        logical_cores: cpu.as_ref().and_then(|cpu| u32::try_from(cpu.num_cores()).ok()),
        memory: files.memory("MemTotal:"),
        memory_free: files.memory("MemAvailable:"),
        kernel: files.read("proc/sys/kernel/osrelease"),
        os: files.os(),
        cmdline: files.read("proc/cmdline").map(|line| kernel_part(&line).to_owned()),
        kvm: files.kvm(flag("vmx"), flag("svm")),
        thp: files.thp(),
        ksm: files.read("sys/kernel/mm/ksm/run").map(|run| run == "1"),
        // 2 is "memory tiering only", which moves pages just as well.
        numa_balancing: files.read("proc/sys/kernel/numa_balancing").map(|mode| mode != "0"),
        mitigations: files.map_of("sys/devices/system/cpu/vulnerabilities"),
        governor: files.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo: files.turbo(),
        smt: files.read("sys/devices/system/cpu/smt/active").and_then(|active| switch(&active)),
        userfaultfd: files.userfaultfd(),
        nested,
        hypervisor: if nested == Some(true) { files.hypervisor() } else { None },
        clock_source: files.read("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        tsc_khz: None,
        load_average: files.load_average(),
    }
}

/// The files below a root directory.
struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The file's text without the white space around it; absent when that is nothing.
    fn read(&self, path: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&fs::read(self.path(path)).ok()?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Every readable file of a directory by its name.
    fn map_of(&self, directory: &str) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(self.path(directory)) else { return BTreeMap::new() };
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let text = self.read(&format!("{directory}/{name}"))?;
                Some((name, text))
            })
            .collect()
    }

    fn cpu_info(&self) -> Option<CpuInfo> {
        // The parser asserts that there is something to parse.
        CpuInfo::from_read(self.read("proc/cpuinfo")?.as_bytes()).ok()
    }

    fn memory(&self, key: &str) -> Option<u64> {
        meminfo_bytes(&self.read("proc/meminfo")?, key)
    }

    fn os(&self) -> Option<String> {
        let release = self.read("etc/os-release")?;
        let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(name.trim_matches(['"', '\'']).to_owned())
    }

    fn kvm(&self, vmx: Option<bool>, svm: Option<bool>) -> Option<KvmInfo> {
        let loaded = |module: &str| self.path(&format!("sys/module/{module}")).is_dir();
        let backends = [
            (KvmBackend::Intel, "kvm_intel", vmx),
            (KvmBackend::Amd, "kvm_amd", svm),
            (KvmBackend::Pvm, "kvm_pvm", None),
        ];
        let mut present: Vec<_> = backends.into_iter().filter(|(_, module, _)| loaded(module)).collect();
        if present.is_empty() && !loaded("kvm") && !self.path("dev/kvm").exists() {
            return None;
        }
        if present.len() > 1 {
            // Built into the kernel, both vendors' modules have directories; only the CPU's own can be in use.
            present.retain(|(_, _, usable)| *usable != Some(false));
        }
        let backend = if let [(backend, _, _)] = present[..] { backend } else { KvmBackend::Unknown };
        let parameters = std::iter::once("kvm")
            .chain(present.iter().map(|(_, module, _)| *module))
            .flat_map(|module| {
                let values = self.map_of(&format!("sys/module/{module}/parameters"));
                values.into_iter().map(move |(name, value)| (format!("{module}.{name}"), value))
            })
            .collect();
        Some(KvmInfo { backend, parameters })
    }

    fn thp(&self) -> Option<Thp> {
        let word = |file: &str| {
            selected(&self.read(&format!("sys/kernel/mm/transparent_hugepage/{file}"))?).map(str::to_owned)
        };
        Some(Thp { enabled: word("enabled")?, defrag: word("defrag") })
    }

    fn turbo(&self) -> Option<bool> {
        let cpu = "sys/devices/system/cpu";
        if let Some(off) = self.read(&format!("{cpu}/intel_pstate/no_turbo")) {
            return switch(&off).map(|off| !off);
        }
        self.read(&format!("{cpu}/cpufreq/boost"))
            .or_else(|| self.read(&format!("{cpu}/cpu0/cpufreq/boost")))
            .and_then(|on| switch(&on))
    }

    fn userfaultfd(&self) -> Option<Userfaultfd> {
        let unprivileged = self.read("proc/sys/vm/unprivileged_userfaultfd").and_then(|value| switch(&value));
        let opened = fs::File::options().read(true).write(true).open(self.path("dev/userfaultfd"));
        let device = match opened {
            Ok(_) => Some(true),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(_) => Some(false),
        };
        (unprivileged.is_some() || device.is_some()).then_some(Userfaultfd { unprivileged, device })
    }

    fn hypervisor(&self) -> Option<String> {
        if let Some(kind) = self.read("sys/hypervisor/type") {
            return Some(kind);
        }
        let vendor = self.read("sys/class/dmi/id/sys_vendor");
        let product = self.read("sys/class/dmi/id/product_name");
        match (vendor, product) {
            (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
            (vendor, product) => vendor.or(product),
        }
    }

    fn load_average(&self) -> Option<[f64; 3]> {
        let load = LoadAverage::from_read(self.read("proc/loadavg")?.as_bytes()).ok()?;
        // Printed with two decimals, held as `f32`: rounding keeps 0.1 from becoming 0.10000000149.
        Some([load.one, load.five, load.fifteen].map(|load| (f64::from(load) * 100.0).round() / 100.0))
    }
}

/// `0` and `1`, as most switches of the kernel are written, and `N` and `Y`.
fn switch(text: &str) -> Option<bool> {
    match text {
        "0" | "N" => Some(false),
        "1" | "Y" => Some(true),
        _ => None,
    }
}

/// The kernel's own part of its command line. What follows `--` are arguments of init: no matter of a result, and
/// a record is for others to read.
fn kernel_part(cmdline: &str) -> &str {
    let end = cmdline.find(" -- ").unwrap_or(cmdline.len());
    cmdline[..end].trim_end_matches(" --").trim_end()
}

/// The word in brackets of a line such as `always [madvise] never`.
fn selected(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

/// A line of `/proc/meminfo` such as `MemTotal:  24683520 kB`, in bytes.
fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let mut words = meminfo.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace();
    let value: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => value.checked_mul(1024),
        None => Some(value),
        Some(_) => None,
    }
}

/// Cores without counting siblings. Absent where the kernel doesn't number them.
fn physical_cores(cpu: &CpuInfo) -> Option<u32> {
    let cores = (0..cpu.num_cores())
        .map(|n| Some((cpu.get_field(n, "physical id")?.to_owned(), cpu.get_field(n, "core id")?.to_owned())))
        .collect::<Option<std::collections::BTreeSet<_>>>()?;
    u32::try_from(cores.len()).ok()
}

/// The hypervisor by its signature in CPUID leaf `0x4000_0000`. Meaningful only where the CPU's hypervisor flag is
/// set.
#[cfg(target_arch = "x86_64")]
fn hypervisor_signature() -> Option<String> {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
    let text = String::from_utf8(bytes).ok()?;
    let text = text.trim_matches(['\0', ' ']);
    let name = match text {
        "KVMKVMKVM" => "KVM",
        "Microsoft Hv" => "Hyper-V",
        "VMwareVMware" => "VMware",
        "XenVMMXenVMM" => "Xen",
        "TCGTCGTCGTCG" => "QEMU TCG",
        other => other,
    };
    (!name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')).then(|| name.to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn hypervisor_signature() -> Option<String> {
    None
}

/// The frequency that KVM gives a vCPU's time-stamp counter, in kHz: the host's own, unless somebody scales it.
fn tsc_khz(kvm: &KvmDevice) -> Option<u64> {
    if !kvm.check_extension(Cap::GetTscKhz) {
        return None;
    }
    let khz = kvm.create_vm().ok()?.create_vcpu(0).ok()?.get_tsc_khz().ok()?;
    (khz > 0).then_some(u64::from(khz))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        }
        root
    }

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: Example 9000\nphysical id\t: 0\ncore id\t: 0\n\
        flags\t: fpu vmx tsc\n\nprocessor\t: 1\nmodel name\t: Example 9000\nphysical id\t: 0\ncore id\t: 0\n\
        flags\t: fpu vmx tsc\n\nprocessor\t: 2\nmodel name\t: Example 9000\nphysical id\t: 0\ncore id\t: 1\n\
        flags\t: fpu vmx tsc\n\n";

    #[test]
    fn an_empty_root_says_nothing() {
        let root = fixture(&[]);
        assert_eq!(collect(root.path()), Host::default());
        let root = fixture(&[("proc/cpuinfo", ""), ("proc/meminfo", "garbage"), ("proc/loadavg", "x")]);
        assert_eq!(collect(root.path()), Host::default());
    }

    #[test]
    fn a_bare_metal_host() {
        let cpu = "sys/devices/system/cpu";
        let root = fixture(&[
            ("proc/cpuinfo", CPUINFO),
            ("proc/meminfo", "MemTotal:       24683520 kB\nMemAvailable:   23420000 kB\n"),
            ("proc/sys/kernel/osrelease", "6.12.1\n"),
            ("proc/sys/kernel/hostname", "bench-1\n"),
            ("proc/sys/kernel/numa_balancing", "1\n"),
            ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
            ("proc/loadavg", "0.10 0.48 0.23 7/127 8275\n"),
            ("etc/os-release", "NAME=\"Example\"\nPRETTY_NAME=\"Example Linux 12\"\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/kernel/mm/transparent_hugepage/defrag", "always defer [defer+madvise] madvise never\n"),
            ("sys/kernel/mm/ksm/run", "0\n"),
            (&format!("{cpu}/vulnerabilities/l1tf"), "Not affected\n"),
            (&format!("{cpu}/cpu0/cpufreq/scaling_governor"), "performance\n"),
            (&format!("{cpu}/intel_pstate/no_turbo"), "1\n"),
            (&format!("{cpu}/smt/active"), "1\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
            ("sys/module/kvm_intel/parameters/ept", "Y\n"),
            ("sys/class/dmi/id/product_name", "Tower\n"),
        ]);
        let host = collect(root.path());
        assert_eq!(host.cpu_model.as_deref(), Some("Example 9000"));
        assert_eq!((host.physical_cores, host.logical_cores), (Some(2), Some(3)));
        assert_eq!((host.memory, host.memory_free), (Some(24_683_520 * 1024), Some(23_420_000 * 1024)));
        assert_eq!(host.kernel.as_deref(), Some("6.12.1"));
        assert_eq!(host.os.as_deref(), Some("Example Linux 12"));
        assert_eq!(host.load_average, Some([0.1, 0.48, 0.23]));
        let thp = host.thp.expect("THP");
        assert_eq!((thp.enabled.as_str(), thp.defrag.as_deref()), ("madvise", Some("defer+madvise")));
        assert_eq!((host.ksm, host.numa_balancing), (Some(false), Some(true)));
        assert_eq!(host.mitigations["l1tf"], "Not affected");
        assert_eq!((host.turbo, host.smt), (Some(false), Some(true)));
        assert_eq!(host.userfaultfd, Some(Userfaultfd { unprivileged: Some(false), device: None }));
        assert_eq!((host.nested, host.hypervisor), (Some(false), None));
        let kvm = host.kvm.expect("KVM");
        assert_eq!(kvm.backend, KvmBackend::Intel);
        assert_eq!(kvm.parameters["kvm.halt_poll_ns"], "200000");
        assert_eq!(kvm.parameters["kvm_intel.ept"], "Y");
    }

    #[test]
    fn a_virtual_machine_names_its_hypervisor() {
        let root = fixture(&[
            ("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor\n\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("sys/class/dmi/id/product_name", "Standard PC\n"),
            ("sys/module/kvm_pvm/parameters/stats", "N\n"),
        ]);
        let host = collect(root.path());
        assert_eq!(host.nested, Some(true));
        assert_eq!(host.hypervisor.as_deref(), Some("QEMU Standard PC"));
        assert_eq!(host.physical_cores, None);
        assert_eq!(host.kvm.expect("KVM").backend, KvmBackend::Pvm);
    }

    #[test]
    fn of_two_built_in_backends_the_cpu_decides_or_nobody() {
        let modules = [("sys/module/kvm_intel/parameters/a", "1"), ("sys/module/kvm_amd/parameters/b", "2")];
        let mut files = modules.to_vec();
        assert_eq!(collect(fixture(&files).path()).kvm.expect("KVM").backend, KvmBackend::Unknown);
        files.push(("proc/cpuinfo", "processor : 0\nflags : fpu svm\n\n"));
        let kvm = collect(fixture(&files).path()).kvm.expect("KVM");
        assert_eq!(kvm.backend, KvmBackend::Amd);
        assert_eq!(kvm.parameters.keys().collect::<Vec<_>>(), ["kvm_amd.b"]);
        // A container sees the device and no modules.
        let kvm = collect(fixture(&[("dev/kvm", "")]).path()).kvm.expect("KVM");
        assert_eq!(kvm, KvmInfo { backend: KvmBackend::Unknown, parameters: BTreeMap::new() });
    }

    #[test]
    fn the_arguments_of_init_stay_private() {
        assert_eq!(kernel_part("quiet mitigations=auto -- --key 1"), "quiet mitigations=auto");
        assert_eq!(kernel_part("quiet a=--b"), "quiet a=--b");
        assert_eq!(kernel_part("quiet --"), "quiet");
    }

    #[test]
    fn this_host_and_tool_are_described() {
        let host = this_host();
        assert!(host.kernel.is_some() && host.memory > Some(0) && host.logical_cores > Some(0));
        let tool = this_tool();
        assert_eq!(tool.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(tool.commit.is_some(), tool.dirty.is_some());
        if let Some(commit) = tool.commit {
            assert!(commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{commit}");
        }
    }
}
