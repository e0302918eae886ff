//! Every decoder and parser that takes bytes from outside, in one program, which links all of the harness: `MIGBENCH_FUZZ`
//! names the one that is fuzzed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use migbench::fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("MIGBENCH_FUZZ").unwrap_or_default();
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("MIGBENCH_FUZZ is one of {}", names()))
});

fuzz_target!(|data: &[u8]| {
    (TARGET.body)(data);
});
