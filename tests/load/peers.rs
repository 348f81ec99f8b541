//! The local stack beside what such modules are usually developed with, and beside a server that keeps everything in
//! memory. One driver measures all three in turns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::messages::{Kind, Times, acquaint};
use crate::process::{machine, mib, processor_time, resident_bytes};
use crate::server::{Server, Socket, token};
use crate::{Failure, plot, progress};

/// The programs and their sources, written into the folder of the peers.
const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("peers/package.json")),
    ("serverless.yml", include_str!("peers/serverless.yml")),
    ("broadcast.js", include_str!("peers/broadcast.js")),
    ("table.js", include_str!("peers/table.js")),
    ("socket.js", include_str!("peers/socket.js")),
];

/// How many messages are under way at full load. Serverless-offline starts a worker for each.
const UNDER_WAY: usize = 4;

/// A message that has not arrived everywhere after this time is lost.
const LOST: Duration = Duration::from_secs(5);

/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(90);

/// Measure the local stack, serverless-offline with a broadcast function, and Socket.IO, in turns: a pair, and a group
/// of ten. Installs the peers from npm.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the peers are installed
    #[arg(long, value_name = "DIR", default_value = "target/peers")]
    folder: PathBuf,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "serverless-offline,local-stack,socket-io")]
    peers: Vec<Peer>,
    /// How many connections there are; the first one sends to all others
    #[arg(long, value_delimiter = ',', default_value = "2,10")]
    connections: Vec<usize>,
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The fixed rate, as a share of the highest rate
    #[arg(long, default_value_t = 0.7)]
    share: f64,
    /// How often all are measured, in turns
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to plot the rates, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// A function that scans a table of connections and posts to each
    ServerlessOffline,
    /// The local stack
    LocalStack,
    /// A server that stores nothing
    SocketIo,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServerlessOffline => "serverless-offline",
            Self::LocalStack => "local stack",
            Self::SocketIo => "Socket.IO",
        }
    }
}

/// The measurement of one peer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) peer: Peer,
    pub(crate) connections: usize,
    pub(crate) most_per_second: f64,
    pub(crate) processor_ms_each: f64,
    pub(crate) resident_mib: f64,
    pub(crate) rate: f64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    if options.peers.iter().any(|peer| *peer != Peer::LocalStack) {
        install(&options.folder).await?;
    }
    println!("{}; {} s each", machine(), options.seconds);
    println!(
        "| | connections | messages a second | deliveries a second | CPU ms for each message | MiB | rate | lost | p50, p99 in ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut measured = Vec::new();
    for _ in 0..options.rounds {
        for connections in &options.connections {
            for peer in options.peers.iter().copied() {
                progress(peer.name());
                let one = measure(options, program, peer, *connections).await?;
                progress("");
                let deliveries = one.most_per_second * (connections - 1) as f64;
                println!(
                    "| {} | {connections} | {:.0} | {deliveries:.0} | {:.3} | {:.0} | {:.0} | {} of {} | {:.1}, {:.1} |",
                    peer.name(),
                    one.most_per_second,
                    one.processor_ms_each,
                    one.resident_mib,
                    one.rate,
                    one.lost,
                    one.sent,
                    one.p50,
                    one.p99
                );
                measured.push(one);
            }
        }
    }
    for connections in &options.connections {
        let ratios = ratios(&measured, *connections);
        if !ratios.is_empty() {
            let text = ratios.iter().map(|ratio| format!("{ratio:.1}")).collect::<Vec<_>>().join(", ");
            println!("{connections} connections: {text} times as many messages a second as serverless-offline");
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&measured)? + "\n")?;
    }
    match &options.svg {
        Some(path) => plot::write_peers(path, &measured),
        None => Ok(()),
    }
}

/// Returns how many times the rate of serverless-offline the local stack had, by rounds.
fn ratios(measured: &[Measured], connections: usize) -> Vec<f64> {
    let rates = |peer| {
        let of_peer = measured.iter().filter(move |one| one.peer == peer && one.connections == connections);
        of_peer.map(|one| one.most_per_second)
    };
    rates(Peer::LocalStack).zip(rates(Peer::ServerlessOffline)).map(|(ours, theirs)| ours / theirs).collect()
}

