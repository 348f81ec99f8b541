//! Notifications to a group that is too large for one function, job by job. The functions run in this process, and the
//! test runs the jobs of the queue.

use std::time::Duration;

use functions::{fanout, notification};
use serde_json::{Value, json};

use crate::inside::Inside;
use crate::jobs::{QUEUED, event};
use crate::world::Deployment;

const OTHERS: [&str; 5] = ["bob", "carol", "dave", "erin", "frank"];

/// A group of alice and five other members. Each is in a shard of its own, and all are online.
struct Scene {
    inside: Inside,
    group: String,
    /// The connection of each user.
    connections: Vec<(&'static str, String)>,
}

impl Scene {
    async fn new() -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let inside = Inside::with(1, &[&QUEUED[..], &[("ROSTER_SHARD", "1")]].concat());
        let group = inside.create_group("alice").await;
        let mut connections = vec![("alice", inside.connect("alice").await)];
        for user in OTHERS {
            inside.bring("alice", &group, user).await;
            connections.push((user, inside.connect(user).await));
        }
        Some(Self { inside, group, connections })
    }

    /// Sends a notification to the group, and returns its jobs.
    async fn notify(&self, from: Option<&str>, content: &str) -> Vec<String> {
        let mut payload =
            json!({ "type": "multicast", "to": self.group, "notificationType": "news", "content": content });
        if let Some(from) = from {
            payload["from"] = json!(from);
        }
        self.inside.invoke(&notification::FUNCTION, &payload.to_string()).await.expect("a notification is accepted");
        self.inside.world().take_jobs()
    }

    async fn run(&self, jobs: &[String]) {
        let answer = self.inside.invoke(&fanout::FUNCTION, &event(jobs)).await.expect("an answer");
        assert_eq!(answer, r#"{"batchItemFailures":[]}"#);
    }

    /// The users whose connections received something, and all the frames.
    fn notified(&self) -> (Vec<&str>, Vec<Value>) {
        let frames = self.connections.iter().map(|(user, connection)| (*user, self.inside.frames(connection)));
        let (users, frames): (Vec<_>, Vec<_>) = frames.filter(|(_, frames)| !frames.is_empty()).unzip();
        (users, frames.concat())
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_deliver_a_notification_to_a_large_group() {
    let Some(scene) = Scene::new().await else { return };
    scene.inside.tie("dave", "blockedId", "stranger").await;
    // JSON allows some of these characters unescaped, and SQS refuses them.
    let content = "\u{fffe}\u{ffff}\"\\\u{7}\u{2028}\u{1f600}";
    let jobs = scene.notify(Some("stranger"), content).await;
    assert_eq!(jobs.len(), 8, "one job for each shard");
    assert!(scene.notified().0.is_empty());
    scene.run(&jobs).await;
    let (users, frames) = scene.notified();
    assert_eq!(users, ["alice", "bob", "carol", "erin", "frank"], "dave blocks the sender");
    let wanted = json!({ "type": "NOTIFICATION", "notificationType": "news", "content": content });
    assert_eq!(frames, vec![wanted; 5], "each gets it once");
}

#[tokio::test(start_paused = true)]
async fn without_a_sender_a_notification_reaches_every_member() {
    let Some(scene) = Scene::new().await else { return };
    scene.inside.tie("dave", "blockedId", "stranger").await;
    let jobs = scene.notify(None, "news").await;
    scene.inside.leave("erin", &scene.group).await;
    scene.run(&jobs).await;
    assert_eq!(scene.notified().0, ["alice", "bob", "carol", "dave", "frank"], "erin has left");
}

#[tokio::test(start_paused = true)]
async fn a_queued_notification_to_a_dissolved_group_reaches_nobody() {
    let Some(scene) = Scene::new().await else { return };
    let jobs = scene.notify(None, "news").await;
    scene.inside.leave("alice", &scene.group).await;
    scene.inside.world().take_jobs();
    scene.run(&jobs).await;
    assert!(scene.notified().0.is_empty());
    assert!(scene.notify(None, "news").await.is_empty(), "the group no longer exists");
}

#[tokio::test(start_paused = true)]
async fn an_old_notification_job_is_dropped() {
    let Some(scene) = Scene::new().await else { return };
    let jobs = scene.notify(None, "news").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    scene.run(&jobs[..1]).await;
    assert_eq!(scene.notified().0.len(), 1, "a second try is made");
    tokio::time::sleep(Duration::from_secs(30)).await;
    scene.run(&jobs).await;
    assert_eq!(scene.notified().0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_notification_too_long_for_a_job_is_pushed_directly() {
    let Some(scene) = Scene::new().await else { return };
    assert!(scene.notify(None, &"\"".repeat(65_000)).await.is_empty());
    assert_eq!(scene.notified().0.len(), 6);
}
