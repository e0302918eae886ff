//! Instructions per page of the codecs, as valgrind's callgrind counts them: they repeat exactly, on a busy machine too. It knows
//! no AVX-512, so these are the portable code's and those with AVX2. Skipped where there is no valgrind.

use std::error::Error;
use std::hint::black_box;
use std::process::Command;

use migbench::codec::{Change, CodecBackend, MAX_ENCODED, Mask, Page, PageCodec, SLACK, Xbzrle, encode_pair};
use migbench::sys::live::LivePage;
use migbench_benches::pages::{DENSITIES, aligned};
use migbench_benches::{Fallible, quick, wanted};

/// The argument by which a bench under valgrind knows what it is to do: codec, backend, what, density.
const ONE: &str = "--one";
/// Pages of one count.
const PAGES: usize = 64;

/// What is counted, and nothing else.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

fn codec(name: &str, backend: CodecBackend) -> Box<dyn PageCodec> {
    if name == "mask" { Box::new(Mask::new(backend)) } else { Box::new(Xbzrle::new(backend)) }
}

fn one(arguments: &[String]) -> Fallible<()> {
    let [name, backend, what, density] = arguments else { return Err("four arguments".into()) };
    let backend = CodecBackend::available().into_iter().find(|known| known.name() == backend);
    let backend = backend.ok_or("no such backend under valgrind")?;
    let mut codec = codec(name, backend);
    let (_, density) = DENSITIES.iter().find(|(name, _)| name == density).ok_or("no such density")?;
    let pairs = density.pairs(PAGES);
    let mut out = [0; MAX_ENCODED + SLACK];
    let (mut held, new, mut change) =
        (aligned(&pairs, |pair| &pair.0)?, aligned(&pairs, |pair| &pair.1)?, Change::new(backend));
    if what == "encode" {
        counted(&mut || {
            for (page, held) in held.iter_mut().enumerate() {
                change.merge(LivePage::of(&new[page]), held, false);
                black_box(codec.encode(0, &change, held, &mut out));
            }
        });
        return Ok(());
    }
    let mut encoded: Vec<(Page, Vec<u8>)> = Vec::new();
    for (old, new) in &pairs {
        match encode_pair(codec.as_mut(), backend, 0, [old, new], &mut out) {
            Some(length @ 1..) => encoded.push((*old, out[..length].to_vec())),
            _ => return Err("there is nothing to decode".into()),
        }
    }
    let mut decoded = Ok(());
    counted(&mut || {
        for (page, encoding) in &mut encoded {
            decoded = decoded.and(codec.decode(encoding, page));
        }
    });
    Ok(decoded?)
}

/// Instructions per page; none where there is nothing to decode.
fn count(name: &str, backend: &str, what: &str, density: &str) -> Result<Option<u64>, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(std::env::current_exe()?)
        .args([ONE, name, backend, what, density])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("there is nothing to decode") {
        return Ok(None);
    }
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.filter(|_| output.status.success()).ok_or_else(|| text.to_string())?;
    Ok(Some(collected.trim().parse::<u64>()? / PAGES as u64))
}

fn main() -> Fallible<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == ONE) {
        return one(&arguments[at + 1..]);
    }
    if !wanted("instructions") {
        return Ok(());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: skipped, there is no valgrind");
        return Ok(());
    }
    let backends: Vec<_> = CodecBackend::available()
        .into_iter()
        .map(CodecBackend::name)
        .filter(|name| *name != "avx512")
        .collect();
    let densities = if quick() { &DENSITIES[2..3] } else { DENSITIES };
    for what in ["encode", "decode"] {
        let columns = ["xbzrle", "mask"].map(|name| backends.iter().map(move |backend| (name, *backend)));
        let columns: Vec<_> = columns.into_iter().flatten().collect();
        println!("instructions per page: {what}\n");
        let heads: Vec<_> = columns.iter().map(|(name, backend)| format!("{name} {backend}")).collect();
        println!("| changed | {} |\n|---{}|", heads.join(" | "), "|---".repeat(heads.len()));
        for (density, _) in densities {
            let mut cells = Vec::new();
            for (name, backend) in &columns {
                cells.push(
                    count(name, backend, what, density)?.map_or("-".to_owned(), |count| count.to_string()),
                );
            }
            println!("| {density} | {} |", cells.join(" | "));
        }
        println!();
    }
    Ok(())
}
