//! Messages from before a block. They come when it is lifted, whatever was dropped in between.

use std::time::Duration;

use functions::{drop_messages, pull_messages};
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::simulation::world::{Phase, TABLE};
use crate::world::Deployment;

/// Longer than the time of which no progress is kept.
const SETTLED: Duration = Duration::from_secs(40);

/// Functions in simulated time: alice is away, and has the friends bob, carol and mallory.
struct Scene {
    inside: Inside,
    bob: String,
    carol: String,
}

impl Scene {
    async fn new() -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let inside = Inside::new(1);
        for friend in ["bob", "carol", "mallory"] {
            inside.tie("alice", "friendId", friend).await;
        }
        let (bob, carol) = (inside.connect("bob").await, inside.connect("carol").await);
        Some(Self { inside, bob, carol })
    }

    async fn write(&self, friend: &str, connection: &str, content: Value) {
        let frame = json!({ "type": "unicast", "receiverId": "alice", "content": content });
        self.inside.send(friend, connection, &frame).await;
    }

    async fn bob_writes(&self, content: &str) {
        self.write("bob", &self.bob, json!(content)).await;
    }

    async fn carol_writes(&self, content: &str) {
        self.write("carol", &self.carol, json!(content)).await;
    }

    async fn block(&self, other: &str) {
        self.inside.tie("alice", "blockedId", other).await;
    }

    async fn unblock(&self, other: &str) {
        self.inside.relate("DELETE", "alice", "blockedId", other).await;
    }

    /// Returns what a pull of alice returns, and the token of its page.
    async fn pulled(&self, query: &str) -> (Vec<Value>, Option<String>) {
        let request = call("GET", "alice", "/api/message", None, query, None);
        let answer = self.inside.done(&pull_messages::FUNCTION, &request).await;
        let senders: Vec<Value> = body(&answer);
        let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("messages"));
        let contents = messages.map(|message| message["content"].clone()).collect();
        (contents, answer["headers"]["x-page"].as_str().map(str::to_owned))
    }

    async fn pull(&self) -> Vec<Value> {
        self.pulled("").await.0
    }

    async fn drop_page(&self, token: &str) {
        let request = call("DELETE", "alice", "/api/message", None, &format!("&page={token}"), None);
        self.inside.done(&drop_messages::FUNCTION, &request).await;
    }

    /// Returns the stored names of what blocks hold back from alice.
    fn held(&self) -> Vec<Value> {
        let items = self.inside.world().partition("USER#alice");
        let tails = items.into_iter().find(|item| !item["tailMark"].is_null()).unwrap_or_default();
        tails["held"]["SS"].as_array().cloned().unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_block_comes_once_when_it_is_lifted() {
    let Some(scene) = Scene::new().await else { return };
    scene.bob_writes("before").await;
    tokio::time::sleep(SETTLED).await;
    scene.block("bob").await;
    scene.bob_writes("during").await;
    scene.carol_writes("hello").await;
    tokio::time::sleep(SETTLED).await;
    assert_eq!(scene.pull().await, ["hello"]);
    assert_eq!(scene.pull().await, [] as [&str; 0]);
    scene.unblock("bob").await;
    // A second block holds it as the first did.
    scene.block("bob").await;
    assert_eq!(scene.pull().await, [] as [&str; 0]);
    scene.unblock("bob").await;
    scene.bob_writes("after").await;
    assert_eq!(scene.pulled("&drop=false").await.0, ["before", "after"]);
    assert_eq!(scene.pull().await, ["before", "after"]);
    assert_eq!(scene.pull().await, [] as [&str; 0]);
    assert!(scene.held().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_dropped_by_its_token_drops_nothing_that_it_did_not_show() {
    for lifted_first in [false, true] {
        let Some(scene) = Scene::new().await else { return };
        let group = scene.inside.create_group("bob").await;
        scene.inside.bring("bob", &group, "alice").await;
        let to_all = json!({ "type": "multicast", "groupId": group, "content": "to all" });
        scene.inside.send("bob", &scene.bob, &to_all).await;
        scene.bob_writes("in private").await;
        scene.carol_writes("hello").await;
        tokio::time::sleep(SETTLED).await;
        scene.block("bob").await;
        let (shown, token) = scene.pulled("&drop=false").await;
        assert_eq!(shown, ["hello"]);
        if lifted_first {
            scene.unblock("bob").await;
        }
        scene.drop_page(&token.expect("a token")).await;
        if !lifted_first {
            assert_eq!(scene.pull().await, [] as [&str; 0]);
            scene.unblock("bob").await;
        }
        let (shown, token) = scene.pulled("&drop=false").await;
        assert_eq!(shown, ["to all", "in private"], "lifted first: {lifted_first}");
        scene.drop_page(&token.expect("a token")).await;
        assert_eq!(scene.pull().await, [] as [&str; 0]);
        assert!(scene.held().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_missed_by_name_is_held_too() {
    let Some(scene) = Scene::new().await else { return };
    let phone = scene.inside.connect("alice").await;
    scene.inside.world().set_phase(&phone, Phase::Closed);
    scene.bob_writes("before").await;
    scene.block("bob").await;
    tokio::time::sleep(SETTLED).await;
    assert_eq!(scene.pull().await, [] as [&str; 0]);
    assert_eq!(scene.held().len(), 1);
    scene.unblock("bob").await;
    assert_eq!(scene.pull().await, ["before"]);
    assert!(scene.held().is_empty());
}

/// A pull without a drop that forgets connections drops the time before the first message that it finds.
#[tokio::test(start_paused = true)]
async fn a_pull_that_only_forgets_connections_holds_it_too() {
    let Some(scene) = Scene::new().await else { return };
    scene.bob_writes("before").await;
    scene.block("bob").await;
    for _ in 0..20 {
        let tab = scene.inside.connect("alice").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.inside.disconnect("alice", &tab).await;
    }
    tokio::time::sleep(SETTLED).await;
    assert_eq!(scene.pulled("&drop=false").await.0, [] as [&str; 0]);
    assert_eq!(scene.held().len(), 1, "the time is dropped");
    scene.unblock("bob").await;
    assert_eq!(scene.pull().await, ["before"]);
}

#[tokio::test(start_paused = true)]
async fn at_most_a_hundred_are_held_and_others_are_not_affected() {
    let Some(scene) = Scene::new().await else { return };
    let mallory = scene.inside.connect("mallory").await;
    for n in 0..120 {
        scene.write("mallory", &mallory, json!(n)).await;
    }
    tokio::time::sleep(SETTLED).await;
    scene.block("mallory").await;
    for round in 0..3 {
        scene.carol_writes(&format!("hello {round}")).await;
        tokio::time::sleep(SETTLED).await;
        assert_eq!(scene.pull().await, [json!(format!("hello {round}"))]);
        assert_eq!(scene.held().len(), 100);
    }
    scene.unblock("mallory").await;
    let mut shown = Vec::new();
    while shown.len() < 100 {
        let page = scene.pull().await;
        assert!(!page.is_empty(), "only {shown:?}");
        shown.extend(page);
    }
    assert_eq!(shown, (0..100).map(Value::from).collect::<Vec<_>>());
    assert!(scene.held().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_ends_with_its_message() {
    for lifted in [false, true] {
        let Some(scene) = Scene::new().await else { return };
        scene.bob_writes("before").await;
        tokio::time::sleep(SETTLED).await;
        scene.block("bob").await;
        assert_eq!(scene.pull().await, [] as [&str; 0]);
        assert_eq!(scene.held().len(), 1);
        tokio::time::sleep(Duration::from_secs(31 * 24 * 60 * 60)).await;
        if lifted {
            scene.unblock("bob").await;
        }
        assert_eq!(scene.pull().await, [] as [&str; 0]);
        assert!(scene.held().is_empty(), "expired messages are held no longer; lifted: {lifted}");
    }
}

/// A job of the message may come so late that its time is dropped, and then names it.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_and_named_is_dropped_from_both() {
    let Some(scene) = Scene::new().await else { return };
    scene.bob_writes("before").await;
    tokio::time::sleep(SETTLED).await;
    scene.block("bob").await;
    assert_eq!(scene.pull().await, [] as [&str; 0]);
    scene.unblock("bob").await;
    let held = scene.held();
    let name = held[0].as_str().and_then(|held| held.strip_suffix("/bob")).expect("a name");
    scene.inside.world().update(&json!({
        "TableName": TABLE,
        "Key": { "pk": { "S": "USER#alice" }, "sk": { "S": "STATE" } },
        "UpdateExpression": "SET missed = :names",
        "ExpressionAttributeValues": { ":names": { "SS": [name] } },
    }));
    let (shown, token) = scene.pulled("&drop=false").await;
    assert_eq!(shown, ["before"]);
    scene.drop_page(&token.expect("a token")).await;
    assert_eq!(scene.pull().await, [] as [&str; 0]);
    assert!(scene.held().is_empty());
}
