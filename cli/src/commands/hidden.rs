//! The subcommands that the agent starts: thin shells around skiff-runtime-wasm, which parses their arguments.

use anyhow::Result;

/// Arguments handed on as they are.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct PassThrough {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

pub fn worker(args: PassThrough) -> Result<()> {
    skiff_runtime_wasm::worker_main(args.arguments)
}

pub fn compile(args: PassThrough) -> Result<()> {
    skiff_runtime_wasm::compile_main(args.arguments)
}
