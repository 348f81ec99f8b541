//! The rate of messages that the local stack can take, and the time that each takes.
//!
//! First the highest rate is measured: each of several senders waits until its message has arrived, and then sends the
//! next. Then messages are sent at a fixed lower rate, even if earlier ones have not arrived (an open loop). The time
//! of a message counts from when it was due. So a stall counts for all messages that were due during it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::api::{answer, bring, create_group};
use crate::process::{machine, mib};
use crate::server::{Server, Socket, open, send_all, user};
use crate::{Failure, plot, progress};

/// The most messages under way while the highest rate is measured. Each has its own sender.
const MOST_UNDER_WAY: usize = 64;

/// The number of members of a group.
const MEMBERS: usize = 10;

/// How long the last messages may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Send messages between connections, first as fast as possible, then at a fixed rate: the rate, and the time of each
/// message.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections are open, each of its own user
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    connections: Vec<usize>,
    /// What is sent
    #[arg(long, value_enum, value_delimiter = ',', default_value = "private,acknowledged,group")]
    kinds: Vec<Kind>,
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The fixed rate, as a share of the highest rate
    #[arg(long, default_value_t = 0.7)]
    share: f64,
    /// The fixed rate in messages a second, instead of a share, to compare two builds
    #[arg(long)]
    rate: Option<f64>,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to plot the times, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// To one user, until they have it
    Private,
    /// To one user with a request id, until the sender has the acknowledgement
    Acknowledged,
    /// To a group of ten, until all nine receivers have it
    Group,
}

/// The measurement of one kind and number of connections.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    /// The highest rate in messages a second, and the server's processor time for each message.
    pub(crate) most_per_second: f64,
    pub(crate) processor_ms_each: f64,
    /// The fixed rate, and the times in ms at that rate.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) resident_mib: f64,
}

/// All measurements, and the machine.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: String,
    seconds: u64,
    measured: &'a [Measured],
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    let machine = machine();
    println!("{machine}; {} s each", options.seconds);
    println!(
        "{:<13}{:>11}{:>12}{:>11}{:>11}{:>10}{:>10}{:>10}{:>10}{:>9}",
        "kind", "connections", "most/s", "CPU ms", "rate/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "MiB"
    );
    let mut measured = Vec::new();
    for kind in &options.kinds {
        for connections in &options.connections {
            let one = measure(options, program, *kind, *connections).await?;
            println!(
                "{:<13}{:>11}{:>12.0}{:>11.3}{:>11.0}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>9.1}",
                format!("{kind:?}").to_lowercase(),
                one.connections,
                one.most_per_second,
                one.processor_ms_each,
                one.rate,
                one.p50,
                one.p99,
                one.p999,
                one.max,
                one.resident_mib
            );
            measured.push(one);
        }
    }
    if let Some(path) = &options.json {
        let report = Report { machine, seconds: options.seconds, measured: &measured };
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    match &options.svg {
        Some(path) => plot::write(path, &measured),
        None => Ok(()),
    }
}

async fn measure(
    options: &Options,
    program: Option<&Path>,
    kind: Kind,
    connections: usize,
) -> Result<Measured, Failure> {
    let size = if kind == Kind::Group { MEMBERS } else { 2 };
    if connections < size {
        return Err(format!("{size} connections are the fewest for this kind").into());
    }
    let server = Server::start(program).await?;
    let sockets = open(&server, connections / size * size, 64).await?;
    let parties = acquaint(&server, kind, sockets.len() / size).await?;
    let field = Field::new(sockets, parties, kind);
    let time = Duration::from_secs(options.seconds);

    progress("at the highest rate");
    // Warms up the server and the connections.
    field.at_highest_rate(time.min(Duration::from_secs(2))).await?;
    let (spent, began) = (server.processor_time()?, Instant::now());
    let sent = field.at_highest_rate(time).await?;
    let most_per_second = sent as f64 / began.elapsed().as_secs_f64();
    let processor_ms_each = (server.processor_time()? - spent).as_secs_f64() * 1e3 / sent.max(1) as f64;

    let rate = options.rate.unwrap_or(options.share * most_per_second);
    progress(&format!("{rate:.0} a second"));
    let times = Times::of(&field.at_rate(rate, time).await?);
    progress("");
    Ok(Measured {
        kind,
        connections,
        most_per_second,
        processor_ms_each,
        rate,
        p50: times.at(0.5),
        p99: times.at(0.99),
        p999: times.at(0.999),
        max: times.at(1.0),
        resident_mib: mib(server.resident_bytes()?),
    })
}

