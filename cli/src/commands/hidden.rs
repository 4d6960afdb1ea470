//! The subcommands that the agent starts: thin shells around skiff-runtime-wasm, which parses their arguments.

use std::process::ExitCode;

/// Arguments handed on as they are.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct PassThrough {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn worker(args: &PassThrough) -> ExitCode {
    crate::idle::watch();
    exit_code(skiff_runtime_wasm::worker_main(&args.arguments))
}

pub fn compile(args: &PassThrough) -> ExitCode {
    exit_code(skiff_runtime_wasm::compile_main(&args.arguments))
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
