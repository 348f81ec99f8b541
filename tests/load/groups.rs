//! The time that a message to a large group takes, and the resources that it needs.
//!
//! Messages are sent one after the other, each when all online members have the one before. The clients run in this
//! process on the same processors. So the times are those of server and clients together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audience::{Audience, Times};
use crate::process::{machine, mib};
use crate::roster::{MANAGER, MOST_MEMBERS, Roster, SHARD};
use crate::server::{Server, open_each, places};
use crate::weigh::{Weighed, weigh};
use crate::{Failure, progress};

/// Messages to more receivers go through the queue: the default of a deployment.
const FANOUT_MEMBERS: usize = 1_000;

/// Connections at the server besides those of the online members.
const OTHER_PLACES: usize = 100;

/// How many connections to open at once.
const AT_ONCE: usize = 64;

/// Send messages to large groups: the time until the last online member has each, and the resources of the functions.
///
/// All members except two are written into the table, as acceptances write them. Then the functions `message` and
/// `fanout` are started as in a deployment: as processes of their own, from beside this program. They use the local
/// stack's table, queue and connections. Their memory and run time are measured. The command fails if a message does
/// not reach all online members, or if a function needs too much memory.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many members the groups have
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    members: Vec<usize>,
    /// Which share of them is online, if the limit of open files (ulimit -n) allows that many
    #[arg(long, default_value_t = 0.2)]
    online: f64,
    /// How many messages to send, one after the other
    #[arg(long, default_value_t = 5)]
    messages: usize,
    /// How many MiB of memory each function may need
    #[arg(long, value_name = "MIB", default_value_t = 128.0)]
    most_memory: f64,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// All measurements, and the machine.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    measured: Vec<Measured>,
}

/// The measurement of one group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    members: usize,
    online: usize,
    #[serde(flatten)]
    delivery: Delivery,
    functions: [Weighed; 2],
}

/// The delivery of the messages.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    messages: Vec<Sent>,
    /// How many pushes repeated a message to a receiver.
    repeats: u64,
    /// The time until the last push.
    median_ms: f64,
    most_ms: f64,
    pushes_per_second: f64,
    /// Of the server process.
    processor_ms_each_push: f64,
    resident_mib: f64,
}

/// The times of a message in ms since it was sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    acknowledged: f64,
    first: f64,
    half: f64,
    last: f64,
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    let mut report = Report { machine: machine(), measured: Vec::new() };
    println!("{}", report.machine);
    for members in &options.members {
        report.measured.push(measure(options, program, *members).await?);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    let mut functions = report.measured.iter().flat_map(|one| &one.functions);
    match functions.find(|one| one.most_mib > options.most_memory) {
        Some(one) => Err(format!("{} needs more than {} MiB", one.function, options.most_memory).into()),
        None => Ok(()),
    }
}

async fn measure(options: &Options, program: Option<&Path>, members: usize) -> Result<Measured, Failure> {
    if !(FANOUT_MEMBERS + 2..=MOST_MEMBERS).contains(&members) {
        return Err(format!("groups of {} to {MOST_MEMBERS} members are measured", FANOUT_MEMBERS + 2).into());
    }
    let online = online(options.online, members)?;
    let server = start(program).await?;
    let roster = Roster::make(&server, members).await?;
    let mut audience = gather(&server, &roster, online).await?;
    let delivery = deliver(&server, &mut audience, options.messages, online).await?;
    let functions = weigh(&server, &mut audience).await?;
    say_functions(&functions);
    Ok(Measured { members, online, delivery, functions })
}

/// The number of members to be online. Prints it, and why it is lower than wanted.
fn online(share: f64, members: usize) -> Result<usize, Failure> {
    let wanted = ((share * members as f64).round() as usize).clamp(1, members - 1);
    let allowed = places()?.saturating_sub(OTHER_PLACES).max(1);
    println!();
    if wanted > allowed {
        println!("{members} members, {allowed} of {wanted} online: the limit of open files allows no more");
    } else {
        println!("{members} members, {wanted} online");
    }
    Ok(wanted.min(allowed))
}

