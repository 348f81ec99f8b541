//! Notifications to a group that is too large for one function, job by job. The functions run in this process; the queue is
//! the test's.

use std::time::Duration;

use functions::{fanout, notification};
use serde_json::{Value, json};

use crate::inside::Inside;
use crate::jobs::{QUEUED, event};
use crate::world::Deployment;

const OTHERS: [&str; 5] = ["bob", "carol", "dave", "erin", "frank"];

/// A group of alice and five others, each in a shard of the roster, all online.
struct Scene {
    inside: Inside,
    group: String,
    /// By user.
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

    /// The jobs of a notification to the group.
    async fn notify(&self, from: Option<&str>, content: &str) -> Vec<String> {
        let mut payload =
            json!({ "type": "multicast", "to": self.group, "notificationType": "news", "content": content });
        if let Some(from) = from {
            payload["from"] = json!(from);
        }
        self.inside.invoke(&notification::FUNCTION, &payload.to_string()).await.expect("a notification is taken");
        self.inside.world().take_jobs()
    }

    async fn run(&self, jobs: &[String]) {
        let answer = self.inside.invoke(&fanout::FUNCTION, &event(jobs)).await.expect("an answer");
        assert_eq!(answer, r#"{"batchItemFailures":[]}"#);
    }

    /// Those whose connections were sent something, and all of it.
    fn notified(&self) -> (Vec<&str>, Vec<Value>) {
        let frames = self.connections.iter().map(|(user, connection)| (*user, self.inside.frames(connection)));
        let (users, frames): (Vec<_>, Vec<_>) = frames.filter(|(_, frames)| !frames.is_empty()).unzip();
        (users, frames.concat())
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_to_a_large_group_goes_by_jobs() {
    let Some(scene) = Scene::new().await else { return };
    scene.inside.tie("dave", "blockedId", "stranger").await;
    // Some of it JSON leaves as it is and SQS refuses.
    let content = "\u{fffe}\u{ffff}\"\\\u{7}\u{2028}\u{1f600}";
    let jobs = scene.notify(Some("stranger"), content).await;
    assert_eq!(jobs.len(), 8, "one for each shard");
    assert!(scene.notified().0.is_empty());
    scene.run(&jobs).await;
    let (users, frames) = scene.notified();
    assert_eq!(users, ["alice", "bob", "carol", "erin", "frank"], "dave blocks whom it is from");
    let wanted = json!({ "type": "NOTIFICATION", "notificationType": "news", "content": content });
    assert_eq!(frames, vec![wanted; 5], "each gets it once");
}

#[tokio::test(start_paused = true)]
async fn a_notification_from_nobody_is_for_every_member() {
    let Some(scene) = Scene::new().await else { return };
    scene.inside.tie("dave", "blockedId", "stranger").await;
    let jobs = scene.notify(None, "news").await;
    scene.inside.leave("erin", &scene.group).await;
    scene.run(&jobs).await;
    assert_eq!(scene.notified().0, ["alice", "bob", "carol", "dave", "frank"], "erin has left");
}

#[tokio::test(start_paused = true)]
async fn a_notification_to_a_group_that_is_dissolved_meanwhile_reaches_nobody() {
    let Some(scene) = Scene::new().await else { return };
    let jobs = scene.notify(None, "news").await;
    scene.inside.leave("alice", &scene.group).await;
    scene.inside.world().take_jobs();
    scene.run(&jobs).await;
    assert!(scene.notified().0.is_empty());
    assert!(scene.notify(None, "news").await.is_empty(), "that group is no more");
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_has_waited_too_long_is_dropped() {
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
async fn a_notification_that_is_too_long_for_a_job_is_pushed_in_place() {
    let Some(scene) = Scene::new().await else { return };
    assert!(scene.notify(None, &"\"".repeat(65_000)).await.is_empty());
    assert_eq!(scene.notified().0.len(), 6);
}
