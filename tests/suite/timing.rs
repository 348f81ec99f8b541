//! Can a sender tell by the time of an `ACK` whether he is blocked? A measurement and no test: it has no opinion on its
//! result, takes its time, and wants a machine that does nothing else. It runs against any deployment.
//!
//! `cargo test --release -p tests timing -- --ignored --nocapture`; `TIMING_PAIRS` says how many pairs, 2,000 by default.
//!
//! The sender writes to two users who differ in nothing but that one of them blocks him, in random order, one message at
//! a time. Told are the medians; how often a withheld message is the slower one of two (0.5: nothing can be told), with
//! the z of the rank sum; and how many messages the best threshold, learned from one half of them, puts right in the
//! other half. Intervals are of 95 %.

use std::time::{Duration, Instant};

use crate::world::scene::{friends, group_of};
use crate::world::{Device, User};

/// Where the one and the other message go.
enum To<'a> {
    User(&'a User),
    Group(&'a str),
}

async fn time(alice: &mut Device, to: &To<'_>, content: &str) -> Duration {
    let began = Instant::now();
    match to {
        To::User(user) => alice.send(user, content).await,
        To::Group(group) => alice.send_group(group, content).await,
    };
    began.elapsed()
}

/// Times of messages to the one and to the other, in microseconds, in the order in which they were sent.
async fn times(alice: &mut Device, to: [To<'_>; 2], bob: Option<&mut Device>, content: &str) -> [Vec<f64>; 2] {
    let pairs = std::env::var("TIMING_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(2_000);
    let (mut times, mut bob) = ([Vec::new(), Vec::new()], bob);
    for _ in 0..pairs {
        let first = usize::from(rand::random::<bool>());
        for which in [first, 1 - first] {
            times[which].push(time(alice, &to[which], content).await.as_secs_f64() * 1e6);
        }
        if let Some(bob) = &mut bob {
            bob.next("what was delivered").await;
        }
    }
    times
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How often a value of `b` is above one of `a`, and the z of the rank sum.
fn rank_sum(a: &[f64], b: &[f64]) -> (f64, f64) {
    let mut sorted = a.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let below = |value: f64| sorted.partition_point(|other| other.total_cmp(&value).is_lt());
    let (n, m) = (count(a.len()), count(b.len()));
    let u: f64 = b.iter().map(|value| count(below(*value))).sum();
    (u / (n * m), (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt())
}

/// The part that a threshold puts right in one half, if it is the best in the other.
fn classified(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.split_at(a.len() / 2), b.split_at(b.len() / 2));
    let right = |threshold: f64, a: &[f64], b: &[f64]| {
        let right = a.iter().filter(|value| **value <= threshold).count();
        count(right + b.iter().filter(|value| **value > threshold).count()) / count(a.len() + b.len())
    };
    // Whether what is withheld is slower or sooner is learned too.
    let learned = a.0.iter().chain(b.0).map(|threshold| (right(*threshold, a.0, b.0), *threshold));
    let (_, threshold) = learned.max_by(|x, y| (x.0 - 0.5).abs().total_cmp(&(y.0 - 0.5).abs())).expect("some times");
    let right_now = right(threshold, a.1, b.1);
    if right(threshold, a.0, b.0) < 0.5 { 1.0 - right_now } else { right_now }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).expect("a measurement is not that long"))
}

fn report(what: &str, [delivered, withheld]: &[Vec<f64>; 2]) {
    let (slower, z) = rank_sum(delivered, withheld);
    let right = classified(delivered, withheld);
    let half_width = 1.96 * (right * (1.0 - right) / count(delivered.len())).sqrt();
    println!(
        "{what}: {} pairs; delivered {:.0} us, withheld {:.0} us; withheld is slower in {slower:.3}, z = {z:.1}; a \
         threshold is right in {right:.3} ± {half_width:.3}",
        delivered.len(),
        median(delivered),
        median(withheld),
    );
}

#[tokio::test]
#[ignore = "a measurement, see above"]
async fn the_time_of_an_ack() {
    let (alice, bob) = friends().await;
    let carl = User::new("carl");
    alice.befriend(&carl).await;
    let pair = group_of(&alice, &[&bob]).await;
    let blocked_pair = group_of(&alice, &[&carl]).await;
    carl.block(&alice).await;
    let mut alice = alice.connect().await;
    let long = "x".repeat(16 * 1024);

    for (length, content) in [("short", "hello"), ("16 KiB", long.as_str())] {
        let times = times(&mut alice, [To::User(&bob), To::User(&carl)], None, content).await;
        report(&format!("private, {length}, receiver away"), &times);
    }
    let (mut bob_online, _carl_online) = (bob.connect().await, carl.connect().await);
    for (length, content) in [("short", "hello"), ("16 KiB", long.as_str())] {
        let times = times(&mut alice, [To::User(&bob), To::User(&carl)], Some(&mut bob_online), content).await;
        report(&format!("private, {length}, receiver online"), &times);
    }
    let groups = [To::Group(&pair), To::Group(&blocked_pair)];
    report("group of two, receiver online", &times(&mut alice, groups, Some(&mut bob_online), "hello").await);
}

#[test]
fn what_differs_is_told_from_what_does_not() {
    let values = |from: u32| -> Vec<f64> { (0..200).map(|n| f64::from(from + n * 7 % 200)).collect() };
    let (slower, z) = rank_sum(&values(0), &values(0));
    assert!((slower - 0.5).abs() < 0.01 && z.abs() < 0.2, "{slower} {z}");
    let (slower, z) = rank_sum(&values(0), &values(1_000));
    assert!((slower - 1.0).abs() < 1e-9 && z > 15.0, "{slower} {z}");
    assert!((classified(&values(0), &values(1_000)) - 1.0).abs() < 1e-9);
    assert!((classified(&values(1_000), &values(0)) - 1.0).abs() < 0.02);
    assert!((classified(&values(0), &values(0)) - 0.5).abs() < 0.1);
}
