//! What a pull asks about groups: by which calls it is told that one stands, and that nothing of one that does not is
//! returned, whichever way it would have been found. The functions run in this process.

use std::time::Duration;

use functions::pull_messages;
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::jobs::QUEUED;
use crate::world::Deployment;

/// The calls that every pull begins with: the state, and memberships and blocks together.
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

    /// A dissolution leaves log and memberships to jobs, which nobody runs.
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

    /// What bob pulls, and the calls that it took.
    async fn pull(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let pull = call("GET", "bob", "/api/message", None, query, None);
        self.inside.take_calls();
        let senders: Value = body(&self.inside.done(&pull_messages::FUNCTION, &pull).await);
        let senders = senders.as_array().expect("senders").iter();
        let messages = senders.flat_map(|sender| sender["messages"].as_array().expect("messages"));
        let contents = messages.map(|message| message["content"].as_str().expect("a text").to_owned()).collect();
        (contents, self.inside.take_calls())
    }

    /// Whether bob is written down as a member on his own side.
    fn is_in_books(&self) -> bool {
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
async fn one_who_comes_back_is_told_by_the_log_that_the_group_stands() {
    let Some(scene) = Scene::new(&[]).await else { return };
    assert_eq!(scene.pull("").await, (vec![], calls(&["Query", "Query"])));
    scene.send("one").await;
    pass(1).await;
    scene.inside.connect("bob").await;
    pass(2).await;
    scene.send("taken").await;
    // The message is young, so it is dropped by its id.
    let found = calls(&["Query", "Query", "PutItem", "UpdateItem"]);
    assert_eq!(scene.pull("").await, (vec!["one".to_owned()], found));
}

#[tokio::test(start_paused = true)]
async fn one_who_is_connected_asks_where_he_finds_something() {
    let Some(scene) = Scene::new(&[]).await else { return };
    scene.send("one").await;
    pass(1).await;
    scene.inside.connect("bob").await;
    pass(60).await;
    scene.send("taken").await;
    let found = calls(&["Query", "Query", "BatchGetItem", "UpdateItem"]);
    assert_eq!(scene.pull("").await, (vec!["one".to_owned()], found));
    pass(60).await;
    // All of the time since is covered: there is no log to read.
    assert_eq!(scene.pull("").await, (vec![], calls(&[])));
}

#[tokio::test(start_paused = true)]
async fn a_log_of_many_queries_is_asked_about_once() {
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
async fn nothing_of_a_dissolved_group_is_returned_whichever_way_it_is_found() {
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
        assert!(!scene.is_in_books(), "what is left of it is cleared away: {messages} {is_back} {waits}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_in_a_dissolved_group_leads_nowhere() {
    let Some(scene) = Scene::dissolving_by_jobs().await else { return };
    let bob = scene.inside.connect("bob").await;
    scene.inside.world().set_phase(&bob, crate::simulation::world::Phase::Closed);
    pass(60).await;
    scene.send("named").await;
    let jobs = scene.inside.world().take_jobs();
    scene.inside.invoke(&functions::fanout::FUNCTION, &crate::jobs::event(&jobs)).await.expect("a job is done");
    let names = || scene.inside.world().partition("USER#bob").iter().any(|item| item["missed"].is_object());
    assert!(names(), "his connection covers it, and did not take it");
    assert_eq!(scene.pull("&drop=false").await.0, ["named"]);
    scene.dissolve().await;
    assert_eq!(scene.pull("").await.0, [] as [&str; 0]);
    assert!(!names(), "and is forgotten");
}
