//! The local stack with many open connections: the memory of each, and the speed of messages.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{Server, Socket, open, user};
use crate::{Failure, process, progress};

/// Open many connections, and send messages between some of them: the memory of each connection.
///
/// `ulimit -n` must allow each process a third more files than there are connections.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections to open, each of its own user
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How many to open at once
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// How many messages to send while all are open, one after the other, between different pairs of users
    #[arg(long, default_value_t = 1_000)]
    messages: usize,
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    let server = Server::start(program).await?;
    let at_rest = server.resident_bytes()?;
    say("at rest", &mib(at_rest));

    let started = Instant::now();
    let mut clients = open(&server, options.connections, options.at_once).await?;
    let seconds = started.elapsed().as_secs_f64();
    let each = |bytes: u64| format!("{} bytes each", bytes.saturating_sub(at_rest) / options.connections.max(1) as u64);
    say("opened", &format!("{} in {seconds:.1} s, {:.0} a second", clients.len(), clients.len() as f64 / seconds));
    let opened = server.resident_bytes()?;
    say("all open", &format!("{}, {}", mib(opened), each(opened)));

    let times = talk(&server, &mut clients, options.messages).await?;
    say("messages", &percentiles(times));
    let talked = server.resident_bytes()?;
    say("after messages", &format!("{}, {}", mib(talked), each(talked)));

    let started = Instant::now();
    close(clients, options.at_once).await;
    say("closed", &format!("in {:.1} s", started.elapsed().as_secs_f64()));
    say("all closed", &mib(server.resident_bytes()?));
    Ok(())
}

fn say(what: &str, value: &str) {
    println!("{what:<16}{value}");
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB resident", process::mib(bytes))
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("{}, received after {:.1?} (median), {:.1?} (99 of 100)", times.len(), at(50), at(99))
}

/// Sends messages from each user to the next. Returns how long each took.
async fn talk(server: &Server, clients: &mut [Socket], messages: usize) -> Result<Vec<Duration>, Failure> {
    let pairs = (clients.len() / 2).min(messages);
    let http = Client::new();
    let befriend = |n: usize| {
        let url = format!("{}/relationship/{}/friends/{}", server.internal, user(2 * n), user(2 * n + 1));
        let call = http.put(url).send();
        async move { call.await?.error_for_status().map(|_| ()) }
    };
    stream::iter(0..pairs).map(Ok).try_for_each_concurrent(16, befriend).await?;
    let mut times = Vec::with_capacity(messages);
    for n in (0..pairs).cycle().take(messages) {
        let frame = json!({ "type": "unicast", "receiverId": user(2 * n + 1), "content": n });
        let started = Instant::now();
        clients[2 * n].send(Message::text(frame.to_string())).await?;
        let received = clients[2 * n + 1].next().await.ok_or("a connection ended")??;
        let received: Value = serde_json::from_str(received.to_text()?)?;
        if received["content"] != n {
            return Err(format!("expected the message {n}; got {received}").into());
        }
        times.push(started.elapsed());
        if times.len() % 100 == 0 {
            progress(&format!("{} of {messages} messages", times.len()));
        }
    }
    progress("");
    Ok(times)
}

async fn close(clients: Vec<Socket>, at_once: usize) {
    let closing = stream::iter(clients).for_each_concurrent(at_once.max(1), async |mut client| {
        // Until the server has closed too.
        if client.close(None).await.is_ok() {
            while let Some(Ok(_)) = client.next().await {}
        }
    });
    closing.await;
}
