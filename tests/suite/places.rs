//! Section 3: several places of one user that read what he missed, each by two steps. What one of them drops is what it
//! was shown, and not what reached a log in between, nor what only another place was shown.

use functions::{drop_messages, pull_messages};
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::world::Deployment;

/// Alice wrote to bob, who is away. Ten seconds ago, a second apart, but for one message that is still on its way.
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

    /// A message of that second reaches the log.
    fn logged(&self, second: u64) -> String {
        self.inside.log("alice", "bob", self.now - 10_000 + 1_000 * second, 0)
    }

    /// A message to a group of both.
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

    /// The ids that a pull of bob's shows.
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
async fn what_only_another_place_was_shown_stays() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    assert_eq!(scene.show("").await, [&first, &last].map(Clone::clone));
    let late = scene.logged(3);
    // The other place, whose answer is lost.
    assert_eq!(scene.show("").await, [&first, &late, &last].map(Clone::clone));
    scene.delete(&last, "").await;
    assert_eq!(scene.show("").await, [late.as_str()]);
    scene.delete(&late, "").await;
    assert!(scene.pull("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_place_was_shown_behind_it_stays() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    scene.show("").await;
    let (late, newer) = (scene.logged(3), scene.logged(7));
    assert_eq!(scene.show("").await, [&first, &late, &last, &newer].map(Clone::clone));
    scene.delete(&last, "").await;
    assert_eq!(scene.pull("").await, [late, newer]);
}

#[tokio::test(start_paused = true)]
async fn pages_that_go_on_from_each_other_are_dropped_by_the_last() {
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
async fn a_drop_that_ends_within_a_page_takes_what_that_showed() {
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
async fn places_that_read_different_types_are_not_in_each_others_way() {
    let Some(scene) = Scene::new() else { return };
    let to_group = scene.sent_to_group().await;
    let private = scene.inside.log("alice", "bob", scene.inside.world().now_ms(), 0);
    assert_eq!(scene.show("").await, [&to_group, &private].map(Clone::clone));
    assert_eq!(scene.show("&type=unicast").await, [private.as_str()]);
    scene.delete(&private, "").await;
    assert!(scene.pull("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_by_time_was_shown_whole() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    // Once shown while it is young, and again when it is not.
    scene.show("").await;
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(scene.show("").await, [first, last.clone()]);
    scene.delete(&last, "").await;
    assert!(scene.pull("").await.is_empty());
}

/// What is dropped of the last half minute is one item, which has room for so many ids.
#[tokio::test(start_paused = true)]
async fn of_the_last_half_minute_ten_thousand_messages_are_dropped_and_the_rest_later() {
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