/// Sorted times in ms.
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn of(times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// Returns the time that this share of all times does not exceed.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let index = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// Creates friendships or groups. Returns the address for the frames of each party.
pub(crate) async fn acquaint(server: &Server, kind: Kind, parties: usize) -> Result<Vec<String>, Failure> {
    let http = Client::new();
    let http = &http;
    let befriend = async |n: usize| -> Result<String, Failure> {
        let url = format!("{}/relationship/{}/friends/{}", server.internal, user(2 * n), user(2 * n + 1));
        answer(http.put(url)).await?;
        Ok(user(2 * n + 1))
    };
    let gather = async |n: usize| -> Result<String, Failure> {
        let manager = n * MEMBERS;
        let group = create_group(http, server, manager).await?;
        for member in manager + 1..manager + MEMBERS {
            bring(http, server, &group, manager, member).await?;
        }
        Ok(group)
    };
    let each = stream::iter(0..parties).map(async |n| match kind {
        Kind::Group => gather(n).await,
        _ => befriend(n).await,
    });
    let mut addresses = Vec::new();
    let mut each = each.buffered(16);
    while let Some(address) = each.try_next().await? {
        addresses.push(address);
        progress(&format!("{} of {parties} parties know each other", addresses.len()));
    }
    Ok(addresses)
}

/// The fields of a frame that matter here. They identify a message by its number.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    content: Option<serde_json::Value>,
    request_id: Option<String>,
}

/// The number of a message that reached a receiver, and the time.
type Arrival = (u64, Instant);

/// Pairs or groups of connections. The first of each sends.
pub(crate) struct Field {
    kind: Kind,
    senders: Vec<UnboundedSender<String>>,
    addresses: Vec<String>,
    /// The arrivals, by party.
    arrivals: Vec<tokio::sync::Mutex<UnboundedReceiver<Arrival>>>,
    numbers: AtomicU64,
    /// The number of arrivals until a message has arrived everywhere.
    wanted: usize,
}

impl Field {
    pub(crate) fn new(sockets: Vec<Socket>, addresses: Vec<String>, kind: Kind) -> Self {
        let size = if kind == Kind::Group { MEMBERS } else { 2 };
        let wanted = if kind == Kind::Group { MEMBERS - 1 } else { 1 };
        let (mut senders, mut arrivals) = (Vec::new(), Vec::new());
        let mut sockets = sockets.into_iter();
        for _ in &addresses {
            let (arrived, waiting) = unbounded_channel();
            for (n, socket) in sockets.by_ref().take(size).enumerate() {
                let (sender, frames) = unbounded_channel();
                tokio::spawn(converse(socket, frames, arrived.clone()));
                if n == 0 {
                    senders.push(sender);
                } else {
                    // A receiver never sends, but its channel must stay open.
                    std::mem::forget(sender);
                }
            }
            arrivals.push(tokio::sync::Mutex::new(waiting));
        }
        Self { kind, senders, addresses, arrivals, numbers: AtomicU64::new(0), wanted }
    }

