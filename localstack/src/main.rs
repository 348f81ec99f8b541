//! `cargo run`: the local stack.

mod cli;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use localstack::{Stack, qr_code};
use shared::clock::{Clock, SystemClock};
use shared::config::{Config, DEVELOPMENT_SECRET};
use shared::token::sign;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, Serve, Token};

/// Exit code for a wrong option, variable or template.
const USAGE: u8 = 2;

/// The stack of a thread. Without optimisation, a message takes nearly 2 MiB of it, which is the default.
const STACK_BYTES: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are not errors. They go to standard output.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(wrong) => return complain(cli::in_one_line(&wrong)),
    };
    let outcome = match cli.command {
        Some(Command::Token(token)) => print_token(&token),
        None => serve(cli.serve),
    };
    outcome.map_or_else(complain, |()| ExitCode::SUCCESS)
}

fn complain(why: String) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(USAGE)
}

fn serve(options: Serve) -> Result<(), String> {
    log()?;
    // Each connection is an open file. If the limit cannot be raised, the stack accepts fewer connections.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(STACK_BYTES).build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut terminations = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let is_for_the_network = !options.host.is_loopback();
        let stack = Stack::start(options.into()).await.map_err(|error| error.to_string())?;
        if is_for_the_network {
            warn_of_the_network(stack.network_url());
        }
        announce(&stack);
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        tracing::info!("stopping");
        stack.stop().await;
        Ok(())
    })
}

/// Warns that other machines reach the public address. On a terminal, also draws the address for the camera of a phone.
fn warn_of_the_network(url: Option<&str>) {
    tracing::warn!(
        url = url.unwrap_or("none: this machine is on no network"),
        "other machines reach the public address, without encryption: whoever listens on this network can read tokens \
         and messages; use it for tests only"
    );
    if let Some(url) = url {
        draw(url);
    }
}

/// Draws an address for the camera of a phone, on a terminal.
fn draw(address: &str) {
    if let Some(drawing) = Some(address).filter(|_| std::io::stderr().is_terminal()).and_then(qr_code) {
        eprintln!("\n{drawing}\n");
    }
}

/// Prints the only line on standard output. A failed write is ignored: the reader may have closed the pipe.
fn announce(stack: &Stack) {
    let (public, internal, dynamodb) = (stack.public_url(), stack.internal_url(), stack.dynamodb_url());
    let mut out = std::io::stdout();
    let _ = writeln!(out, "ready public={public} internal={internal} dynamodb={dynamodb}").and_then(|()| out.flush());
}

/// Sends logs to standard error: as text on a terminal, as JSON otherwise. `LOG_LEVEL` applies to our own code.
/// Libraries log warnings and errors only, because their detailed logs would contain messages of users.
fn log() -> Result<(), String> {
    let level = std::env::var("LOG_LEVEL").ok().filter(|value| !value.trim().is_empty());
    let level = level.unwrap_or_else(|| "info".to_owned());
    // A developer must learn why a token is refused. The caller does not.
    let of_tokens = if level.eq_ignore_ascii_case("info") { "debug" } else { &level };
    let targets = format!("warn,localstack={level},functions={level},shared={level},refused_token={of_tokens}");
    let filter = EnvFilter::try_new(targets);
    let filter = filter.map_err(|error| format!("LOG_LEVEL: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().init();
    }
    Ok(())
}

fn print_token(token: &Token) -> Result<(), String> {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let variable = |name: &str| match (name, value(name)) {
        // A token needs neither a table nor credentials.
        ("TABLE_NAME" | "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY", None) => Some("none".to_owned()),
        ("JWT_SECRET", None) if value("JWKS_URL").is_none() => Some(DEVELOPMENT_SECRET.to_owned()),
        (_, value) => value,
    };
    let config = Config::read(variable).map_err(|error| error.to_string())?;
    let tokens = config.tokens.ok_or_else(|| "JWT_SECRET is not set".to_owned())?;
    let text = sign(&tokens, &token.user, SystemClock.now_ms(), token.expires);
    let text = text.map_err(|error| error.problem().detail)?;
    let Some(page) = &token.page else {
        println!("{text}");
        return Ok(());
    };
    // What follows # stays in the browser.
    let address = format!("{}/#token={text}", page.trim_end_matches('/'));
    println!("{address}");
    draw(&address);
    Ok(())
}
