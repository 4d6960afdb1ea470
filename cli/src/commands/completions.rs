//! `skiff completions SHELL`.

use clap_complete::Shell;

#[derive(clap::Args)]
pub struct Args {
    /// Shell to write for
    shell: Shell,
}

pub fn run(args: &Args, command: &mut clap::Command) {
    clap_complete::generate(args.shell, command, "skiff", &mut std::io::stdout());
}
