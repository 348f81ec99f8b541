//! The metrics of the functions, which the local stack serves at `/metrics` of the internal address. Skipped if the
//! suite runs against a deployment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::stack::{Local, with};
use crate::world::device::multicast;
use crate::world::scene::{friends_at, group_of};
use crate::world::{Deployment, within};

/// The metrics by name.
async fn metrics(deployment: &Deployment) -> BTreeMap<String, u64> {
    let answer = reqwest::get(format!("{}/metrics", deployment.internal)).await.expect("the internal address answers");
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.expect("the metrics are text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let value = |line: &str| {
        let (name, value) = line.split_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a whole number"))
    };
    let metrics: BTreeMap<String, u64> = lines.map(value).collect();
    for name in metrics.keys() {
        let name = name.split('{').next().expect("a name");
        assert!(text.contains(&format!("# TYPE {name} ")) && text.contains(&format!("# HELP {name} ")), "{name}");
    }
    metrics
}

/// The number of failed pushes of a deployment.
pub(crate) async fn failed_pushes(deployment: &Deployment) -> u64 {
    metrics(deployment).await["chat_failed_total"]
}

/// Waits until the metrics have these values. The names are without `chat_`.
async fn expect(deployment: &Deployment, expected: &[(&str, u64)]) {
    let said = async {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            let metrics = metrics(deployment).await;
            if expected.iter().all(|(name, count)| metrics[&format!("chat_{name}")] == *count) {
                return;
            }
        }
    };
    within(&format!("the metrics say {expected:?}"), said).await;
}

#[tokio::test]
async fn messages_are_counted_by_outcome() {
    let Some(local) = Local::start(with(&[])).await else { return };
    let at = local.deployment();
    let (alice, bob) = friends_at(at).await;
    let mut sender = alice.connect().await;
    let mut phones = [bob.connect().await, bob.connect().await];
    sender.send(&bob, "to both").await;
    for phone in &mut phones {
        phone.expect_private(&alice, "to both").await;
    }
    expect(at, &[("accepted_total", 1), ("pushed_total", 2), ("missed_total", 0), ("connections", 3)]).await;

    for phone in phones {
        phone.leave().await;
    }
    sender.send(&bob, "missed").await;
    expect(at, &[("accepted_total", 2), ("pushed_total", 2), ("missed_total", 1), ("connections", 1)]).await;

    // The last seconds of the phones' connections may be pulled again.
    let mut pulled = bob.pull_with(&[("drop", "false")]).await.contents();
    expect(at, &[("pulled_total", pulled.len() as u64), ("dropped_total", 0)]).await;
    let mut dropped = 0;
    loop {
        let page = bob.pull().await.contents();
        if page.is_empty() {
            break;
        }
        pulled.extend(page);
        dropped += 1;
    }
    assert_eq!(pulled.iter().filter(|content| *content == "missed").count(), 2, "once shown, once dropped: {pulled:?}");
    expect(at, &[("pulled_total", pulled.len() as u64), ("dropped_total", dropped)]).await;

    sender.send(&local.user("stranger"), "who are you?").await;
    bob.block(&alice).await;
    sender.send(&bob, "hello?").await;
    let elsewhere = group_of(&bob, &[]).await;
    sender.send_text(&multicast(&elsewhere, Some("foreign"), "1")).await;
    sender.expect_ack("foreign").await;
    expect(at, &[("accepted_total", 2), ("withheld_total", 3), ("unavailable_total", 0), ("failed_total", 0)]).await;

    let mut online = bob.connect().await;
    let notice = json!({ "notificationType": "order", "content": 1 });
    bob.back_end().notify(&[("to", bob.id())], &notice).await.ok();
    online.expect_notification(&notice).await;
    expect(at, &[("pushed_total", 3), ("accepted_total", 2)]).await;
    local.stop().await;
}

#[tokio::test]
async fn jobs_of_large_groups_are_counted() {
    let Some(local) = Local::start(with(&[("FANOUT_MEMBERS", "1")])).await else { return };
    let at = local.deployment();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| local.user(name));
    let group = group_of(&alice, &[&bob, &carol]).await;
    carol.block(&alice).await;
    let mut online = bob.connect().await;
    alice.connect().await.send_group(&group, "hi").await;
    online.expect_in_group(&group, &alice, "hi").await;
    let waiting = ("queue_messages{queue=\"FanoutQueue\"}", 0);
    let dead = ("queue_messages{queue=\"FanoutDeadLetters\"}", 0);
    expect(at, &[("fanout_jobs_total", 1), ("accepted_total", 1), ("withheld_total", 1), waiting, dead]).await;
    local.stop().await;
}

#[tokio::test]
async fn web_pages_cannot_read_the_metrics() {
    let Some(local) = Local::start(with(&[])).await else { return };
    let at = local.deployment();
    let client = reqwest::Client::new();
    let foreign = client.get(format!("{}/metrics", at.internal)).header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.expect("it answers").status(), 403);
    let public = client.get(format!("{}/metrics", at.public)).send().await.expect("it answers");
    assert_eq!(public.status(), 404);
    local.stop().await;
}
