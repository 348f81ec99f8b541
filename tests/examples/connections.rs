//! What the local stack does with many open connections: what one costs in memory, and how fast messages are meanwhile.
//!
//! `cargo run -p tests --example connections -- --help`

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Client;
use serde_json::{Value, json};
use shared::config::DEVELOPMENT_SECRET;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Start the local stack, open many connections, and send messages between some of them.
///
/// The server is a process of its own, whose resident memory is read from /proc. Build it first, by `cargo build` or
/// `cargo build --release`; the one beside this program is taken. `ulimit -n` must allow each process as many files as
/// there are connections, and a third more. What is measured goes to standard output, progress to standard error.
#[derive(Debug, Parser)]
struct Options {
    /// How many connections to open, each of a user of its own
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How many to open at once
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// How many messages to send while all are open, one after the other, between different pairs of users
    #[arg(long, default_value_t = 1_000)]
    messages: usize,
    /// The program to start instead of the one beside this
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let server = Server::start(&options).await?;
    let at_rest = server.resident_bytes()?;
    say("at rest", &mib(at_rest));

    let started = Instant::now();
    let mut clients = open(&server, &options).await?;
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

fn progress(text: &str) {
    // Nobody needs to read it.
    let _ = write!(std::io::stderr(), "\r{text:<60}");
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB resident", bytes as f64 / f64::from(1 << 20))
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("{}, taken by the receiver after {:.1?} (median), {:.1?} (99 of 100)", times.len(), at(50), at(99))
}

/// The local stack as a process of its own.
struct Server {
    child: Child,
    public: SocketAddr,
    internal: String,
}

impl Server {
    async fn start(options: &Options) -> Result<Self, Failure> {
        let beside = || Some(std::env::current_exe().ok()?.ancestors().nth(2)?.join("localstack"));
        let program = options.server.clone().or_else(beside).ok_or("this program has no path")?;
        let mut command = Command::new(&program);
        command.args(["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]);
        command.env_remove("JWT_SECRET").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("the output is piped")?).lines();
        let mut line = String::new();
        // A wrapper, such as a profiler, may have something to say first.
        while !line.starts_with("ready ") {
            line = lines.next_line().await?.ok_or("the server did not start")?;
        }
        let address = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).ok_or("no address");
        let (public, internal) = (address("public=http://")?.parse()?, address("internal=")?.to_owned());
        Ok(Self { child, public, internal })
    }

    /// The memory that the process has resident.
    fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().ok_or("the server ended")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

/// A client's end of a connection.
type Socket = WebSocketStream<TcpStream>;

async fn open(server: &Server, options: &Options) -> Result<Vec<Socket>, Failure> {
    let mut clients = Vec::with_capacity(options.connections);
    let opening = stream::iter(0..options.connections).map(|n| connect(server, n));
    let mut opening = opening.buffered(options.at_once.max(1));
    while let Some(client) = opening.next().await {
        clients.push(client.map_err(|error| format!("connection {}: {error}", clients.len()))?);
        if clients.len() % 100 == 0 {
            progress(&format!("{} of {} open", clients.len(), options.connections));
        }
    }
    progress("");
    Ok(clients)
}

async fn connect(server: &Server, n: usize) -> Result<Socket, Failure> {
    let socket = TcpSocket::new_v4()?;
    // An address has about 28,000 ports to call from.
    socket.bind(([127, 0, 0, 1 + u8::try_from(n / 20_000)?], 0).into())?;
    let stream = socket.connect(server.public).await?;
    let claims = json!({ "sub": user(n), "exp": jsonwebtoken::get_current_timestamp() + 3600 });
    let token =
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(DEVELOPMENT_SECRET.as_bytes()))?;
    let url = format!("ws://{}/ws?access_token={token}", server.public);
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

fn user(n: usize) -> String {
    format!("user-{n}")
}

/// Messages from each user to the next: how long each was on its way.
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
        // Until the server has taken leave too.
        if client.close(None).await.is_ok() {
            while let Some(Ok(_)) = client.next().await {}
        }
    });
    closing.await;
}
