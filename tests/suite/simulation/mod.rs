//! A seeded simulation. The real functions run over the real engine, through real events and the real SDK. Users
//! connect, disappear, send, recall, pull, read conversations, join, leave, dissolve, befriend and block at the same time.
//! Their clocks differ, and reads that may lag behind the writes do.
//! Calls are slow, refused, done in part or done without an answer, and functions are killed halfway. In half of the
//! runs, group messages go through the queue, whose jobs come late, repeatedly and in any order. At the end, each user
//! pulls what is left. The protocol's promises are then checked against what each user saw.
//!
//! `SIMULATION_SEEDS=from..to cargo test --package tests simulation -- --nocapture` runs those seeds.
//! `SIMULATION_SECONDS` stops it earlier. A failing seed is reduced to a smaller plan that still fails. The same seed
//! always fails again.

mod callers;
mod clients;
mod conversations;
mod history;
mod plan;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use shared::config::Config;

use clients::Run;
use history::{Conditions, Fault};
use plan::{Plan, User};
use world::{Places, World};

use crate::world::Deployment;

/// The seeds that run by default.
const SEEDS: Range<u64> = 0..300;

/// Calls of one kind by one function before chance must have killed the function there.
const CALLS_TO_KILL_AT: u64 = 2_000;

/// How many smaller plans are tried for a failing one.
const MAX_SMALLER: usize = 500;

/// The most pulls until a user has everything. Each pull returns something or makes progress.
const MAX_ROUNDS: usize = 400;

/// How many failing seeds are reduced.
const MAX_CUT_DOWN: usize = 3;

pub(crate) fn config(secret: &str) -> Config {
    config_with(secret, &[])
}

/// The same configuration with additional or replaced variables.
pub(crate) fn config_with(secret: &str, more: &[(&str, &str)]) -> Config {
    let mut variables = BTreeMap::from([
        ("TABLE_NAME", world::TABLE),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "simulated"),
        ("AWS_SECRET_ACCESS_KEY", "simulated"),
        ("AWS_ENDPOINT_URL_DYNAMODB", world::DYNAMODB),
        ("AWS_ENDPOINT_URL_SQS", world::SQS),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", world::EVENTS),
        ("MANAGEMENT_ENDPOINT", world::GATEWAY),
        ("JWT_SECRET", secret),
        // A call that is counted by chance would make one more write. Tests of the limit set it.
        ("MESSAGES_PER_MINUTE", "0"),
        // A small page, so that there are many pages.
        ("MAX_PAGE_MESSAGES", "3"),
    ]);
    variables.extend(more.iter().copied());
    Config::read(|name| variables.get(name).map(|value| (*value).to_owned())).expect("a configuration")
}

pub(crate) fn token(user: &str, secret: &str) -> String {
    let claims = json!({ "sub": user, "exp": 4_000_000_000_u64 });
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON")
}

/// The result of one run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The broken promises.
    faults: Vec<Fault>,
    /// A hash of the sequence of calls.
    fingerprint: u64,
    tally: Tally,
}

/// The totals of several runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// The number of runs.
    seeds: u64,
    /// The number of SDK calls.
    calls: u64,
    /// The number of pairs of message and user, by whether the message is owed to the user: never, perhaps, surely.
    owed: [u64; 3],
    /// Where functions called the SDK and were killed.
    places: Places,
}

impl Tally {
    fn add(&mut self, one: &Self) {
        self.seeds += one.seeds;
        self.calls += one.calls;
        for (sum, number) in self.owed.iter_mut().zip(one.owed) {
            *sum += number;
        }
        for (place, (calls, kills)) in &one.places {
            let sum = self.places.entry(place.clone()).or_default();
            *sum = (sum.0 + calls, sum.1 + kills);
        }
    }
}

/// Runs one plan.
async fn simulate(plan: Plan) -> Outcome {
    let world = World::new(plan.latency);
    if plan.faulty {
        world.set_faults(3);
    }
    let run = World::with_chance(plan.seed, Run::begin(world.clone(), plan)).await;
    run.run_jobs(join_all(run.plan().tracks.iter().map(|track| run.follow(track)))).await;

    world.set_faults(0);
    world.close_all();
    // By now, calls that took effect without an answer are over, and so is the margin of the logs.
    tokio::time::sleep(Duration::from_secs(120)).await;
    run.check_limits();
    World::with_chance(run.plan().seed, finish(&run)).await;
    let users = run.plan().users.clone();
    let Plan { faulty, crowded, discards, .. } = *run.plan();
    for user in &users {
        run.history.note(|notes| notes.taken.insert(user, world.taken_by(user)));
    }
    let (faults, owed) = run.history.note(std::mem::take).judge(&users, Conditions { faulty, crowded, discards });
    let tally = Tally { seeds: 1, calls: world.calls(), owed, places: world.places() };
    Outcome { faults, fingerprint: world.fingerprint(), tally }
}

