//! Fuzzing: seeded inputs that no client sends by mistake.
//!
//! A seed gives a hundred inputs to one world, so that later inputs meet the state of earlier ones. They are genuine
//! calls with odd values, and genuine events, frames and tokens that are mutated as text or as JSON. A dictionary has
//! words with a meaning here. No input may cause a panic, a server error, or more calls than a valid input. None may
//! reveal or change what belongs to another user. This generator is its own, not cargo-fuzz or a property-testing
//! crate. It runs whole functions in a state that earlier inputs made, on the stable toolchain, in seconds. The parsers
//! also have property tests beside their code.
//!
//! `FUZZ_SEEDS=from..to cargo test --package tests fuzz -- --nocapture` runs those seeds. A failing seed is printed,
//! and always fails again.

mod mutate;
mod parsers;
pub(crate) mod strangers;
mod trusted;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use functions::{Failure, Function, Trigger};
use futures::FutureExt;
use serde_json::Value;

use crate::inside::Inside;
use crate::world::Deployment;

/// The seeds that run by default.
const SEEDS: Range<u64> = 0..60;

/// Any other range of this many seeds reaches every function.
const SEEDS_TO_REACH_ALL: u64 = 100;

/// The longest time for one input: a hundred times the usual.
const MAX_TIME: Duration = Duration::from_secs(5);

/// The number of inputs of a seed.
const INPUTS: usize = 100;

/// The most SDK calls for one input.
const MAX_CALLS: usize = 100;

/// The longest result, in bytes: Lambda's limit.
const MAX_RESULT_BYTES: usize = 6 * 1024 * 1024;

/// How often each function or parser gave each outcome.
type Tally = BTreeMap<(&'static str, String), u64>;

/// The result of one seed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    tally: Tally,
    faults: Vec<String>,
}

impl Findings {
    fn count(&mut self, what: &'static str, outcome: impl Into<String>) {
        *self.tally.entry((what, outcome.into())).or_default() += 1;
    }

    fn fault(&mut self, what: &str, input: &str, why: &str) {
        let shown: String = input.chars().take(3_000).collect();
        self.faults.push(format!("{what}: {why}\n    {shown}"));
    }

    /// Invokes a function and checks what must hold for any input. Returns the result, if there is one.
    async fn invoke(&mut self, inside: &Inside, function: &'static Function, event: &str) -> Option<Value> {
        inside.take_calls();
        let began = Instant::now();
        let Ok(outcome) = AssertUnwindSafe(inside.invoke(function, event)).catch_unwind().await else {
            self.fault(function.name, event, "it panicked");
            return None;
        };
        if began.elapsed() > MAX_TIME {
            self.fault(function.name, event, &format!("it took {} s", began.elapsed().as_secs()));
        }
        let calls = inside.take_calls().len();
        if calls > MAX_CALLS {
            self.fault(function.name, event, &format!("{calls} calls for one input"));
        }
        match outcome {
            Ok(result) if result.len() > MAX_RESULT_BYTES => {
                self.fault(function.name, event, &format!("a result of {} bytes", result.len()));
                None
            }
            Ok(result) => {
                let result = serde_json::from_str(&result);
                self.answered(function, event, result.unwrap_or_default())
            }
            Err(failure) => {
                self.failed(function, event, &failure);
                None
            }
        }
    }

    /// Checks that an HTTP answer is not a server error, and that a refusal says why.
    fn answered(&mut self, function: &'static Function, event: &str, result: Value) -> Option<Value> {
        let Some(status) = result["statusCode"].as_u64() else {
            // The result of a direct invocation or of the authorizer.
            self.count(function.name, "answered");
            return Some(result);
        };
        self.count(function.name, status.to_string());
        let is_socket = matches!(function.trigger, Trigger::Socket(_));
        let problem: Value = serde_json::from_str(result["body"].as_str().unwrap_or_default()).unwrap_or_default();
        if status >= 500 {
            self.fault(function.name, event, &format!("it answered {status}: {problem}"));
        } else if status >= 400 && !is_socket && problem["status"] != status {
            self.fault(function.name, event, &format!("{status} with the body {}", result["body"]));
        }
        Some(result)
    }

    /// Checks that a failed invocation is the fault of the caller or of the event.
    fn failed(&mut self, function: &'static Function, event: &str, failure: &Failure) {
        self.count(function.name, &failure.error_type);
        let blames = [
            "MalformedEvent",
            "Unauthorized",
            "BadRequest",
            "Forbidden",
            "NotFound",
            "Conflict",
            "MethodNotAllowed",
            "ContentTooLarge",
        ];
        if !blames.contains(&failure.error_type.as_str()) {
            self.fault(function.name, event, &format!("it failed with {failure:?}"));
        }
    }

    fn add(&mut self, seed: u64, found: Self) {
        for (key, times) in found.tally {
            *self.tally.entry(key).or_default() += times;
        }
        self.faults.extend(found.faults.into_iter().map(|fault| format!("seed {seed}: {fault}")));
    }
}

/// Runs one seed alone, on a runtime whose time is paused.
fn run_seed(seed: u64) -> Findings {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        match seed % 4 {
            0 => parsers::fuzz(seed).await,
            1 => trusted::fuzz(seed).await,
            _ => strangers::fuzz(seed).await,
        }
    })
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("FUZZ_SEEDS") else { return SEEDS };
    let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.unwrap_or_else(|| panic!("FUZZ_SEEDS is like 0..1000; got {text:?}"))
}

/// Runs seeds on all processors and prints progress.
fn run_seeds(seeds: &Range<u64>) -> Findings {
    let (next, done, all) = (AtomicU64::new(seeds.start), AtomicU64::new(0), Mutex::new(Findings::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            let found = run_seed(seed);
            let mut all = all.lock().expect("no holder of the lock panics");
            all.add(seed, found);
            let done = done.fetch_add(1, Relaxed) + 1;
            if done.is_multiple_of(100) {
                let inputs: u64 = all.tally.values().sum();
                println!("{done} of {} seeds, {inputs} inputs, {} faults", seeds.end - seeds.start, all.faults.len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    all.into_inner().expect("no holder of the lock panics")
}

#[test]
fn no_input_breaks_an_invariant() {
    if Deployment::is_elsewhere() {
        return;
    }
    let seeds = seeds();
    let found = run_seeds(&seeds);
    for ((what, outcome), times) in &found.tally {
        println!("{what}: {outcome}, {times} times");
    }
    assert!(found.faults.is_empty(), "{} faults\n{}", found.faults.len(), found.faults.join("\n"));
    if seeds == SEEDS || seeds.end - seeds.start >= SEEDS_TO_REACH_ALL {
        assert_all_reached(&found.tally);
    }
}

/// Asserts that inputs reach every function: some succeed and some do not.
fn assert_all_reached(tally: &Tally) {
    for function in functions::ALL {
        let outcomes: Vec<&str> =
            tally.keys().filter(|(name, _)| *name == function.name).map(|(_, outcome)| outcome.as_str()).collect();
        let is_good = |outcome: &&str| ["200", "202", "answered"].contains(outcome);
        assert!(outcomes.iter().any(is_good) && !outcomes.iter().all(is_good), "{}: {outcomes:?}", function.name);
    }
}

#[test]
fn a_seed_always_gives_the_same_inputs() {
    if Deployment::is_elsewhere() {
        return;
    }
    for seed in 0..3 {
        assert_eq!(run_seed(seed), run_seed(seed));
    }
}
