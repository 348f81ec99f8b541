//! What quiet users notice of one who floods: with the limit of what a user may send in a minute, and without it.
//!
//! Pairs of quiet users send now and then. Beside them, one user sends twice as much as the stack takes, over many
//! connections. The times of the quiet messages count from when they were due.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::messages::{Field, Kind, Times, acquaint};
use crate::process::machine;
use crate::server::{NO_LIMIT, Server, Socket, open, open_each, user};
use crate::{Failure, progress};

/// How many connections the flood has: the most that a user may have.
const CONNECTIONS: usize = 32;

/// Let one user send twice what the stack takes, beside fifty quiet ones, with the limit of rate and without it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many quiet users send, each a message a second
    #[arg(long, default_value_t = 50)]
    quiet: usize,
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The limit of the second measurement, in messages a minute
    #[arg(long, default_value_t = 600)]
    limit: u32,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    name: String,
    /// The times of the quiet messages in ms.
    p50: f64,
    p99: f64,
    max: f64,
    /// How many frames of the flood were sent, and how many of them arrived.
    flooded: u64,
    arrived: u64,
    processor_percent: f64,
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    let time = Duration::from_secs(options.seconds);
    let most = most(program).await?;
    println!("{}; {} s each; the stack takes {most:.0} messages a second", machine(), options.seconds);
    println!(
        "{:<24}{:>10}{:>10}{:>10}{:>12}{:>10}{:>10}",
        "", "p50 ms", "p99 ms", "max ms", "flood sent", "arrived", "CPU %"
    );
    let limit = options.limit.to_string();
    let limited = ("MESSAGES_PER_MINUTE", limit.as_str());
    let cases =
        [("no flood", NO_LIMIT, 0.0), ("flood, no limit", NO_LIMIT, 2.0), ("flood, with the limit", limited, 2.0)];
    let mut all = Vec::new();
    for (name, variable, share) in cases {
        let one = measure(program, name, variable, share * most, options.quiet, time).await?;
        let Measured { p50, p99, max, flooded, arrived, processor_percent, .. } = &one;
        println!("{name:<24}{p50:>10.1}{p99:>10.1}{max:>10.1}{flooded:>12}{arrived:>10}{processor_percent:>10.0}");
        all.push(one);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(())
}

/// Returns how many private messages a second the stack takes.
async fn most(program: Option<&Path>) -> Result<f64, Failure> {
    let server = Server::start(program).await?;
    let sockets = open(&server, 100, 64).await?;
    let field = Field::new(sockets, acquaint(&server, Kind::Private, 50).await?, Kind::Private);
    field.at_highest_rate(Duration::from_secs(2)).await?;
    let began = Instant::now();
    let sent = field.at_highest_rate(Duration::from_secs(5)).await?;
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

async fn measure(
    program: Option<&Path>,
    name: &str,
    variable: (&str, &str),
    flood_rate: f64,
    quiet: usize,
    time: Duration,
) -> Result<Measured, Failure> {
    let server = Server::start_with(program, &[], &[variable]).await?;
    // The flood is the pair after the quiet ones.
    let addresses = acquaint(&server, Kind::Private, quiet + 1).await?;
    let field = Field::new(open(&server, 2 * quiet, 64).await?, addresses[..quiet].to_vec(), Kind::Private);
    let flooder = 2 * quiet;
    let connections = open_each(&server, &[flooder; CONNECTIONS], 4).await?;
    let victim = open_each(&server, &[flooder + 1], 1).await?.pop().ok_or("a connection")?;
    let (stop, flooded, arrived) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    tokio::spawn(count(victim, Arc::clone(&arrived)));
    if flood_rate > 0.0 {
        for connection in connections {
            let pace = Duration::from_secs_f64(CONNECTIONS as f64 / flood_rate);
            tokio::spawn(flood(connection, user(flooder + 1), pace, stop.clone(), Arc::clone(&flooded)));
        }
    }
    progress(name);
    let (spent, began) = (server.processor_time()?, Instant::now());
    let times = Times::of(&field.at_rate(quiet as f64, time).await?);
    let processor = (server.processor_time()? - spent).as_secs_f64() / began.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    progress("");
    let (flooded, arrived): (&AtomicU64, &AtomicU64) = (&flooded, &arrived);
    Ok(Measured {
        name: name.to_owned(),
        p50: times.at(0.5),
        p99: times.at(0.99),
        max: times.at(1.0),
        flooded: flooded.load(Relaxed),
        arrived: arrived.load(Relaxed),
        processor_percent: 100.0 * processor,
    })
}

/// Sends at a pace, or as fast as the connection takes it, and reads what comes back.
async fn flood(socket: Socket, to: String, pace: Duration, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        let mut due = tokio::time::interval(pace);
        while !stop.load(Relaxed) {
            due.tick().await;
            let number = sent.fetch_add(1, Relaxed);
            let frame = json!({ "type": "unicast", "receiverId": to, "content": number }).to_string();
            if sink.send(Message::text(frame)).await.is_err() {
                return;
            }
        }
    };
    let receiving = async { while stream.next().await.is_some_and(|message| message.is_ok()) {} };
    futures::join!(sending, receiving);
}

/// Counts what arrives.
async fn count(mut socket: Socket, arrived: Arc<AtomicU64>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            arrived.fetch_add(1, Relaxed);
        }
    }
}
