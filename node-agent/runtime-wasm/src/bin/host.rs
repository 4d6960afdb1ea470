//! A binary with nothing but the two hidden subcommands, for the tests of this crate.

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.split_first() {
        Some((command, rest)) if command == "wasm-worker" => skiff_runtime_wasm::worker_main(rest),
        Some((command, rest)) if command == "wasm-compile" => skiff_runtime_wasm::compile_main(rest),
        _ => {
            eprintln!("usage: skiff-wasm-host wasm-worker|wasm-compile …");
            2
        }
    };
    std::process::exit(code);
}
