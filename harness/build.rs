//! Notes the commit that the program is built from, for the manifest of every run. Outside of a git checkout
//! (a source archive) nothing is noted.

use std::path::Path;
use std::process::Command;

/// What the program is made from: a change here must be seen by the `dirty` flag.
const SOURCES: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "harness/Cargo.toml",
    "harness/build.rs",
    "harness/src",
    "reports/Cargo.toml",
    "reports/src",
    "scenarios",
    "workloads/Cargo.toml",
    "workloads/src",
    "workloads/guest",
];

fn main() {
    let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") else { return };
    let Some(root) = Path::new(&package).parent() else { return };
    for source in SOURCES {
        watch(&root.join(source));
    }
    // A checkout of something else around an unpacked archive says nothing about us.
    let top = git(root, &["rev-parse", "--show-toplevel"]);
    let ours = top.and_then(|top| Path::new(&top).canonicalize().ok()) == root.canonicalize().ok();
    let Some(commit) = git(root, &["rev-parse", "HEAD"]).filter(|_| ours) else { return };
    println!("cargo:rustc-env=MIGBENCH_COMMIT={commit}");
    if let Some(changes) = git(root, &["status", "--porcelain", "--untracked-files=no"]) {
        println!("cargo:rustc-env=MIGBENCH_DIRTY={}", !changes.is_empty());
    }
    // In a worktree these don't lie under `.git`, so git is asked for their places. The log of HEAD grows with
    // every commit, also where the branch has no file of its own yet because its ref is packed.
    let branch = git(root, &["symbolic-ref", "-q", "HEAD"]);
    for name in
        [Some("HEAD"), Some("logs/HEAD"), Some("packed-refs"), branch.as_deref()].into_iter().flatten()
    {
        if let Some(path) = git(root, &["rev-parse", "--git-path", name]) {
            watch(&root.join(path));
        }
    }
}

/// Has cargo run this again when `path` changes. One that does not exist would have it run every time.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// What git prints, without the line's end; absent where git fails.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    // A build must not write: without the option `status` refreshes the index.
    let output =
        Command::new("git").arg("--no-optional-locks").arg("-C").arg(root).args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
