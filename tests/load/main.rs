//! Measures the local stack under load from outside. The stack is a process of its own, and the clients run in this
//! process.
//!
//! `cargo run --release -p tests --bin load -- --help`

mod api;
mod audience;
mod connections;
mod directory;
mod flood;
mod groups;
mod messages;
mod peers;
mod plot;
mod process;
mod pulls;
mod recorder;
mod roster;
mod runtime;
mod server;
mod soak;
mod steadiness;
mod weigh;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measure the local stack under load.
///
/// The server is a process of its own. Its processor time and memory are read from /proc (Linux only). The one beside
/// this program is started: build it first, in the same profile. Results go to standard output, progress to standard
/// error.
#[derive(Debug, Parser)]
struct Options {
    /// The program to start instead of the one beside this program
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
    Flood(flood::Options),
    Peers(peers::Options),
    Pulls(pulls::Options),
    Soak(soak::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    match &options.what {
        What::Messages(what) => messages::run(what, options.server.as_deref()).await,
        What::Connections(what) => connections::run(what, options.server.as_deref()).await,
        What::Flood(what) => flood::run(what, options.server.as_deref()).await,
        What::Peers(what) => peers::run(what, options.server.as_deref()).await,
        What::Pulls(what) => pulls::run(what, options.server.as_deref()).await,
        What::Soak(what) => soak::run(what, options.server.as_deref()).await,
        What::Groups(what) => groups::run(what, options.server.as_deref()).await,
    }
}

/// Prints progress on a terminal.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        // A failure to print progress does not matter.
        let _ = write!(std::io::stderr(), "\r{text:<70}\r");
    }
}
