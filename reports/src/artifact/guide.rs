//! `REPRODUCE.md` and the list of commands: written for a reviewer who has the artifact and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use migbench_scenarios::Plan;

use super::{COMMANDS, FIGURES, HOSTS, Packed, SUITES, SUMS};
use crate::metric::Unit;
use crate::quantity::{count, show, size};
use crate::render::markdown::escape;
use crate::render::sentence;
use crate::shell::quoted;

/// The commands that made the runs, as a script to read.
pub(super) fn commands(packed: &[Packed]) -> String {
    let mut text = "#!/bin/sh\n# What made the runs of this artifact.\n".to_owned();
    for one in packed {
        let _ = writeln!(text, "# {}: {}", place(one), one.data.manifest.suite);
        let _ = writeln!(text, "{}", one.report.manifest.command_line());
    }
    text
}

fn place(one: &Packed) -> &str {
    if one.path.is_empty() { "this folder" } else { &one.path }
}

fn folder(one: &Packed) -> &str {
    if one.path.is_empty() { "." } else { &one.path }
}

pub(super) fn write(packed: &[Packed], files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut out = "# How to check and to repeat this\n\n".to_owned();
    out += "This folder holds measurements of live migration of virtual machines, made by migbench: for each migration a record \
            with all of its raw values, and the tables that are computed from the records alone.\n\n";
    out += &what_ran(packed);
    if files.contains_key("reproduce.md") {
        out += "`reproduce.md` lays the figures of a publication beside these measurements, with what the publication does not \
                state and what was chosen instead. `claims.toml` holds the published figures.\n\n";
    }
    out += &contents(packed, files);
    let _ = write!(
        out,
        "## Check that nothing was changed\n\n```sh\nsha256sum -c {SUMS}\n```\n\nEvery line must end in `OK`. The hashes show \
         that the files are those that were packed; what was proven about each migration stands in the reports.\n\n"
    );
    out += &render(packed, files);
    out += &again(packed, files);
    out
}

fn what_ran(packed: &[Packed]) -> String {
    let mut out = String::new();
    for one in packed {
        let (report, manifest) = (&one.report, &one.data.manifest);
        let _ = writeln!(
            out,
            "- `{}`: {}. {}. Started {}. {}.",
            folder(one),
            escape(&report.subject),
            escape(&report.machine),
            manifest.started,
            escape(&sentence(&report.verification.proven))
        );
        for alarm in &report.verification.alarms {
            let _ = writeln!(out, "  - **{}**", escape(alarm));
        }
        if report.failed_runs > 0 {
            let _ = writeln!(out, "  - **{} failed**", count(report.failed_runs, "run"));
        }
        for warning in &report.warnings {
            let _ = writeln!(out, "  - warning: {}", escape(&warning.to_string()));
        }
    }
    out + "\n"
}

fn contents(packed: &[Packed], files: &BTreeMap<String, Vec<u8>>) -> String {
    let about = |path: &str| match path.rsplit_once('/').map_or(path, |(_, name)| name) {
        "manifest.json" => "suite, plan, host and program of the runs beside it",
        "runs.jsonl" => {
            "a record per migration, one JSON object a line, with every metric, round and histogram"
        }
        "report.md" => "the tables, with all settings and the host",
        "report.html" => "the same with figures; opens in a browser without a network",
        "report.csv" => "a line per cell and metric, for spreadsheets and statistics programs",
        "reproduce.md" => "a publication's figures beside these",
        "reproduce.json" => "the same for programs",
        "claims.toml" => "what the publication claims, and what it does not state",
        HOSTS => "the machines that measured, in full",
        COMMANDS => "the commands that were typed",
        "" => "each figure of the page as SVG",
        _ if path.starts_with(SUITES) => "a suite: what was measured and why",
        _ => "",
    };
    let mut out = "## What is in it\n\n| file | size | what it is |\n|---|---:|---|\n".to_owned();
    let row = |path: &str, bytes: usize| {
        let bytes = size(u64::try_from(bytes).unwrap_or(u64::MAX));
        format!("| `{}` | {bytes} | {} |\n", escape(path), about(path))
    };
    let folders: Vec<_> = packed.iter().map(|one| super::join(&one.path, FIGURES) + "/").collect();
    let in_folder = |path: &str| folders.iter().any(|folder| path.starts_with(folder));
    let beside = files.iter().filter(|(path, _)| !in_folder(path));
    out.extend(beside.map(|(path, content)| row(path, content.len())));
    for folder in &folders {
        let figures = files.iter().filter(|(path, _)| path.starts_with(folder));
        out += &row(folder, figures.map(|(_, content)| content.len()).sum());
    }
    let _ = writeln!(out, "| `{SUMS}` | | the SHA-256 of each of them |\n");
    let _ = writeln!(
        out,
        "{} of {} in all.\n",
        count(packed.iter().map(|one| one.data.records.len()).sum(), "record"),
        count(packed.len(), "run directory").replace("directorys", "directories")
    );
    out
}

