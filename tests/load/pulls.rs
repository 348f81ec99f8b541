//! What a pull of missed messages takes, by the number of the user's groups and of the messages, and the lines that fit.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::answer;
use crate::directory::{Data, Directory};
use crate::messages::Times;
use crate::process::machine;
use crate::server::{NO_LIMIT, Server, token, user};
use crate::{Failure, progress};

/// How many calls that prepare a measurement are under way at once.
const AT_ONCE: usize = 16;

/// How often an empty pull is measured. The median counts.
const REPEATS: usize = 21;

/// The user who sends, and the first of those who pull.
const SENDER: usize = 0;
const FIRST: usize = 1;

/// Measure pulls of missed messages: without messages, by the number of groups; and by the number of messages.
///
/// The messages are pulled at once, while they are younger than the half minute in which they are dropped one by one.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the data is; each has a run of its own
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,disk")]
    data: Vec<Data>,
    /// In how many groups a user is whose pull finds nothing
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    groups: Vec<usize>,
    /// How many messages a user without groups has missed
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000,10000")]
    messages: Vec<usize>,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One measurement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    data: Data,
    groups: usize,
    messages: usize,
    /// The calls until nothing more was left, and the time of all of them.
    calls: usize,
    ms: f64,
    /// The longest call.
    longest_ms: f64,
}

pub(crate) async fn run(options: &Options, program: Option<&Path>) -> Result<(), Failure> {
    println!("{}", machine());
    println!("{:<8}{:>9}{:>10}{:>7}{:>10}{:>12}", "data", "groups", "messages", "calls", "ms", "longest ms");
    let mut measured = Vec::new();
    for data in &options.data {
        let from = measured.len();
        measure(options, program, *data, &mut measured).await?;
        let of_run = &measured[from..];
        fit("groups", of_run.iter().filter(|one| one.messages == 0).map(|one| (one.groups as f64, one.ms)));
        fit("messages", of_run.iter().filter(|one| one.messages > 0).map(|one| (one.messages as f64, one.ms)));
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&measured)? + "\n")?;
    }
    Ok(())
}

async fn measure(
    options: &Options,
    program: Option<&Path>,
    data: Data,
    measured: &mut Vec<Measured>,
) -> Result<(), Failure> {
    let directory = Directory::new();
    let variables = [NO_LIMIT, ("MAX_GROUPS", "1000")];
    let server = Server::start_with(program, &directory.arguments(data), &variables).await?;
    let http = Client::new();
    let mut next = FIRST;
    for groups in &options.groups {
        let member = next;
        next += 1;
        let making = stream::iter(0..*groups).map(Ok).try_for_each_concurrent(AT_ONCE, async |_| {
            let group = json!({ "name": "load", "managerId": user(member), "usersId": [] });
            answer(http.post(format!("{}/group", server.internal)).json(&group)).await.map(|_| ())
        });
        making.await?;
        let mut times = Vec::new();
        for _ in 0..REPEATS {
            let began = Instant::now();
            pull(&http, &server, member).await?;
            times.push(began.elapsed());
        }
        let times = Times::of(&times);
        let (ms, longest_ms) = (times.at(0.5), times.at(1.0));
        report(measured, Measured { data, groups: *groups, messages: 0, calls: 1, ms, longest_ms });
    }
    for messages in &options.messages {
        let receiver = next;
        next += 1;
        send(&http, &server, receiver, *messages).await?;
        let (mut times, mut found) = (Vec::new(), 0);
        loop {
            let began = Instant::now();
            let (count, has_more) = pull(&http, &server, receiver).await?;
            times.push(began.elapsed());
            found += count;
            if !has_more {
                break;
            }
        }
        if found != *messages {
            return Err(format!("{found} of {messages} missed messages were pulled").into());
        }
        let (calls, ms) = (times.len(), times.iter().map(|time| time.as_secs_f64() * 1e3).sum());
        let longest_ms = Times::of(&times).at(1.0);
        report(measured, Measured { data, groups: 0, messages: *messages, calls, ms, longest_ms });
    }
    Ok(())
}

fn report(measured: &mut Vec<Measured>, one: Measured) {
    progress("");
    println!(
        "{:<8}{:>9}{:>10}{:>7}{:>10.1}{:>12.1}",
        format!("{:?}", one.data).to_lowercase(),
        one.groups,
        one.messages,
        one.calls,
        one.ms,
        one.longest_ms
    );
    measured.push(one);
}

/// A friend sends messages to a user who is away.
async fn send(http: &Client, server: &Server, receiver: usize, messages: usize) -> Result<(), Failure> {
    let friends = format!("{}/relationship/{}/friends/{}", server.internal, user(SENDER), user(receiver));
    answer(http.put(friends)).await?;
    let url = format!("http://{}/api/message?access_token={}", server.public, token(SENDER)?);
    let sending = stream::iter(0..messages).map(Ok).try_for_each_concurrent(AT_ONCE, async |number| {
        let frame = json!({ "type": "unicast", "receiverId": user(receiver), "content": number });
        answer(http.post(&url).json(&frame)).await?;
        if number % 100 == 0 {
            progress(&format!("{number} of {messages} messages sent"));
        }
        Ok(())
    });
    sending.await
}

/// Pulls and drops a page. Returns how many messages it had, and whether there are more.
async fn pull(http: &Client, server: &Server, receiver: usize) -> Result<(usize, bool), Failure> {
    let url = format!("http://{}/api/message?access_token={}", server.public, token(receiver)?);
    let answer = http.get(url).send().await.map_err(reqwest::Error::without_url)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("a pull was answered with {}", answer.status()).into());
    }
    let has_more = answer.headers().get("x-has-more").is_some_and(|value| value == "true");
    let senders: Value = serde_json::from_slice(&answer.bytes().await?)?;
    let messages = senders.as_array().ok_or("a pull has no list")?.iter();
    Ok((messages.map(|sender| sender["messages"].as_array().map_or(0, Vec::len)).sum(), has_more))
}

/// Prints the line that fits best by least squares, and the farthest point.
fn fit(of: &str, points: impl Iterator<Item = (f64, f64)>) {
    let points: Vec<(f64, f64)> = points.collect();
    let (n, (x, y)) = (points.len() as f64, points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1)));
    let (x, y) = (x / n, y / n);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x) * (point.0 - x))
    });
    if below > 0.0 {
        let each = above / below;
        let first = y - each * x;
        let off = points.iter().map(|point| (point.1 - first - each * point.0).abs()).fold(0.0, f64::max);
        println!("{each:.4} ms for each of the {of}, and {first:.1} ms; the farthest point is off by {off:.1} ms");
    }
}
