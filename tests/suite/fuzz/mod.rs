//! Fuzzing: inputs that nobody sends by mistake, from a seed.
//!
//! A seed is a hundred inputs to one world, so that later ones meet what earlier ones left behind. They are genuine
//! calls with odd values, or genuine events, frames and tokens that are spoilt as text or as JSON, with a dictionary of
//! what means something here. The promise: no panic, no answer that blames the server, no more calls than a good input
//! makes, nothing of what is somebody else's told or changed. This generates by itself rather than through cargo-fuzz or
//! a property-testing crate since whole functions are to be met in a state that earlier inputs made, on the stable
//! toolchain, in seconds; the parsers are property-tested beside their code as well.
//!
//! `FUZZ_SEEDS=from..to cargo test --package tests fuzz -- --nocapture` runs those seeds; a seed that fails is named,
//! and fails again.

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

use functions::{Failure, Function};
use futures::FutureExt;
use serde_json::Value;

use crate::inside::Inside;
use crate::world::Deployment;

/// How many seeds run where nobody says how many.
const SEEDS: Range<u64> = 0..24;

/// So many others get through to every function, whatever they are.
const SEEDS_TO_GET_THROUGH: u64 = 100;

/// How long one input may take: a hundred times what any does.
const MAX_TIME: Duration = Duration::from_secs(5);

/// The inputs of a seed.
const INPUTS: usize = 100;

/// The most calls of the SDK for one input.
const MAX_CALLS: usize = 100;

/// The longest result, in bytes: Lambda's limit.
const MAX_RESULT_BYTES: usize = 6 * 1024 * 1024;

/// What came of the inputs: how often each function, or parser, answered what.
type Tally = BTreeMap<(&'static str, String), u64>;

/// What one seed found.
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

    /// Invoke a function, and hold against it what holds for any input. The result, if there is one.
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

    /// An answer of HTTP does not blame the server, and a refusal says why.
    fn answered(&mut self, function: &'static Function, event: &str, result: Value) -> Option<Value> {
        let Some(status) = result["statusCode"].as_u64() else {
            // Of a direct invocation, or the authorizer.
            self.count(function.name, "answered");
            return Some(result);
        };
        self.count(function.name, status.to_string());
        let is_socket = ["connect", "disconnect", "message"].contains(&function.name);
        let problem: Value = serde_json::from_str(result["body"].as_str().unwrap_or_default()).unwrap_or_default();
        if status >= 500 {
            self.fault(function.name, event, &format!("it answered {status}: {problem}"));
        } else if status >= 400 && !is_socket && problem["status"] != status {
            self.fault(function.name, event, &format!("{status} with the body {}", result["body"]));
        }
        Some(result)
    }

    /// A failed invocation blames the caller, or the event.
    fn failed(&mut self, function: &'static Function, event: &str, failure: &Failure) {
        self.count(function.name, &failure.error_type);
        let blames =
            ["MalformedEvent", "Unauthorized", "BadRequest", "Forbidden", "MethodNotAllowed", "ContentTooLarge"];
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

/// Run one seed by itself, on a runtime whose time is paused.
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

/// Run seeds on all processors, with a line now and then.
fn run_seeds(seeds: &Range<u64>) -> Findings {
    let (next, done, all) = (AtomicU64::new(seeds.start), AtomicU64::new(0), Mutex::new(Findings::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            let found = run_seed(seed);
            let mut all = all.lock().expect("nobody panics that holds it");
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
    all.into_inner().expect("nobody panics that holds it")
}

#[test]
fn no_input_breaks_a_promise() {
    if Deployment::is_elsewhere() {
        return;
    }
    let seeds = seeds();
    let found = run_seeds(&seeds);
    for ((what, outcome), times) in &found.tally {
        println!("{what}: {outcome}, {times} times");
    }
    assert!(found.faults.is_empty(), "{} faults\n{}", found.faults.len(), found.faults.join("\n"));
    if seeds == SEEDS || seeds.end - seeds.start >= SEEDS_TO_GET_THROUGH {
        assert_gets_through(&found.tally);
    }
}

/// The inputs get through to every function: some are taken and some are not.
fn assert_gets_through(tally: &Tally) {
    for function in functions::ALL {
        let outcomes: Vec<&str> =
            tally.keys().filter(|(name, _)| *name == function.name).map(|(_, outcome)| outcome.as_str()).collect();
        let is_good = |outcome: &&str| ["200", "answered"].contains(outcome);
        assert!(outcomes.iter().any(is_good) && !outcomes.iter().all(is_good), "{}: {outcomes:?}", function.name);
    }
}

#[test]
fn a_seed_is_always_the_same_inputs() {
    if Deployment::is_elsewhere() {
        return;
    }
    for seed in 0..3 {
        assert_eq!(run_seed(seed), run_seed(seed));
    }
}
