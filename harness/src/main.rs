//! The `migbench` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    migbench::cli::main()
}
