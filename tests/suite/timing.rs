//! Can a sender tell from the time of an `ACK` whether they are blocked? Can a caller tell from the time of a 403 what
//! exists? These tests measure that and fail if the answer is yes. They need a machine that does nothing else, so CI
//! runs them alone. They run against any deployment.
//!
//! `cargo test -p tests timing -- --ignored --nocapture --test-threads 1`. `TIMING_PAIRS` sets the number of pairs, 400
//! by default.
//!
//! The sender writes to two users who differ only in that one of them blocks the sender. The order is random, and one
//! message is sent at a time. The caller asks for foreign and absent things in the same way. Each test prints the
//! medians. It prints how often the second kind is slower (0.5: nothing can be told), with the z of the rank sum. It
//! also prints how often a threshold is right in one half of the pairs, if it is the best in the other half. Intervals
//! are of 95 %.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::faults::narrow;
use crate::world::scene::{friends, group_of};
use crate::world::{Device, User};

/// The receiver of a message.
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

/// The largest difference from 0.5 of how often the second kind is slower. For 400 pairs, this is ten times the
/// standard error.
const MAX_BIAS: f64 = 0.2;

fn pairs() -> usize {
    std::env::var("TIMING_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(400)
}

fn in_random_order() -> [usize; 2] {
    if rand::random() { [0, 1] } else { [1, 0] }
}

/// The times of messages to both receivers, in microseconds, in the order of sending.
async fn times(alice: &mut Device, to: [To<'_>; 2], bob: Option<&mut Device>, content: &str) -> [Vec<f64>; 2] {
    let bob = bob.map(std::slice::from_mut).unwrap_or_default();
    times_of(pairs(), alice, to, bob, content).await
}

/// The same for `pairs` pairs. The first receiver reads on these sockets.
async fn times_of(
    pairs: usize,
    alice: &mut Device,
    to: [To<'_>; 2],
    bob: &mut [Device],
    content: &str,
) -> [Vec<f64>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..pairs {
        for which in in_random_order() {
            times[which].push(time(alice, &to[which], content).await.as_secs_f64() * 1e6);
        }
        for bob in &mut *bob {
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

/// How often a value of `b` is above a value of `a`, and the z of the rank sum.
fn rank_sum(a: &[f64], b: &[f64]) -> (f64, f64) {
    let mut sorted = a.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let below = |value: f64| sorted.partition_point(|other| other.total_cmp(&value).is_lt());
    let (n, m) = (count(a.len()), count(b.len()));
    let u: f64 = b.iter().map(|value| count(below(*value))).sum();
    (u / (n * m), (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt())
}

/// How often a threshold is right in the second halves, if it is the best in the first halves.
fn classified(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.split_at(a.len() / 2), b.split_at(b.len() / 2));
    let right = |threshold: f64, a: &[f64], b: &[f64]| {
        let right = a.iter().filter(|value| **value <= threshold).count();
        count(right + b.iter().filter(|value| **value > threshold).count()) / count(a.len() + b.len())
    };
    // The direction is learned too: withheld messages may be slower or faster.
    let learned = a.0.iter().chain(b.0).map(|threshold| (right(*threshold, a.0, b.0), *threshold));
    let (_, threshold) = learned.max_by(|x, y| (x.0 - 0.5).abs().total_cmp(&(y.0 - 0.5).abs())).expect("some times");
    let right_now = right(threshold, a.1, b.1);
    if right(threshold, a.0, b.0) < 0.5 { 1.0 - right_now } else { right_now }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).expect("a measurement is short"))
}

/// Prints the measurement, and fails if the two kinds can be told apart.
fn judge(what: &str, [one, other]: [&str; 2], [ones, others]: &[Vec<f64>; 2]) {
    let (slower, z) = rank_sum(ones, others);
    let right = classified(ones, others);
    let half_width = 1.96 * (right * (1.0 - right) / count(ones.len())).sqrt();
    let summary = format!(
        "{what}: {} pairs; {one} {:.0} us, {other} {:.0} us; {other} is slower in {slower:.3}, z = {z:.1}; a threshold \
         is right in {right:.3} ± {half_width:.3}",
        ones.len(),
        median(ones),
        median(others),
    );
    println!("{summary}");
    assert!((slower - 0.5).abs() < MAX_BIAS, "{summary}");
}

const OUTCOMES: [&str; 2] = ["delivered", "withheld"];

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
        judge(&format!("private, {length}, receiver away"), OUTCOMES, &times);
    }
    let (mut bob_online, _carl_online) = (bob.connect().await, carl.connect().await);
    for (length, content) in [("short", "hello"), ("16 KiB", long.as_str())] {
        let times = times(&mut alice, [To::User(&bob), To::User(&carl)], Some(&mut bob_online), content).await;
        judge(&format!("private, {length}, receiver online"), OUTCOMES, &times);
    }
    let groups = [To::Group(&pair), To::Group(&blocked_pair)];
    judge("group of two, receiver online", OUTCOMES, &times(&mut alice, groups, Some(&mut bob_online), "hello").await);
}

/// Fewer pairs, because each answer waits for a coarse tick.
const PAIRS_OF_SOCKETS: usize = 100;

#[tokio::test]
#[ignore = "a measurement, see above"]
async fn the_time_of_an_ack_by_sockets_and_lengths() {
    let (short, long) = ("x".repeat(10), "x".repeat(31 * 1024));
    for sockets in [1, 8, 32] {
        let (alice, bob) = friends().await;
        let carl = User::new("carl");
        alice.befriend(&carl).await;
        carl.block(&alice).await;
        let (mut of_bob, mut of_carl) = (Vec::new(), Vec::new());
        for _ in 0..sockets {
            of_bob.push(bob.connect().await);
            of_carl.push(carl.connect().await);
        }
        let mut alice = alice.connect().await;
        for content in [&short, &long] {
            let to = [To::User(&bob), To::User(&carl)];
            let times = times_of(PAIRS_OF_SOCKETS, &mut alice, to, &mut of_bob, content).await;
            judge(&format!("private, {} bytes, {sockets} sockets", content.len()), OUTCOMES, &times);
        }
    }
}

/// A friend of both receivers fills the buffers of a socket that neither receiver reads.
#[tokio::test]
#[ignore = "a measurement, see above"]
async fn the_time_of_an_ack_to_a_filled_socket() {
    let (alice, bob) = friends().await;
    let (carl, accomplice) = (User::new("carl"), User::new("accomplice"));
    alice.befriend(&carl).await;
    carl.block(&alice).await;
    let mut sockets = Vec::new();
    for user in [&bob, &carl] {
        accomplice.befriend(user).await;
        sockets.push(narrow(user).await);
        let mut filling = accomplice.connect().await;
        for _ in 0..60 {
            filling.send(user, "x".repeat(31 * 1024)).await;
        }
    }
    let mut alice = alice.connect().await;
    for content in ["x".repeat(10), "x".repeat(31 * 1024)] {
        let to = [To::User(&bob), To::User(&carl)];
        let times = times_of(PAIRS_OF_SOCKETS, &mut alice, to, &mut [], &content).await;
        judge(&format!("private, {} bytes, a socket that is not read", content.len()), OUTCOMES, &times);
    }
}

#[tokio::test]
#[ignore = "a measurement, see above"]
async fn the_time_of_a_403() {
    let (alice, bob, mallory) = (User::new("alice"), User::new("bob"), User::new("mallory"));
    let foreign = group_of(&alice, &[]).await;
    alice.invite(&bob, &foreign).await.empty();
    let invitation = bob.invitation().await.id;
    let groups = [foreign.as_str(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"];
    let invitations = [invitation.as_str(), "9f2b6a34-6f0e-5d55-8d3c-0d2a51b1f7aa"];
    for (what, method, path, ids) in [
        ("show a group", Method::GET, "/api/group/", groups),
        ("rename a group", Method::PUT, "/api/group/", groups),
        ("leave a group", Method::DELETE, "/api/group/", groups),
        ("invite to a group", Method::POST, "/api/request", groups),
        ("accept an invitation", Method::PUT, "/api/request/", invitations),
        ("decline an invitation", Method::DELETE, "/api/request/", invitations),
    ] {
        let ask = |id: &str| match what {
            "invite to a group" => {
                mallory.call(method.clone(), path).json(&json!({ "groupId": id, "userId": bob.id() }))
            }
            "rename a group" => mallory.call(method.clone(), &format!("{path}{id}")).param("name", "x"),
            _ => mallory.call(method.clone(), &format!("{path}{id}")),
        };
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..pairs() {
            for which in in_random_order() {
                let (call, began) = (ask(ids[which]), Instant::now());
                let answer = call.send().await;
                times[which].push(began.elapsed().as_secs_f64() * 1e6);
                answer.refused(403, "");
            }
        }
        judge(what, ["foreign", "absent"], &times);
    }
}

#[test]
fn the_statistics_detect_a_difference() {
    let values = |from: u32| -> Vec<f64> { (0..200).map(|n| f64::from(from + n * 7 % 200)).collect() };
    let (slower, z) = rank_sum(&values(0), &values(0));
    assert!((slower - 0.5).abs() < 0.01 && z.abs() < 0.2, "{slower} {z}");
    let (slower, z) = rank_sum(&values(0), &values(1_000));
    assert!((slower - 1.0).abs() < 1e-9 && z > 15.0, "{slower} {z}");
    assert!((classified(&values(0), &values(1_000)) - 1.0).abs() < 1e-9);
    assert!((classified(&values(1_000), &values(0)) - 1.0).abs() < 0.02);
    assert!((classified(&values(0), &values(0)) - 0.5).abs() < 0.1);
}