async fn start(program: Option<&Path>) -> Result<Server, Failure> {
    let [members, fanout, shard] = [MOST_MEMBERS, FANOUT_MEMBERS, SHARD].map(|number| number.to_string());
    // Receivers must not be closed as idle while the others still connect.
    let arguments = ["--max-connections", &places()?.to_string(), "--idle-timeout", "7200"].map(str::to_owned);
    let variables =
        [("MAX_GROUP_MEMBERS", &*members), ("FANOUT_MEMBERS", fanout.as_str()), ("ROSTER_SHARD", shard.as_str())];
    Server::start_with(program, &arguments, &variables).await
}

/// Connects this many members, and the manager.
async fn gather(server: &Server, roster: &Roster, online: usize) -> Result<Audience, Failure> {
    let receivers = open_each(server, &roster.some(online), AT_ONCE).await?;
    let manager = open_each(server, &[MANAGER], 1).await?.pop().ok_or("the manager has no connection")?;
    Ok(Audience::new(&roster.group, manager, receivers))
}

/// Sends this many messages, and prints how long each took.
async fn deliver(server: &Server, audience: &mut Audience, count: usize, online: usize) -> Result<Delivery, Failure> {
    println!("{:<9}{:>10}{:>10}{:>10}{:>10}", "message", "ACK ms", "first ms", "half ms", "last ms");
    let (spent, mut messages) = (server.processor_time()?, Vec::new());
    for number in 1..=count {
        let sent = Sent::from(audience.send().await?);
        progress("");
        println!("{number:<9}{:>10.1}{:>10.1}{:>10.1}{:>10.1}", sent.acknowledged, sent.first, sent.half, sent.last);
        messages.push(sent);
    }
    let spent = server.processor_time()? - spent;
    let delivery = Delivery::new(messages, audience.repeats().await?, spent, online, mib(server.resident_bytes()?));
    println!(
        "last push after {:.1} ms (median), {:.1} ms (most); {:.0} pushes/s, {} repeated; server: {:.3} ms of processor \
         time for each push, {:.1} MiB resident",
        delivery.median_ms,
        delivery.most_ms,
        delivery.pushes_per_second,
        delivery.repeats,
        delivery.processor_ms_each_push,
        delivery.resident_mib
    );
    Ok(delivery)
}

impl Delivery {
    fn new(messages: Vec<Sent>, repeats: u64, spent: Duration, online: usize, resident_mib: f64) -> Self {
        let mut last: Vec<f64> = messages.iter().map(|sent| sent.last).collect();
        last.sort_by(f64::total_cmp);
        let pushes = (messages.len() * online).max(1) as f64;
        Self {
            repeats,
            median_ms: last.get(last.len() / 2).copied().unwrap_or_default(),
            most_ms: last.last().copied().unwrap_or_default(),
            pushes_per_second: pushes * 1e3 / last.iter().sum::<f64>(),
            processor_ms_each_push: spent.as_secs_f64() * 1e3 / pushes,
            resident_mib,
            messages,
        }
    }
}

impl From<Times> for Sent {
    fn from(times: Times) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let [acknowledged, first, half, last] =
            [times.acknowledged.unwrap_or_default(), times.first, times.half, times.last].map(ms);
        Self { acknowledged, first, half, last }
    }
}

/// Prints what the functions needed, at first and at most.
fn say_functions(functions: &[Weighed]) {
    println!(
        "{:<9}{:>8}{:>13}{:>8}{:>15}{:>8}{:>13}{:>8}",
        "function", "events", "MiB at first", "most", "CPU ms: first", "median", "ms: first", "median"
    );
    for one in functions {
        println!(
            "{:<9}{:>8}{:>13.1}{:>8.1}{:>15.1}{:>8.1}{:>13.1}{:>8.1}",
            one.function,
            one.events,
            one.first_mib,
            one.most_mib,
            one.first_processor_ms,
            one.median_processor_ms,
            one.first_ms,
            one.median_ms
        );
    }
}
