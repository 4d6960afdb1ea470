//! The benchmarks behind `cargo xtask bench`: our figures beside a reference that is measured in the same run on the same
//! machine, because only the ratio outlives the machine.
//!
//! The binary under test is `SKIFF_BIN`. Everything listens on loopback or on the pods' own addresses, and ends with the
//! run.

mod api;
mod client;
mod footprint;
mod http;
mod load;
mod objects;
mod pods;
mod process;
mod stats;
mod store;
mod table;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use table::Table;

#[derive(Parser)]
#[command(about = "Benchmarks of Skiff, each beside a reference")]
struct Cli {
    #[arg(value_enum, default_value = "all")]
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The API server: single verbs, lists, watches
    Api,
    /// The embedded store and etcd
    Store,
    /// From a pod's creation to Running, start-up, recovery
    Pods,
    /// Requests to a wasm HTTP component
    Http,
    /// Memory of each process
    Footprint,
    All,
    /// The reference server of `http`, started by it
    #[value(hide = true)]
    HelloServer,
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("hello-server") {
        return http::reference::serve();
    }
    let what = Cli::parse().what;
    let wants = |one: What| what == What::All || what == one;
    // One thread for the load and one for what it measures would starve on two cores: the load generator is one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let mut table = Table::default();
    runtime.block_on(async {
        if wants(What::Store) {
            store::run(&mut table).await.context("store")?;
        }
        if wants(What::Api) {
            api::run(&mut table).await.context("api")?;
        }
        if wants(What::Pods) {
            pods::run(&mut table).await.context("pods")?;
        }
        if wants(What::Http) {
            http::run(&mut table).await.context("http")?;
        }
        if wants(What::Footprint) {
            footprint::run(&mut table).await.context("footprint")?;
        }
        anyhow::Ok(())
    })?;
    println!("{table}");
    Ok(())
}
