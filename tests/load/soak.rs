//! A long run of full load and of a part of it in turns, while connections come and go.
//!
//! It shows stalls, and memory or threads that grow with time. It fails if there are any.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;
use serde::Serialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::directory::{Data, Directory};
use crate::messages::{Field, Kind, Times, acquaint};
use crate::process::{machine, mib, stolen_time};
use crate::server::{NO_LIMIT, Server, connect, open};
use crate::steadiness::Steadiness;
use crate::{Failure, plot, progress};

/// How many times the median the 99th percentile may be.
const MOST_SPREAD: f64 = 10.0;

/// Shorter times than this count as this: one turn of the scheduler is no stall.
const SHORTEST_MS: f64 = 2.0;

/// The memory of the server that one message may take in addition, in bytes: two rows with their index entries, if the
/// data is in memory.
const MOST_BYTES: f64 = 4096.0;

/// The growth of memory that counts as nothing: buffers and caches that fill up once.
const SLACK_MIB: f64 = 48.0;

/// How many threads may be added after the first round.
const MORE_THREADS: u64 = 8;

/// The first user of those who come and go.
const VISITORS: usize = 10_000;

/// Alternate between full load and a part of it, while connections come and go: the times of messages, the threads and
/// the memory of each round; as "machine", how much slower a fixed computation was at times; as "stolen", the
/// milliseconds that the host of a virtual machine gave to others; and as "read in", how often the server waited for a
/// page of its program or of a file that the system had dropped from memory.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many minutes each run takes
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Where the data is; each has a run of its own
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,disk")]
    data: Vec<Data>,
    /// How many connections talk to each other, in pairs
    #[arg(long, default_value_t = 60)]
    connections: usize,
    /// How many connections are opened and closed each second besides
    #[arg(long, default_value_t = 5)]
    visitors: u64,
    /// How many seconds each half of a round takes
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The rate of the second half, as a share of the highest rate
    #[arg(long, default_value_t = 0.7)]
    share: f64,
    /// For how many milliseconds of each second the server is stopped, to see how it catches up. The times are not judged
    /// then
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1000))]
    stop: u64,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to plot the rounds, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Round {
    pub(crate) data: Data,
    /// When it ended, from the start of the run.
    pub(crate) minutes: f64,
    pub(crate) most_per_second: f64,
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// How much slower the machine itself was at times, see [`Steadiness`].
    pub(crate) machine: f64,
    /// The milliseconds that the host of a virtual machine gave to others, see [`stolen_time`].
    pub(crate) stolen: u128,
    /// How often the server waited for a page from the disk, see [`Server::major_faults`].
    pub(crate) read_in: u64,
    pub(crate) threads: u64,
    pub(crate) resident_mib: f64,
    /// The messages that were stored since the start of the run.
    pub(crate) stored: u64,
}