    fn send(&self, party: usize) -> u64 {
        let number = self.numbers.fetch_add(1, Relaxed);
        let to = &self.addresses[party];
        let frame = match self.kind {
            Kind::Private => json!({ "type": "unicast", "receiverId": to, "content": number }),
            Kind::Acknowledged => {
                json!({ "type": "unicast", "receiverId": to, "content": "m", "requestId": number.to_string() })
            }
            Kind::Group => json!({ "type": "multicast", "groupId": to, "content": number }),
        };
        // If the connection has ended, the message does not arrive, and that is noticed.
        let _ = self.senders[party].send(frame.to_string());
        number
    }

    /// Each sender waits for its message to arrive, and then sends the next. Returns the number of messages that
    /// arrived.
    pub(crate) async fn at_highest_rate(&self, time: Duration) -> Result<u64, Failure> {
        let (end, sent) = (Instant::now() + time, AtomicU64::new(0));
        let sent_by = async |party: usize| -> Result<(), Failure> {
            let mut arrivals = self.arrivals[party].lock().await;
            while Instant::now() < end {
                let number = self.send(party);
                for _ in 0..self.wanted {
                    let arrived = tokio::time::timeout(PATIENCE, arrivals.recv()).await;
                    let (arrived, _) = arrived.map_err(|_| "a message did not arrive")?.ok_or("a connection ended")?;
                    if arrived != number {
                        return Err(format!("message {arrived} arrived in place of {number}").into());
                    }
                }
                sent.fetch_add(1, Relaxed);
            }
            Ok(())
        };
        let parties = self.addresses.len().min(MOST_UNDER_WAY);
        stream::iter(0..parties).map(Ok).try_for_each_concurrent(None, sent_by).await?;
        Ok(sent.into_inner())
    }

    /// Sends at a fixed rate, by one party after the other. Returns how long each message took, from when it was due
    /// until its last receiver had it.
    pub(crate) async fn at_rate(&self, rate: f64, time: Duration) -> Result<Vec<Duration>, Failure> {
        let count = (rate * time.as_secs_f64()) as u64;
        let (began, first) = (Instant::now() + Duration::from_millis(10), self.numbers.load(Relaxed));
        let due = |number: u64| began + Duration::from_secs_f64((number - first) as f64 / rate);
        let sending = async {
            for number in first..first + count {
                tokio::time::sleep_until(due(number).into()).await;
                self.send((number - first) as usize % self.addresses.len());
            }
        };
        let parties = self.addresses.len() as u64;
        let arriving = |party: u64| async move {
            let mut arrivals = self.arrivals[party as usize].lock().await;
            let expected = count / parties + u64::from(party < count % parties);
            let mut left: std::collections::HashMap<u64, usize> = std::collections::HashMap::new();
            let mut times = Vec::new();
            while (times.len() as u64) < expected {
                let arrived = tokio::time::timeout(time + PATIENCE, arrivals.recv()).await;
                let (number, at) = arrived.map_err(|_| "a message did not arrive")?.ok_or("a connection ended")?;
                let left = left.entry(number).or_insert(self.wanted);
                *left -= 1;
                if *left == 0 {
                    times.push(at.saturating_duration_since(due(number)));
                }
            }
            Ok::<_, Failure>(times)
        };
        let arriving = stream::iter(0..parties).map(arriving).buffer_unordered(usize::MAX).try_concat();
        let ((), times) = futures::join!(sending, arriving);
        times
    }
}

/// Sends the given frames, and reports arrivals.
async fn converse(socket: Socket, frames: UnboundedReceiver<String>, arrived: UnboundedSender<Arrival>) {
    let (sink, mut stream) = socket.split();
    let sending = send_all(sink, frames);
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            let now = Instant::now();
            let Ok(frame) = serde_json::from_slice::<Frame>(&message.into_data()) else { continue };
            let number = match frame.kind.as_str() {
                "ACK" => frame.request_id.and_then(|id| id.parse().ok()),
                // The acknowledgement counts for these.
                _ => frame.content.and_then(|content| content.as_u64()),
            };
            if let Some(number) = number {
                // The receiver of the channel may be gone.
                let _ = arrived.send((number, now));
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}