fn render(packed: &[Packed], files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut out = "## Make the tables again from the records\n\n".to_owned();
    out += "This needs neither KVM nor the machine that measured, only Rust (<https://rustup.rs>) and migbench. Build the commit that \
            measured; later ones read the records too:\n\n";
    out += "```sh\n";
    let mut commits: Vec<&str> =
        packed.iter().filter_map(|one| one.data.manifest.tool.commit.as_deref()).collect();
    commits.dedup();
    match commits.as_slice() {
        [] => out += "# the program did not know its commit: use the version that the manifests name\n",
        [one] => {
            let _ = writeln!(out, "git checkout {one}");
        }
        several => {
            let _ = writeln!(out, "# commits of these runs: {}", several.join(" "));
        }
    }
    out += "cargo build --release -p migbench\n```\n\n";
    if packed.iter().any(|one| one.data.manifest.tool.dirty == Some(true)) {
        out += "**Some of these runs were made by a program with changes that no commit holds.**\n\n";
    }
    out += "and in this folder, with `migbench` being `target/release/migbench` of that build:\n\n```sh\n";
    for one in packed {
        let _ = writeln!(out, "migbench report {}", quoted(folder(one)));
    }
    if files.contains_key("claims.toml") {
        out += "migbench reproduce ./claims.toml --from .\n";
    }
    out += "```\n\nThe figures must be those of `report.md`, digit for digit. `migbench show DIR` lists the runs of a directory, and \
            `migbench show DIR 0003` shows one.\n\n";
    out
}

fn again(packed: &[Packed], files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut out = "## Measure again\n\n".to_owned();
    let cells = || packed.iter().flat_map(|one| &one.data.manifest.comparisons).flat_map(|one| &one.cells);
    let largest = cells().map(|planned| planned.cell.memory.0).max().unwrap_or_default();
    let _ = writeln!(
        out,
        "This needs Linux on x86-64 with a `/dev/kvm` that you may use, and about {} of free memory: three copies of the largest \
         guest. `migbench doctor` lists what else moves results.\n",
        size(3 * largest)
    );
    out += "| suite | command | about | disk |\n|---|---|---|---|\n";
    for one in packed {
        let manifest = &one.data.manifest;
        let plan: Option<Plan> = serde_json::from_value(manifest.plan.clone()).ok();
        let time = plan.map_or_else(|| "-".to_owned(), |plan| show(Unit::Seconds, plan.estimate().0));
        let prefix = if one.path.is_empty() { String::new() } else { format!("{}/", one.path) };
        let names = ["manifest.json", "runs.jsonl", "report.md"];
        let bytes: usize =
            names.iter().filter_map(|name| files.get(&format!("{prefix}{name}"))).map(Vec::len).sum();
        let _ = writeln!(
            out,
            "| {} | {} | {time} | {} |",
            escape(&manifest.suite),
            // Passes are no part of a suite.
            if manifest.command.get(1).is_some_and(|command| command == "track") {
                format!("what `{COMMANDS}` has")
            } else {
                let command = if manifest.sided() { "ab" } else { "run" };
                format!("`migbench {command} {} --repeat {}`", one.suite, manifest.repetitions)
            },
            size(u64::try_from(bytes).unwrap_or(u64::MAX))
        );
    }
    let _ = writeln!(
        out,
        "\nThe times are the plans' own estimates, for all cells of a suite; `{COMMANDS}` has what was typed, with `--set`, `--filter`, \
         `--base` and `--new` where they were used.\n"
    );
    if files.contains_key("claims.toml") {
        out += "```sh\nmigbench reproduce ./claims.toml -o again\n```\n\nruns what the claims need and writes `again/reproduce.md`.\n\n";
    }
    out += "## What to expect\n\n\
            Absolute times differ between machines, and medians of few runs move on the same one: compare differences between rows, with \
            their ranges. What must hold anywhere: every run ends as here (`ok`, or `capped` where the tables say so), memory arrives \
            whole, and traffic of the same suite is alike, since it depends on guest and link and hardly on the machine.\n";
    out
}
