//! The guest image under QEMU's software CPU, which is stricter than a host that virtualises page tables in
//! software: it checks what the boot stub sets up, and that the image needs nothing of the harness.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "image")]

use std::io::Write;
use std::process::Command;

use migbench_workloads::abi::{self, Params};
use migbench_workloads::image::GUEST_IMAGE;
use migbench_workloads::params::MachineParams;
use migbench_workloads::settings::{Content, PageChange, Pattern, ProgramName, Settings};
use migbench_workloads::units::Bytes;
use zerocopy::IntoBytes;

const QEMU: &str = "qemu-system-x86_64";

fn settings() -> Settings {
    Settings {
        working_set: Bytes(8 << 20),
        accesses: 32,
        change: PageChange { bytes: 100, pieces: 7, moves: true },
        ..Settings::BASE
    }
}

fn params(settings: &Settings, flags: u32) -> Params {
    let machine = MachineParams {
        vcpus: 1,
        tsc_khz: 1_000_000,
        seed: 7,
        link: None,
        timing: false,
        telemetry: 6 << 20,
    };
    let mut params = Params::new(settings, &machine);
    params.flags |= flags | abi::FLAG_SELF_TEST;
    params.self_test_operations = 5000;
    params
}

/// The doorbell's text and QEMU's exit status; `None` where there is no QEMU.
fn run(params: &Params) -> Option<(String, Option<i32>)> {
    run_on("max", params)
}

/// The same on a CPU of that model.
fn run_on(cpu: &str, params: &Params) -> Option<(String, Option<i32>)> {
    if Command::new(QEMU).arg("--version").output().is_err() {
        assert!(
            std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(),
            "{QEMU} is missing; install it (Debian: qemu-system-x86)"
        );
        eprintln!("skipped: {QEMU} is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("guest.elf");
    std::fs::write(&image, GUEST_IMAGE).unwrap();
    let block = directory.path().join("params");
    std::fs::File::create(&block).unwrap().write_all(params.as_bytes()).unwrap();
    let output = Command::new("timeout")
        .args(["60", QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "microvm,pit=off,pic=off,rtc=off,isa-serial=off"])
        .args(["-accel", "tcg", "-cpu", cpu, "-m", "64"])
        .args(["-chardev", "stdio,id=doorbell", "-device", "isa-debugcon,iobase=0xe9,chardev=doorbell"])
        .args(["-device", "isa-debug-exit,iobase=0xf4", "-kernel"])
        .arg(&image)
        .arg("-initrd")
        .arg(&block)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((text, output.status.code()))
}

#[test]
fn works_and_validates_under_every_pattern_and_content() {
    for (pattern, content) in [
        (Pattern::Uniform, Content::Random),
        (Pattern::Zipf(0.99), Content::Counter),
        (Pattern::Sequential, Content::Same),
    ] {
        let settings = Settings { pattern, content, ..settings() };
        let Some((text, code)) = run(&params(&settings, 0)) else { return };
        // isa-debug-exit: (0 << 1) | 1
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("self-test: 5000 operations"), "{text}");
        assert!(text.contains("14336 pages valid, a flipped bit found"), "{text}");
    }
}

/// The boot stub turns on what the CPU has and no more: XSAVE and AVX, XSAVE alone, not even XSAVE.
#[test]
fn vector_registers_are_turned_on_as_the_cpu_has_them() {
    let no_avx = "max,-avx,-avx2,-f16c,-fma,-vaes,-vpclmulqdq";
    for (cpu, found) in
        [("max", "XCR0 0x7, 512 bytes"), (no_avx, "XCR0 0x3, 256 bytes"), ("qemu64", "XCR0 0x0, 256 bytes")]
    {
        let Some((text, code)) = run_on(cpu, &params(&settings(), 0)) else { return };
        assert_eq!(code, Some(1), "{cpu}: {text}");
        assert!(text.contains(&format!("self-test: {found} of vector registers hold")), "{cpu}: {text}");
    }
}

#[test]
fn programs_that_compute_work_and_validate() {
    for program in [
        ProgramName::Analytics,
        ProgramName::Sort,
        ProgramName::Matmul,
        ProgramName::Stream,
        ProgramName::Memstress,
        ProgramName::XbzrleDoc,
        ProgramName::Guestperf,
    ] {
        let Some((text, code)) = run(&params(&Settings { program, ..settings() }, 0)) else { return };
        assert_eq!(code, Some(1), "{program:?}: {text}");
        assert!(text.contains("self-test: 5000 operations"), "{program:?}: {text}");
        assert!(text.contains("14336 pages valid, a flipped bit found"), "{program:?}: {text}");
    }
}

#[test]
fn stores_work_and_validate() {
    for program in
        [ProgramName::Kv, ProgramName::KvModify, ProgramName::PageCache, ProgramName::Gc, ProgramName::Log]
    {
        let settings = Settings { program, pattern: Pattern::Zipf(0.99), accesses: 8, ..settings() };
        let Some((text, code)) = run(&params(&settings, 0)) else { return };
        assert_eq!(code, Some(1), "{program:?}: {text}");
        assert!(text.contains("self-test: 5000 operations"), "{text}");
        assert!(text.contains("14336 pages valid, a flipped bit found"), "{text}");
    }
}

#[test]
fn a_bad_parameter_block_is_named() {
    let Some((text, code)) = run(&Params { version: 99, ..params(&settings(), 0) }) else { return };
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("fatal: the parameter block is missing or of another version"), "{text}");
}

#[test]
fn a_fault_is_reported_with_its_place() {
    let mut params = params(&settings(), abi::FLAG_FAULT);
    params.flags &= !abi::FLAG_SELF_TEST;
    let Some((text, code)) = run(&params) else { return };
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("fault: exception 6 at instruction 0x20"), "{text}");
}
