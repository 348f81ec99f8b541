//! What the local stack does under load, measured from outside: a process of its own, called by clients in this one.
//!
//! `cargo run --release -p tests --bin load -- --help`

mod api;
mod audience;
mod connections;
mod groups;
mod messages;
mod plot;
mod process;
mod recorder;
mod roster;
mod runtime;
mod server;
mod weigh;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measure the local stack under load.
///
/// The server is a process of its own, whose processor time and memory are read from /proc (Linux only). Build it first,
/// by `cargo build --release`; the one beside this program is taken. What is measured goes to standard output, progress
/// to standard error.
#[derive(Debug, Parser)]
struct Options {
    /// The program to start instead of the one beside this
    #[arg(long, value_name = "FILE", global = true)]
    server: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Messages(messages::Options),
    Connections(connections::Options),
    Groups(groups::Options),
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    match &options.what {
        What::Messages(what) => messages::run(what, options.server.as_deref()).await,
        What::Connections(what) => connections::run(what, options.server.as_deref()).await,
        What::Groups(what) => groups::run(what, options.server.as_deref()).await,
    }
}

/// Say on a terminal how far it has come.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        // Nobody needs to read it.
        let _ = write!(std::io::stderr(), "\r{text:<70}\r");
    }
}
