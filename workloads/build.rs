//! Builds the guest image with the stock toolchain and embeds it. Same sources and compiler, same bytes: no paths,
//! no build id, no symbols. Only with feature `image`, so that what needs no guest builds on any machine.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    // Set for the guest only: the files that both sides compile leave host-side derives out by it.
    println!("cargo::rustc-check-cfg=cfg(guest)");
    println!("cargo::rerun-if-changed=guest");
    for shared in ["abi.rs", "content.rs", "pages.rs", "programs", "random.rs"] {
        println!("cargo::rerun-if-changed=src/{shared}");
    }
    println!("cargo::rerun-if-env-changed=RUSTC");
    if std::env::var_os("CARGO_FEATURE_IMAGE").is_none() {
        return;
    }
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn variable(name: &str) -> Result<PathBuf, String> {
    std::env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {name}"))
}

fn build() -> Result<(), String> {
    let root = variable("CARGO_MANIFEST_DIR")?;
    let image = variable("OUT_DIR")?.join("guest.elf");
    let rustc = variable("RUSTC")?;
    let mut command = Command::new(&rustc);
    command
        .current_dir(root.join("guest"))
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "guest",
            "--crate-type",
            "bin",
            "--target",
            TARGET,
            "--cfg",
            "guest",
        ])
        .args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1"])
        .args(["-C", "relocation-model=static", "-C", "code-model=small"])
        .args(["-C", "force-unwind-tables=no", "-C", "strip=symbols"])
        .args(["--remap-path-prefix", &format!("{}=guest", root.display())]);
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        // `core` is compiled for unwinding and names this; nothing here unwinds.
        "-Wl,--defsym=rust_eh_personality=0",
        "-Wl,-T,link.ld",
    ] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    command.arg("-o").arg(&image).arg(Path::new("main.rs"));
    // Flags for the host's build, such as coverage or a native CPU, must not reach the guest.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    let output = command.output().map_err(|error| format!("cannot start {}: {error}", rustc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    for line in text.lines() {
        println!("cargo::warning={line}");
    }
    Err(format!(
        "the guest image did not build; it needs the target {TARGET} (`rustup target add {TARGET}`) and a C linker \
         for it"
    ))
}