/// Writes the sources of the peers, and installs what they need.
async fn install(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text)?;
    }
    progress("npm install");
    let mut npm = Command::new("npm");
    npm.args(["install", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    let installed = npm.stdout(Stdio::null()).status().await.map_err(|error| format!("npm: {error}"))?;
    progress("");
    if installed.success() { Ok(()) } else { Err("npm could not install the peers".into()) }
}

/// Running processes of a peer, and how to speak to it.
struct Running {
    processes: Vec<Child>,
    server: Option<Server>,
    sockets: Vec<Socket>,
    /// The frame of a message, with its number between the two texts.
    frame: (String, String),
}

impl Running {
    async fn start(folder: &Path, program: Option<&Path>, peer: Peer, connections: usize) -> Result<Self, Failure> {
        let mut running = Self { processes: Vec::new(), server: None, sockets: Vec::new(), frame: Default::default() };
        match peer {
            Peer::LocalStack => running.start_ours(program, connections).await?,
            Peer::SocketIo => {
                let port = free_port()?;
                running.node(folder, &["socket.js"], &[("WEBSOCKET_PORT", port)])?;
                wait_for(port).await?;
                for _ in 0..connections {
                    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
                    let mut socket = open(&url, port).await?;
                    // Its open packet, our connect packet, and the answer.
                    socket.next().await.ok_or("Socket.IO closed")??;
                    socket.send(Message::text("40")).await?;
                    socket.next().await.ok_or("Socket.IO closed")??;
                    running.sockets.push(socket);
                }
                running.frame = (r#"42["message",{"content":"#.to_owned(), "}]".to_owned());
            }
            Peer::ServerlessOffline => {
                let [database, http, lambda, port] = [free_port()?, free_port()?, free_port()?, free_port()?];
                let tables = ["node_modules/dynalite/cli.js", "--createTableMs", "0", "--port", &database.to_string()];
                running.node(folder, &tables, &[])?;
                wait_for(database).await?;
                let address = format!("http://127.0.0.1:{database}");
                let made = node(folder, &["table.js"]).env("DYNAMODB", &address).status().await?;
                if !made.success() {
                    return Err("the table was not created".into());
                }
                let mut serve = node(folder, &["node_modules/osls/bin/serverless.js", "offline", "start"]);
                serve.env("DYNAMODB", &address);
                for (name, port) in [("HTTP_PORT", http), ("LAMBDA_PORT", lambda), ("WEBSOCKET_PORT", port)] {
                    serve.env(name, port.to_string());
                }
                running.processes.push(serve.spawn()?);
                wait_for(port).await?;
                for _ in 0..connections {
                    running.sockets.push(open(&format!("ws://127.0.0.1:{port}/"), port).await?);
                }
                running.frame = (r#"{"action":"message","content":"#.to_owned(), "}".to_owned());
            }
        }
        Ok(running)
    }

    async fn start_ours(&mut self, program: Option<&Path>, connections: usize) -> Result<(), Failure> {
        let server = Server::start(program).await?;
        let kind = if connections == 2 { Kind::Private } else { Kind::Group };
        let address = acquaint(&server, kind, 1).await?.pop().ok_or("nobody to talk to")?;
        for n in 0..connections {
            let url = format!("ws://{}/ws?access_token={}", server.public, token(n)?);
            self.sockets.push(open(&url, server.public.port()).await?);
        }
        let frame = match kind {
            Kind::Private => json!({ "type": "unicast", "receiverId": address }),
            _ => json!({ "type": "multicast", "groupId": address }),
        };
        let open = frame.to_string();
        self.frame = (format!("{},\"content\":", open.trim_end_matches('}')), "}".to_owned());
        self.server = Some(server);
        Ok(())
    }

    fn node(&mut self, folder: &Path, arguments: &[&str], ports: &[(&str, u16)]) -> Result<(), Failure> {
        let mut command = node(folder, arguments);
        command.envs(ports.iter().map(|(name, port)| (name, port.to_string())));
        self.processes.push(command.spawn()?);
        Ok(())
    }

    fn ids(&self) -> Result<Vec<u32>, Failure> {
        let server = self.server.iter().map(Server::id);
        let processes = self.processes.iter().map(|process| Ok(process.id().ok_or("a peer ended")?));
        server.chain(processes).collect()
    }

    fn processor_time(&self) -> Result<Duration, Failure> {
        self.ids()?.into_iter().map(processor_time).sum()
    }

    fn resident_bytes(&self) -> Result<u64, Failure> {
        self.ids()?.into_iter().map(resident_bytes).sum()
    }
}

fn node(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until a port listens.
async fn wait_for(port: u16) -> Result<(), Failure> {
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(START, listens).await.map_err(|_| "a peer did not start".into())
}

async fn open(url: &str, port: u16) -> Result<Socket, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(client_async(url, stream).await?.0)
}

async fn measure(
    options: &Options,
    program: Option<&Path>,
    peer: Peer,
    connections: usize,
) -> Result<Measured, Failure> {
    let mut running = Running::start(&options.folder, program, peer, connections).await?;
    let mut field = Field::new(std::mem::take(&mut running.sockets), running.frame.clone());
    let time = Duration::from_secs(options.seconds);
    // Warms up.
    field.run(Pace::UnderWay(UNDER_WAY), time.min(Duration::from_secs(4))).await?;
    let (spent, began) = (running.processor_time()?, Instant::now());
    let full = field.run(Pace::UnderWay(UNDER_WAY), time).await?;
    let (arrived, spent) = (full.times.len() as f64, running.processor_time()? - spent);
    let most_per_second = arrived / began.elapsed().as_secs_f64();
    let rate = options.share * most_per_second;
    let steady = field.run(Pace::Rate(rate), time).await?;
    let times = Times::of(&steady.times);
    Ok(Measured {
        peer,
        connections,
        most_per_second,
        processor_ms_each: spent.as_secs_f64() * 1e3 / arrived.max(1.0),
        resident_mib: mib(running.resident_bytes()?),
        rate,
        sent: steady.sent,
        lost: steady.sent - steady.times.len() as u64,
        p50: times.at(0.5),
        p99: times.at(0.99),
    })
}

/// When messages are sent.
#[derive(Clone, Copy)]
enum Pace {
    /// When one has arrived or is lost, so that so many are under way.
    UnderWay(usize),
    /// So many a second.
    Rate(f64),
}

/// What came of the messages.
#[derive(Default)]
struct Outcome {
    sent: u64,
    /// How long each message took until its last receiver had it. A lost one has none.
    times: Vec<Duration>,
}

/// One sender and its receivers.
struct Field {
    frame: (String, String),
    sender: UnboundedSender<Message>,
    arrivals: UnboundedReceiver<(u64, Instant)>,
    receivers: usize,
    next: u64,
}

impl Field {
    fn new(sockets: Vec<Socket>, frame: (String, String)) -> Self {
        let (arrived, arrivals) = unbounded_channel();
        let receivers = sockets.len() - 1;
        let mut sender = None;
        for (n, socket) in sockets.into_iter().enumerate() {
            let (send, frames) = unbounded_channel();
            tokio::spawn(converse(socket, send.clone(), frames, (n > 0).then(|| arrived.clone())));
            sender = sender.or(Some(send));
        }
        Self { frame, sender: sender.expect("there are two sockets at least"), arrivals, receivers, next: 0 }
    }

    fn send(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        // If the connection has ended, the message is lost, and that is counted.
        let _ = self.sender.send(Message::text(format!("{}{number}{}", self.frame.0, self.frame.1)));
        number
    }

    /// Sends for that time, and waits until all messages have arrived or are lost.
    async fn run(&mut self, pace: Pace, time: Duration) -> Result<Outcome, Failure> {
        let began = Instant::now();
        let (mut outcome, mut left) = (Outcome::default(), HashMap::<u64, (Instant, usize)>::new());
        loop {
            let now = Instant::now();
            left.retain(|_, (due, _)| now < *due + LOST);
            let is_over = now >= began + time;
            if is_over && left.is_empty() {
                return Ok(outcome);
            }
            let due = match pace {
                Pace::UnderWay(most) if left.len() < most => now,
                Pace::UnderWay(_) => now + LOST,
                Pace::Rate(rate) => began + Duration::from_secs_f64(outcome.sent as f64 / rate),
            };
            if !is_over && due <= now {
                left.insert(self.send(), (due, self.receivers));
                outcome.sent += 1;
                continue;
            }
            let until = if is_over { now + LOST } else { due };
            tokio::select! {
                arrived = self.arrivals.recv() => {
                    let (number, at) = arrived.ok_or("the connections ended")?;
                    let Some((due, receivers)) = left.get_mut(&number) else { continue };
                    *receivers -= 1;
                    if *receivers == 0 {
                        outcome.times.push(at.saturating_duration_since(*due));
                        left.remove(&number);
                    }
                }
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }
}

/// Sends frames, and reports the numbers of those that arrive. Answers the pings of Socket.IO.
async fn converse(
    socket: Socket,
    send: UnboundedSender<Message>,
    mut frames: UnboundedReceiver<Message>,
    arrived: Option<UnboundedSender<(u64, Instant)>>,
) {
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        while let Some(frame) = frames.recv().await {
            if sink.send(frame).await.is_err() {
                return;
            }
        }
    };
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            let now = Instant::now();
            let Ok(text) = message.to_text() else { continue };
            if text == "2" {
                let _ = send.send(Message::text("3"));
            }
            if let (Some(number), Some(arrived)) = (number(text), &arrived) {
                let _ = arrived.send((number, now));
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}

/// Returns the content of a frame.
fn number(frame: &str) -> Option<u64> {
    let (_, rest) = frame.split_once("\"content\":")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
