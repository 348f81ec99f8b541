//! Section 3: several devices of one user read missed messages, and each pulls and drops in two steps. A drop removes
//! what its own page showed. It keeps messages that reached a log in between, and messages that only another device was
//! shown.

use functions::{drop_messages, pull_messages};
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::world::Deployment;

/// Alice writes to bob, who is away. The messages are ten seconds old and a second apart. One of them reaches its log
/// late.
struct Scene {
    inside: Inside,
    now: u64,
}

impl Scene {
    fn new() -> Option<Self> {
        Self::with_pages_of("1000")
    }

    fn with_pages_of(messages: &str) -> Option<Self> {
        let inside = Inside::with(3, &[("MAX_PAGE_MESSAGES", messages)]);
        let now = inside.world().now_ms();
        (!Deployment::is_elsewhere()).then_some(Self { inside, now })
    }

    /// The message of that second reaches the log.
    fn logged(&self, second: u64) -> String {
        self.inside.log("alice", "bob", self.now - 10_000 + 1_000 * second, 0)
    }

    /// Sends a message to a group of both users.
    async fn sent_to_group(&self) -> String {
        let inside = &self.inside;
        let group = inside.create_group("bob").await;
        let invitation = inside.invite("bob", &group, "alice").await;
        inside.accept("alice", &invitation).await;
        let connection = inside.connect("alice").await;
        let frame = json!({ "type": "multicast", "groupId": group, "content": 1, "requestId": "r" });
        inside.send("alice", &connection, &frame).await;
        inside.frames(&connection)[0]["id"].as_str().expect("an id").to_owned()
    }

    /// The ids that a pull of bob returns.
    async fn pull(&self, query: &str) -> Vec<String> {
        let pull = call("GET", "bob", "/api/message", None, query, None);
        let answer = self.inside.rest(&pull_messages::FUNCTION, &pull).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let senders: Vec<Value> = body(&answer);
        let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("an array"));
        messages.map(|message| message["id"].as_str().expect("an id").to_owned()).collect()
    }

    async fn show(&self, query: &str) -> Vec<String> {
        self.pull(&format!("&drop=false{query}")).await
    }

    async fn delete(&self, until: &str, query: &str) {
        let query = format!("&until={until}{query}");
        let delete = call("DELETE", "bob", "/api/message", None, &query, None);
        let answer = self.inside.rest(&drop_messages::FUNCTION, &delete).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_keeps_what_only_another_device_was_shown() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    assert_eq!(scene.show("").await, [&first, &last].map(Clone::clone));
    let late = scene.logged(3);
    // Another device pulls, and its answer is lost.
    assert_eq!(scene.show("").await, [&first, &late, &last].map(Clone::clone));
    scene.delete(&last, "").await;
    assert_eq!(scene.show("").await, [late.as_str()]);
    scene.delete(&late, "").await;
    assert!(scene.pull("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drop_keeps_later_messages_shown_to_another_device() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    scene.show("").await;
    let (late, newer) = (scene.logged(3), scene.logged(7));
    assert_eq!(scene.show("").await, [&first, &late, &last, &newer].map(Clone::clone));
    scene.delete(&last, "").await;
    assert_eq!(scene.pull("").await, [late, newer]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_page_drops_the_pages_before_it() {
    let Some(scene) = Scene::with_pages_of("2") else { return };
    let mut ids = Vec::new();
    for second in [1, 3, 5, 7] {
        ids.push(scene.logged(second));
    }
    assert_eq!(scene.show("").await, ids[..2]);
    let late = scene.logged(2);
    assert_eq!(scene.show(&format!("&after={}", ids[1])).await, ids[2..]);
    scene.delete(&ids[3], "").await;
    assert_eq!(scene.pull("").await, [late]);
}

#[tokio::test(start_paused = true)]
async fn a_drop_may_end_within_a_page() {
    let Some(scene) = Scene::new() else { return };
    let mut ids = Vec::new();
    for second in [1, 3, 5] {
        ids.push(scene.logged(second));
    }
    scene.show("").await;
    let late = scene.logged(2);
    scene.delete(&ids[1], "").await;
    assert_eq!(scene.pull("").await, [late, ids[2].clone()]);
}

#[tokio::test(start_paused = true)]
async fn devices_may_pull_different_types() {
    let Some(scene) = Scene::new() else { return };
    let to_group = scene.sent_to_group().await;
    let private = scene.inside.log("alice", "bob", scene.inside.world().now_ms(), 0);
    assert_eq!(scene.show("").await, [&to_group, &private].map(Clone::clone));
    assert_eq!(scene.show("&type=unicast").await, [private.as_str()]);
    scene.delete(&private, "").await;
    assert!(scene.pull("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn old_messages_are_dropped_by_time() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    // The messages are shown once while young, and again when old.
    scene.show("").await;
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(scene.show("").await, [first, last.clone()]);
    scene.delete(&last, "").await;
    assert!(scene.pull("").await.is_empty());
}

/// Drops of the last half minute are stored in one item, which has room for this many ids.
#[tokio::test(start_paused = true)]
async fn ten_thousand_young_messages_can_be_dropped_at_once() {
    let Some(scene) = Scene::new() else { return };
    for number in 0..10_001 {
        scene.inside.log("alice", "bob", scene.now, number);
    }
    for _ in 0..10 {
        assert_eq!(scene.pull("").await.len(), 1_000);
    }
    let pull = call("GET", "bob", "/api/message", None, "", None);
    let refused = scene.inside.rest(&pull_messages::FUNCTION, &pull).await;
    assert_eq!(refused["statusCode"], 503, "{refused}");
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    assert_eq!(scene.pull("").await.len(), 1);
    assert!(scene.pull("").await.is_empty());
}