/// Each user pulls what is left. In every other run, they block somebody during the first pull, which must lose nothing.
async fn finish(run: &Run) {
    let users: Vec<User> = run.plan().users.clone();
    let others = users.iter().cycle().skip(1).copied();
    for (user, other) in users.iter().copied().zip(others) {
        if run.plan().seed.is_multiple_of(2) && user != other {
            run.take_during_a_block(user, other).await;
        }
        for round in 0.. {
            if !run.take(user, "all").await {
                break;
            }
            if round > MAX_ROUNDS {
                run.wrong("pulls end", user.to_owned());
                break;
            }
        }
        run.resume(user, "0".repeat(26), true).await;
        run.check_conversations(user).await;
    }
    run.check_groups().await;
}

/// Runs one plan alone, on a runtime whose time is paused.
fn run_plan(plan: Plan) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    // The SDK's jitter.
    fastrand::seed(plan.seed);
    runtime.block_on(simulate(plan))
}

/// Returns a smaller plan that breaks one of the same promises, and the promises that it breaks.
fn cut_down(mut plan: Plan, mut faults: Vec<Fault>) -> (Plan, Vec<Fault>) {
    let promises: BTreeSet<&str> = faults.iter().map(|fault| fault.promise).collect();
    let mut tried = 0;
    'smaller: loop {
        for smaller in plan.smaller() {
            tried += 1;
            if tried > MAX_SMALLER {
                return (plan, faults);
            }
            let broken = run_plan(smaller.clone()).faults;
            if broken.iter().any(|fault| promises.contains(fault.promise)) {
                (plan, faults) = (smaller, broken);
                continue 'smaller;
            }
        }
        return (plan, faults);
    }
}

fn variable<T>(name: &str, like: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(parse(&text).unwrap_or_else(|| panic!("{name} is like {like}; got {text:?}")))
}

fn seeds() -> Range<u64> {
    let range = |text: &str| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    };
    variable("SIMULATION_SEEDS", "0..1000", range).unwrap_or(SEEDS)
}

/// Runs seeds on all processors and prints progress. Returns the faults by seed, and the totals.
fn run_seeds(seeds: &Range<u64>) -> (BTreeMap<u64, Vec<Fault>>, Tally) {
    let seconds = variable("SIMULATION_SECONDS", "180", |text| text.parse().ok());
    let patience = seconds.map_or(Duration::MAX, Duration::from_secs);
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new((BTreeMap::new(), Tally::default())));
    let (began, printed) = (Instant::now(), AtomicU64::new(0));
    let tell = |failed: usize, all: &Tally| {
        let (done, of, took) = (all.seeds, seeds.end - seeds.start, began.elapsed().as_secs());
        let (calls, [not, perhaps, surely]) = (all.calls, all.owed);
        println!(
            "{done} of {of} seeds, {calls} calls, {surely} messages owed, {perhaps} perhaps, {not} not, {failed} failed, \
             {took} s"
        );
    };
    let work = || {
        while began.elapsed() < patience {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            let one = run_plan(Plan::drawn(seed));
            let mut both = all.lock().expect("no holder of the lock panics");
            let (failed, all) = &mut *both;
            all.add(&one.tally);
            if !one.faults.is_empty() {
                println!("seed {seed} failed: {}", one.faults[0].promise);
                failed.insert(seed, one.faults);
            }
            let tens = began.elapsed().as_secs() / 10;
            if printed.fetch_max(tens, Relaxed) < tens {
                tell(failed.len(), all);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    let (failed, all) = all.into_inner().expect("no holder of the lock panics");
    tell(failed.len(), &all);
    (failed, all)
}

#[test]
fn nothing_is_lost_or_misdelivered() {
    if Deployment::is_elsewhere() {
        return;
    }
    let (failed, all) = run_seeds(&seeds());
    let mut report = String::new();
    for (number, (seed, faults)) in failed.iter().enumerate() {
        let (plan, faults) = match number < MAX_CUT_DOWN {
            true => cut_down(Plan::drawn(*seed), faults.clone()),
            false => (Plan::drawn(*seed), faults.clone()),
        };
        report.push_str(&format!("\nseed {seed}"));
        for fault in faults {
            report.push_str(&format!("\n  {fault}"));
        }
        if number < MAX_CUT_DOWN {
            report.push_str(&format!("\n{plan}"));
        }
    }
    assert!(failed.is_empty(), "{} seeds failed{report}", failed.len());
    let never_killed: Vec<_> = all.places.iter().filter(|(_, (_, kills))| *kills == 0).collect();
    println!(
        "functions were killed at {} of {} kinds of calls",
        all.places.len() - never_killed.len(),
        all.places.len()
    );
    let is_luck = never_killed.iter().all(|(_, (calls, _))| *calls < CALLS_TO_KILL_AT);
    assert!(is_luck, "functions were never killed at {never_killed:?}");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    if Deployment::is_elsewhere() {
        return;
    }
    for seed in 0..4 {
        assert_eq!(run_plan(Plan::drawn(seed)), run_plan(Plan::drawn(seed)));
    }
}
