//! `skiff`: the one binary. It starts control planes and agents, pushes and runs modules, and hosts the hidden
//! subcommands that the agent starts for guests and compiling.

mod artifact;
mod client;
mod commands;
mod idle;
mod logging;
mod output;
mod paths;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// With the C library's allocator a write costs the API server 1.2 to 3 times the CPU.
/// Without huge pages, which would make an idle agent or worker 16 MB larger each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Kubernetes API for the edge, WebAssembly first.
#[derive(Parser)]
#[command(name = "skiff", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a control plane and a node agent on this machine
    Up(commands::up::Args),
    /// Run a .wasm file as a pod: push it, deploy it, wait until it runs
    Run(commands::run::Args),
    /// Push a .wasm file to the control plane's registry
    Push(commands::push::Args),
    /// Show what a .wasm file imports, exports and needs
    Inspect(commands::inspect::Args),
    /// Start a control plane
    Server(commands::server::Args),
    /// Start a node agent and join it to a control plane
    Agent(commands::agent::Args),
    /// Manage join tokens
    Token(commands::token::Args),
    /// Merge the kubeconfig of `skiff up` into ~/.kube/config
    Kubeconfig(commands::kubeconfig::Args),
    /// Print a shell completion script
    Completions(commands::completions::Args),
    /// Print version information
    Version,
    /// Host of a namespace's guests; started by the agent
    #[command(hide = true)]
    WasmWorker(commands::hidden::PassThrough),
    /// Compiles one module; started by the control plane or the agent
    #[command(hide = true)]
    WasmCompile(commands::hidden::PassThrough),
}

fn main() -> ExitCode {
    // Two TLS providers are linked in; libraries that ask for "the default" must get this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Up(args) => commands::up::run(args),
        Command::Run(args) => commands::run::run(args),
        Command::Push(args) => commands::push::run(args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Server(args) => commands::server::run(args),
        Command::Agent(args) => commands::agent::run(args),
        Command::Token(args) => commands::token::run(args),
        Command::Kubeconfig(args) => commands::kubeconfig::run(&args),
        Command::Completions(args) => {
            commands::completions::run(&args, &mut <Cli as clap::CommandFactory>::command());
            Ok(())
        }
        Command::Version => {
            commands::version::run();
            Ok(())
        }
        Command::WasmWorker(args) => return commands::hidden::worker(&args),
        Command::WasmCompile(args) => return commands::hidden::compile(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::chain(&error));
            ExitCode::FAILURE
        }
    }
}
