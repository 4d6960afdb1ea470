//! Developer commands: `cargo xtask <command>`; one file per command.

mod bench;
mod check;
mod demo;
mod docs;
mod guests;
#[path = "../../node-agent/runtime-wasm/src/limits.rs"]
#[allow(dead_code, reason = "the table needs a part of it")]
mod limits;
#[path = "../../node-agent/runtime-wasm/src/limits_table.rs"]
mod limits_table;
mod setup;
mod shell;
mod tests;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Skiff")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, clippy, tidy
    Check,
    /// The repository's own rules: layers, file sizes, paths in documents
    Tidy,
    /// Write the generated tables of docs/wasm.md
    Docs,
    /// Unit, contract and end-to-end tests; arguments go to cargo nextest
    Test {
        /// The end-to-end tests with a skiff that was built without a compiler; compiling is left to a whole one
        #[arg(long)]
        no_compiler: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install what building and testing need (Debian packages, cargo-nextest, kubectl)
    Setup,
    /// Build Skiff, start a cluster, run a module in it and ask it over HTTP
    Demo,
    /// Rebuild the example guests into wasm-examples/prebuilt
    Guests,
    /// Measure against references in the same run: api, store, pods, http, footprint or all
    Bench {
        #[arg(default_value = "all")]
        what: String,
    },
    /// What CI runs: setup, check, test
    Ci,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check => check::run(),
        Command::Tidy => tidy::run(),
        Command::Docs => docs::run(),
        Command::Test {
            no_compiler: true,
            arguments,
        } => tests::run_without_compiler(&arguments),
        Command::Test { arguments, .. } => tests::run(&arguments),
        Command::Setup => setup::run(),
        Command::Demo => demo::run(),
        Command::Guests => guests::run(),
        Command::Bench { what } => bench::run(&what),
        Command::Ci => setup::run().and_then(|()| check::run()).and_then(|()| tests::run(&[])),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
