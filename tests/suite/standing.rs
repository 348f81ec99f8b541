//! How a pull checks that a group still exists: by which calls, and that no path returns messages of a dissolved group.
//! The functions run in this process.

use std::time::Duration;

use functions::pull_messages;
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::jobs::QUEUED;
use crate::world::Deployment;

/// The calls that begin every pull: one for the state, one for memberships and blocks.
const BEGINNING: [&str; 2] = ["GetItem", "Query"];

/// A group of alice, who is online, and bob.
struct Scene {
    inside: Inside,
    group: String,
    alice: String,
}

impl Scene {
    async fn new(variables: &[(&str, &str)]) -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let inside = Inside::with(1, &[&[("MAX_PAGE_MESSAGES", "1000")], variables].concat());
        let group = inside.create_group("alice").await;
        inside.bring("alice", &group, "bob").await;
        let alice = inside.connect("alice").await;
        Some(Self { inside, group, alice })
    }

    /// A scene in which a dissolution leaves the log and the memberships to jobs. No test runs them.
    async fn dissolving_by_jobs() -> Option<Self> {
        Self::new(&[&QUEUED[..], &[("ROSTER_SHARD", "1")]].concat()).await
    }

    async fn send(&self, content: &str) {
        let frame = json!({ "type": "multicast", "groupId": self.group, "content": content });
        self.inside.send("alice", &self.alice, &frame).await;
    }

    async fn dissolve(&self) {
        self.inside.leave("alice", &self.group).await;
    }

    /// What bob pulls, and the calls that the pull makes.
    async fn pull(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let pull = call("GET", "bob", "/api/message", None, query, None);
        self.inside.take_calls();
        let senders: Value = body(&self.inside.done(&pull_messages::FUNCTION, &pull).await);
        let senders = senders.as_array().expect("senders").iter();
        let messages = senders.flat_map(|sender| sender["messages"].as_array().expect("messages"));
        let contents = messages.map(|message| message["content"].as_str().expect("a text").to_owned()).collect();
        (contents, self.inside.take_calls())
    }

    /// Whether bob's partition has the membership.
    fn has_membership(&self) -> bool {
        let items = self.inside.world().partition("USER#bob");
        items.iter().any(|item| item["groupId"]["S"] == self.group.as_str() && item["joined"].is_object())
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn calls(rest: &[&str]) -> Vec<String> {
    [&BEGINNING, rest].concat().iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_pull_after_reconnecting_needs_no_check_of_the_group() {
    let Some(scene) = Scene::new(&[]).await else { return };
    assert_eq!(scene.pull("").await, (vec![], calls(&["Query", "Query"])));
    scene.send("one").await;
    pass(1).await;
    scene.inside.connect("bob").await;
    pass(2).await;
    scene.send("taken").await;
    // The message is young, so the drop stores its id.
    let found = calls(&["Query", "Query", "PutItem", "UpdateItem"]);
    assert_eq!(scene.pull("").await, (vec!["one".to_owned()], found));
}

#[tokio::test(start_paused = true)]
async fn a_connected_user_checks_groups_with_messages_only() {
    let Some(scene) = Scene::new(&[]).await else { return };
    scene.send("one").await;
    pass(1).await;
    scene.inside.connect("bob").await;
    pass(60).await;
    scene.send("taken").await;
    let found = calls(&["Query", "Query", "BatchGetItem", "UpdateItem"]);
    assert_eq!(scene.pull("").await, (vec!["one".to_owned()], found));
    pass(60).await;
    // All time since then is covered, so no log is read.
    assert_eq!(scene.pull("").await, (vec![], calls(&[])));
}

#[tokio::test(start_paused = true)]
async fn a_long_log_needs_one_check_of_the_group() {
    let Some(scene) = Scene::new(&[]).await else { return };
    let sent: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    for content in &sent {
        scene.send(content).await;
    }
    let (pulled, made) = scene.pull("").await;
    assert_eq!(pulled, sent);
    assert_eq!(made.iter().filter(|name| *name == "BatchGetItem").count(), 1, "{made:?}");
}

#[tokio::test(start_paused = true)]
async fn no_pull_returns_messages_of_a_dissolved_group() {
    for (messages, is_back, waits) in [(3, false, 0), (3, true, 0), (3, true, 60), (600, false, 0)] {
        let Some(scene) = Scene::dissolving_by_jobs().await else { return };
        for number in 0..messages {
            scene.send(&number.to_string()).await;
        }
        pass(60).await;
        if is_back {
            scene.inside.connect("bob").await;
        }
        pass(waits).await;
        let (before, _) = scene.pull("&drop=false").await;
        assert_eq!(before.len(), messages);
        scene.dissolve().await;
        for query in ["&drop=false", "&type=multicast&drop=false", "", "&drop=false&since=00000000000000000000000000"] {
            assert_eq!(scene.pull(query).await.0, [] as [&str; 0], "{messages} {is_back} {waits} {query}");
        }
        assert!(!scene.has_membership(), "the pull deletes the membership: {messages} {is_back} {waits}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missed_name_in_a_dissolved_group_is_deleted() {
    let Some(scene) = Scene::dissolving_by_jobs().await else { return };
    let bob = scene.inside.connect("bob").await;
    scene.inside.world().set_phase(&bob, crate::simulation::world::Phase::Closed);
    pass(60).await;
    scene.send("named").await;
    let jobs = scene.inside.world().take_jobs();
    scene.inside.invoke(&functions::fanout::FUNCTION, &crate::jobs::event(&jobs)).await.expect("a job is done");
    let names = || scene.inside.world().partition("USER#bob").iter().any(|item| item["missed"].is_object());
    assert!(names(), "the connection covers the message but did not receive it");
    assert_eq!(scene.pull("&drop=false").await.0, ["named"]);
    scene.dissolve().await;
    assert_eq!(scene.pull("").await.0, [] as [&str; 0]);
    assert!(!names(), "the name is deleted");
}
