//! What is fuzzed: each decoder and parser that takes bytes from outside of the process, as one function that must bear any
//! bytes. `harness/fuzz` calls them with what a fuzzer thinks of, and the tests here with the corpus beside it, in which every
//! input that ever found something stays. Nothing of this is in a program that is built to be used.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzzer hears of a fault"
)]

mod files;
mod wire;

/// One decoder, or a few of a kind.
#[derive(Debug)]
pub struct Target {
    /// Its word, and the name of its folder in the corpus.
    pub name: &'static str,
    /// Takes any bytes; gives whether something of them was accepted.
    pub body: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    // From the other node, over the link.
    Target { name: "frame", body: wire::frame },
    Target { name: "pages", body: wire::pages },
    Target { name: "xbzrle", body: wire::xbzrle },
    Target { name: "mask", body: wire::mask },
    Target { name: "lz4", body: wire::lz4 },
    Target { name: "zstd", body: wire::zstd },
    Target { name: "auto", body: wire::auto },
    Target { name: "hello", body: wire::hello },
    Target { name: "model", body: wire::model },
    Target { name: "vcpu-state", body: wire::vcpu_state },
    Target { name: "hashes", body: wire::hashes },
    // Between runner and nodes.
    Target { name: "order", body: wire::order },
    Target { name: "message", body: wire::message },
    // From files and the command line.
    Target { name: "records", body: files::records },
    Target { name: "manifest", body: files::manifest },
    Target { name: "plan", body: files::plan },
    Target { name: "suite", body: files::suite },
    Target { name: "claims", body: files::claims },
    Target { name: "histogram", body: files::histogram },
    Target { name: "history", body: files::history },
    Target { name: "accepted", body: files::accepted },
    Target { name: "words", body: files::words },
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use migbench_workloads::random::Random;

    use super::*;

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A few bytes changed, put in, taken out, or done twice.
    fn mutated(input: &[u8], random: &mut Random) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=random.below(3) {
            let at = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
            let length = usize::try_from(random.below(9)).unwrap().min(bytes.len() - at);
            let byte = random.below(256).to_le_bytes()[0];
            match random.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..at + length)),
                3 => {
                    let part = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, part);
                }
                4 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    }

    /// Changes inputs at random for as long as `MIGBENCH_FUZZ_SECONDS` says, for those who have no fuzzer. It keeps no input that
    /// went further than others, as a fuzzer does.
    fn search(target: &Target, folder: &Path) {
        let seconds = |name| std::env::var(name).map_or(0, |text| text.parse().unwrap());
        let end = Instant::now() + Duration::from_secs(seconds("MIGBENCH_FUZZ_SECONDS"));
        let inputs: Vec<_> =
            names(folder).iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect();
        let mut random = Random::new(seconds("MIGBENCH_FUZZ_SEED"));
        let mut executions = 0;
        while Instant::now() < end {
            let mut input = inputs[usize::try_from(random.below(inputs.len() as u64)).unwrap()].clone();
            // What is like what is like it.
            for _ in 0..=random.below(4) {
                input = mutated(&input, &mut random);
            }
            let body = std::panic::AssertUnwindSafe(|| (target.body)(&input));
            if let Err(panic) = std::panic::catch_unwind(body) {
                let kept = std::env::temp_dir().join(format!("{}-{executions}", target.name));
                std::fs::write(&kept, &input).unwrap();
                eprintln!("the input is in {}", kept.display());
                std::panic::resume_unwind(panic);
            }
            executions += 1;
        }
        eprintln!("{}: {executions} executions", target.name);
    }

    /// What a fuzzer has found, and a little of what it does, without one.
    #[test]
    fn every_target_bears_its_corpus_and_what_is_like_it() {
        let targets: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        let mut sorted = targets;
        sorted.sort();
        assert_eq!(names(&corpus()), sorted, "a folder of the corpus for each target, and no other");
        let wanted = std::env::var("MIGBENCH_FUZZ").ok();
        for target in TARGETS.iter().filter(|target| wanted.as_ref().is_none_or(|name| name == target.name)) {
            let folder = corpus().join(target.name);
            let mut accepted = 0;
            for name in names(&folder) {
                // Shown where a test fails.
                eprintln!("{}/{name}", target.name);
                let input = std::fs::read(folder.join(&name)).unwrap();
                accepted += u32::from((target.body)(&input));
                let mut random = Random::new(input.len() as u64);
                for _ in 0..20 {
                    (target.body)(&mutated(&input, &mut random));
                }
            }
            search(target, &folder);
            assert!(accepted > 0, "{}: nothing comes past the first check", target.name);
            assert!(!(target.body)(b"\xffnonsense"), "{}: accepts anything", target.name);
        }
    }
}
