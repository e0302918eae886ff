//! `migbench completion` and `migbench man`: for shells and for `man`, from the same description of the command line that
//! parses it. For those who install migbench.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man as Page;

use super::{Cli, Exit, UsageError, print};

/// Prints the completion of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench completion bash >/usr/share/bash-completion/completions/migbench
  migbench completion zsh >/usr/share/zsh/site-functions/_migbench")]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

/// Prints the manual page of migbench, or of one of its commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench man >/usr/share/man/man1/migbench.1
  migbench man run | man -l -")]
pub struct Man {
    /// The command.
    command: Option<String>,
}

impl Completion {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut without_tests(&Cli::command()), "migbench", &mut text);
        print(&String::from_utf8(text)?)?;
        Ok(Exit::Success)
    }
}

impl Man {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let mut command = without_tests(&Cli::command());
        command.build();
        let page = match &self.command {
            None => command,
            Some(name) => command
                .find_subcommand(name)
                .cloned()
                .ok_or_else(|| UsageError(format!("no command `{name}`; `migbench --help` has all")))?,
        };
        let mut text = Vec::new();
        Page::new(page).render(&mut text)?;
        print(&String::from_utf8(text)?)?;
        Ok(Exit::Success)
    }
}

/// Commands that nobody types.
const INTERNAL: [&str; 2] = ["gate-study", "node"];

/// A command without switches of tests, and without those commands.
fn without_tests(command: &Command) -> Command {
    let subcommands = command.get_subcommands().filter(|command| !INTERNAL.contains(&command.get_name()));
    let mut shown = Command::new(command.get_name().to_owned())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()))
        .subcommands(subcommands.map(without_tests))
        .hide(command.is_hide_set());
    for (text, set) in [
        (command.get_about(), Command::about as fn(Command, clap::builder::StyledStr) -> Command),
        (command.get_long_about(), Command::long_about),
        (command.get_after_help(), Command::after_help),
    ] {
        if let Some(text) = text {
            shown = set(shown, text.clone());
        }
    }
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown,
    }
}
