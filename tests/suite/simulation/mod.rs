//! A seeded simulation: the real functions over the real engine, through real events and the real SDK, with users who
//! connect, disappear, send, pull, join, leave and block at the same time, on clocks that differ, while calls are slow,
//! refused, done in part or done without an answer, and functions are killed in the middle. Afterwards each user pulls
//! what is left, and the protocol's promises are held against what everybody saw.
//!
//! `SIMULATION_SEEDS=from..to cargo test --package tests simulation -- --nocapture` runs those seeds; a seed that fails
//! is named, and fails again.

mod clients;
mod history;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use shared::config::Config;

use clients::Run;
use world::World;

use crate::world::Deployment;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// How many seeds run where nobody says how many.
const SEEDS: Range<u64> = 0..40;

fn config(secret: &str) -> Config {
    let variables = BTreeMap::from([
        ("TABLE_NAME", world::TABLE),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "simulated"),
        ("AWS_SECRET_ACCESS_KEY", "simulated"),
        ("AWS_ENDPOINT_URL_DYNAMODB", world::DYNAMODB),
        ("MANAGEMENT_ENDPOINT", world::GATEWAY),
        ("JWT_SECRET", secret),
    ]);
    Config::read(|name| variables.get(name).map(|value| (*value).to_owned())).expect("a configuration")
}

fn token(user: &str, secret: &str) -> String {
    let claims = json!({ "sub": user, "exp": 4_000_000_000_u64 });
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON")
}

/// A device: it connects, sends and goes, over and over.
async fn device(run: &Run, group: &str, user: &str, number: usize) {
    for round in 0..4 {
        run.world.pause(8_000).await;
        let Some(connection) = run.connect(user).await else { continue };
        for step in 0..run.world.below(6) {
            run.world.pause(1_500).await;
            if run.world.phase(&connection) != world::Phase::Open {
                break;
            }
            let other = USERS[usize::try_from(run.world.below(4)).expect("a small number")];
            let to = if run.world.in_a_hundred(50) { ("multicast", group) } else { ("unicast", other) };
            if to.1 != user {
                run.send(user, &connection, to, &format!("{user}-{number}-{round}-{step}")).await;
            }
        }
        run.disconnect(user, &connection).await;
    }
}

/// A reader: it pulls now and then.
async fn reader(run: &Run, user: &str) {
    for _ in 0..6 {
        run.world.pause(12_000).await;
        let kind = ["all", "all", "unicast", "multicast"][usize::try_from(run.world.below(4)).expect("a small number")];
        if run.world.is_faulty() || run.world.in_a_hundred(50) {
            run.pull_in_two_steps(user, kind).await;
        } else {
            run.pull(user, kind).await;
        }
    }
}

/// One run of everything: what is wrong with it, and how many calls of the SDK it made.
async fn simulate(seed: u64) -> (Vec<String>, u64) {
    // Half of the runs are without faults, and stricter.
    let faulty = seed % 2 == 1;
    let world = World::new(seed);
    let friends = USERS.iter().flat_map(|one| USERS.iter().map(move |other| (*one, *other)));
    // Alice and dave are none.
    let friends = friends.filter(|(one, other)| one != other && (one, other) != (&"alice", &"dave"));
    let friends = friends.filter(|(one, other)| (one, other) != (&"dave", &"alice"));
    let friends: Vec<(String, String)> = friends.map(|(one, other)| (one.to_owned(), other.to_owned())).collect();
    let run = Run::new(world.clone(), seed, friends.clone());
    for (one, other) in &friends {
        run.relate("PUT", one, "friendId", other).await;
    }
    let group = run.group_of(&["alice", "bob", "carol"]).await;
    if faulty {
        world.set_faults(3);
    }

    let (run, group) = (&run, group.as_str());
    let mut actors: Vec<BoxFuture<'_, ()>> = Vec::new();
    for user in USERS {
        actors.push(Box::pin(device(run, group, user, 0)));
        actors.push(Box::pin(device(run, group, user, 1)));
        actors.push(Box::pin(reader(run, user)));
    }
    actors.push(Box::pin(async {
        run.world.pause(20_000).await;
        run.block_for_a_while("carol", "bob").await;
    }));
    actors.push(Box::pin(async {
        run.world.pause(20_000).await;
        run.leave_for_a_while(group, "alice", "carol").await;
    }));
    join_all(actors).await;

    world.set_faults(0);
    world.close_all();
    // What was done without an answer is over by now, and so is the margin of the logs.
    tokio::time::sleep(Duration::from_secs(120)).await;
    for user in USERS {
        while run.pull(user, "all").await {}
    }
    let contents = |user: &str| -> Vec<String> {
        world.taken_by(user).iter().filter_map(|frame| frame["content"].as_str().map(str::to_owned)).collect()
    };
    let taken = USERS.iter().map(|user| ((*user).to_owned(), contents(user))).collect();
    (run.history.faults(&taken, faulty), world.calls())
}

/// Run one seed by itself, on a runtime whose time is paused.
fn run_seed(seed: u64) -> (Vec<String>, u64) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    // The SDK's jitter.
    fastrand::seed(seed);
    runtime.block_on(simulate(seed))
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SIMULATION_SEEDS") else { return SEEDS };
    let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.unwrap_or_else(|| panic!("SIMULATION_SEEDS is like 0..1000; got {text:?}"))
}

/// Run seeds on all processors, with a line now and then: what went wrong, by seed.
fn run_seeds(seeds: &Range<u64>) -> BTreeMap<u64, Vec<String>> {
    let (next, calls, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            let (faults, made) = run_seed(seed);
            let calls = calls.fetch_add(made, Relaxed) + made;
            let mut failed = failed.lock().expect("nobody panics that holds it");
            if !faults.is_empty() {
                println!("seed {seed} failed");
                failed.insert(seed, faults);
            }
            let done = seed + 1 - seeds.start;
            if done.is_multiple_of(100) {
                println!("{done} of {} seeds, {calls} calls, {} failed", seeds.end - seeds.start, failed.len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    failed.into_inner().expect("nobody panics that holds it")
}

#[test]
fn nothing_is_lost_and_nobody_gets_what_is_not_his() {
    if Deployment::is_elsewhere() {
        return;
    }
    let failed = run_seeds(&seeds());
    let report: Vec<String> =
        failed.iter().map(|(seed, faults)| format!("seed {seed}:\n  {}", faults.join("\n  "))).collect();
    assert!(report.is_empty(), "{} seeds failed\n{}", report.len(), report.join("\n"));
}

#[test]
fn a_seed_is_always_the_same_run() {
    if Deployment::is_elsewhere() {
        return;
    }
    assert_eq!(run_seed(1), run_seed(1));
}