/// All rounds, and the machine.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: String,
    rounds: &'a [Round],
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    println!("{}; {} minutes each", machine(), options.minutes);
    println!(
        "{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}",
        "data",
        "minutes",
        "most/s",
        "rate/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "machine",
        "stolen",
        "read in",
        "threads",
        "MiB",
        "stored"
    );
    let (mut rounds, mut faults) = (Vec::new(), Vec::new());
    for data in &options.data {
        let of_run = soak(options, program, *data).await?;
        faults.extend(faults_of(&of_run, options.stop == 0));
        rounds.extend(of_run);
    }
    if let Some(path) = &options.json {
        let report = Report { machine: machine(), rounds: &rounds };
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(path) = &options.svg {
        plot::write_rounds(path, &rounds)?;
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

async fn soak(options: &Options, program: Option<&Path>, data: Data) -> Result<Vec<Round>, Failure> {
    let directory = Directory::new();
    let server = Arc::new(Server::start_with(program, &directory.arguments(data), &[NO_LIMIT]).await?);
    let sockets = open(&server, options.connections / 2 * 2, 64).await?;
    let parties = acquaint(&server, Kind::Private, sockets.len() / 2).await?;
    let field = Field::new(sockets, parties, Kind::Private);
    let visits = Arc::new(Visits::default());
    let visiting = tokio::spawn(visit(server.clone(), options.visitors, visits.clone()));
    let mut stopping = JoinSet::new();
    if options.stop > 0 {
        stopping.spawn(stop_again_and_again(server.id()?, Duration::from_millis(options.stop)));
    }

    let (began, time) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut rounds, mut rates, mut stored) = (Vec::new(), Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(60 * options.minutes) {
        progress(&format!("round {}", rounds.len() + 1));
        let started = Instant::now();
        let sent = field.at_highest_rate(time).await?;
        let most_per_second = sent as f64 / started.elapsed().as_secs_f64();
        rates.push(most_per_second);
        rates.sort_by(f64::total_cmp);
        // A share of the median, because one round may have had more of the machine than the next.
        let rate = options.share * rates[rates.len() / 2];
        let (steadiness, stolen, read_in) = (Steadiness::start(), stolen_time()?, server.major_faults()?);
        let times = field.at_rate(rate, time).await?;
        let (machine, stolen) = (steadiness.end()?, stolen_time()?.saturating_sub(stolen).as_millis());
        stored += sent + times.len() as u64;
        let times = Times::of(&times);
        progress("");
        let round = Round {
            data,
            minutes: began.elapsed().as_secs_f64() / 60.0,
            most_per_second,
            rate,
            p50: times.at(0.5),
            p99: times.at(0.99),
            max: times.at(1.0),
            machine,
            stolen,
            read_in: server.major_faults()? - read_in,
            threads: server.threads()?,
            resident_mib: mib(server.resident_bytes()?),
            stored,
        };
        print(&round);
        rounds.push(round);
    }
    visits.stop.store(true, Relaxed);
    visiting.await?;
    if stopping.try_join_next().is_some() {
        return Err("the server could not be stopped and continued: is there a program named kill?".into());
    }
    match visits.failed.load(Relaxed) {
        0 => Ok(rounds),
        failed => Err(format!("{failed} of {} connections could not be opened", visits.opened.load(Relaxed)).into()),
    }
}

fn print(round: &Round) {
    println!(
        "{:<8}{:>9.1}{:>9.0}{:>9.0}{:>9.2}{:>9.2}{:>9.1}{:>9.2}{:>9}{:>9}{:>9}{:>9.1}{:>10}",
        format!("{:?}", round.data).to_lowercase(),
        round.minutes,
        round.most_per_second,
        round.rate,
        round.p50,
        round.p99,
        round.max,
        round.machine,
        round.stolen,
        round.read_in,
        round.threads,
        round.resident_mib,
        round.stored
    );
}

/// Returns what is wrong with the rounds of a run.
fn faults_of(rounds: &[Round], are_times_judged: bool) -> Vec<String> {
    let Some(first) = rounds.first() else { return vec!["no round ended in time".to_owned()] };
    let mut faults = Vec::new();
    for (number, round) in rounds.iter().enumerate() {
        let name = format!("{:?}, round {}", round.data, number + 1).to_lowercase();
        if are_times_judged && round.p99 > MOST_SPREAD * round.p50.max(SHORTEST_MS) {
            faults.push(format!("{name}: p99 is {:.1} ms, p50 {:.1} ms", round.p99, round.p50));
        }
        if round.threads > first.threads + MORE_THREADS {
            faults.push(format!("{name}: {} threads, {} at first", round.threads, first.threads));
        }
        let for_messages = match round.data {
            Data::Memory => (round.stored - first.stored) as f64 * MOST_BYTES / f64::from(1 << 20),
            Data::Disk => 0.0,
        };
        let most = first.resident_mib + for_messages + SLACK_MIB;
        if round.resident_mib > most {
            faults.push(format!("{name}: {:.0} MiB, at most {most:.0} are expected", round.resident_mib));
        }
    }
    faults
}

/// Stops a process for `pause` in each second. Ends only if that fails.
async fn stop_again_and_again(process: u32, pause: Duration) {
    let process = process.to_string();
    let is_told = async |signal: &str| {
        Command::new("kill").args([signal, &process]).status().await.is_ok_and(|status| status.success())
    };
    while is_told("-STOP").await {
        tokio::time::sleep(pause).await;
        if !is_told("-CONT").await {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1) - pause).await;
    }
}

/// Those who come and go.
#[derive(Default)]
struct Visits {
    stop: AtomicBool,
    opened: AtomicUsize,
    failed: AtomicUsize,
}

/// Opens connections at a rate. Each stays for two seconds. One half closes, the other half only disappears.
async fn visit(server: Arc<Server>, per_second: u64, visits: Arc<Visits>) {
    let mut due = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(1));
    while per_second > 0 && !visits.stop.load(Relaxed) {
        due.tick().await;
        let number = visits.opened.fetch_add(1, Relaxed);
        let (server, visits) = (server.clone(), visits.clone());
        tokio::spawn(async move {
            let Ok(mut socket) = connect(&server, VISITORS + number % 1000).await else {
                visits.failed.fetch_add(1, Relaxed);
                return;
            };
            tokio::time::sleep(Duration::from_secs(2)).await;
            if number.is_multiple_of(2) && socket.close(None).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        });
    }
}
