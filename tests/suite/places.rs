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

    /// Pulls with bob's token: the ids, and the token of the page.
    async fn pull_page(&self, query: &str) -> (Vec<String>, Option<String>) {
        let pull = call("GET", "bob", "/api/message", None, query, None);
        let answer = self.inside.rest(&pull_messages::FUNCTION, &pull).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let senders: Vec<Value> = body(&answer);
        let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("an array"));
        let ids = messages.map(|message| message["id"].as_str().expect("an id").to_owned()).collect();
        (ids, answer["headers"]["x-page"].as_str().map(str::to_owned))
    }

    /// Pulls and drops.
    async fn pull(&self, query: &str) -> Vec<String> {
        let (ids, token) = self.pull_page(query).await;
        assert_eq!(token, None, "the page is dropped already");
        ids
    }

    /// Pulls without a drop.
    async fn show(&self, query: &str) -> (Vec<String>, String) {
        let (ids, token) = self.pull_page(&format!("&drop=false{query}")).await;
        (ids, token.expect("a page with messages has a token"))
    }

    /// The status of a call that drops these pages.
    async fn delete(&self, tokens: &[&str]) -> u64 {
        self.delete_as("bob", tokens).await
    }

    async fn delete_as(&self, user: &str, tokens: &[&str]) -> u64 {
        let query: String = tokens.iter().map(|token| format!("&page={token}")).collect();
        let delete = call("DELETE", user, "/api/message", None, &query, None);
        let answer = self.inside.rest(&drop_messages::FUNCTION, &delete).await;
        answer["statusCode"].as_u64().expect("a status")
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_keeps_what_only_another_device_was_shown() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    let (ids, token) = scene.show("").await;
    assert_eq!(ids, [&first, &last].map(Clone::clone));
    let late = scene.logged(3);
    // The other place loses this answer.
    let (ids, others) = scene.show("").await;
    assert_eq!(ids, [&first, &late, &last].map(Clone::clone));
    assert_eq!(scene.delete(&[&token]).await, 200);
    assert_eq!(scene.show("").await.0, [late.as_str()]);
    assert_eq!(scene.delete(&[&others]).await, 200);
    assert!(scene.pull("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_is_dropped_as_often_as_its_client_asks() {
    let Some(scene) = Scene::new() else { return };
    scene.logged(1);
    let (_, token) = scene.show("").await;
    assert_eq!(scene.delete(&[&token, &token]).await, 200);
    let next = scene.logged(2);
    assert_eq!(scene.delete(&[&token]).await, 200);
    assert_eq!(scene.pull("").await, [next]);
}

#[tokio::test(start_paused = true)]
async fn the_same_page_has_the_same_token() {
    let Some(scene) = Scene::new() else { return };
    scene.logged(1);
    let (_, token) = scene.show("").await;
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(scene.show("").await.1, token);
    scene.inside.log("alice", "bob", scene.inside.world().now_ms(), 0);
    assert_ne!(scene.show("").await.1, token);
}

#[tokio::test(start_paused = true)]
async fn pages_are_dropped_in_any_order() {
    for order in [[0, 1], [1, 0]] {
        let Some(scene) = Scene::with_pages_of("2") else { return };
        let ids: Vec<String> = [1, 3, 5, 7].map(|second| scene.logged(second)).into();
        let (first, one) = scene.show("").await;
        assert_eq!(first, ids[..2]);
        let late = scene.logged(2);
        let (second, other) = scene.show(&format!("&after={}", ids[1])).await;
        assert_eq!(second, ids[2..]);
        let tokens = [one.as_str(), other.as_str()];
        assert_eq!(scene.delete(&[tokens[order[0]]]).await, 200);
        let left = [&ids[2 - 2 * order[0]..][..2], std::slice::from_ref(&late)].concat();
        let mut left = left;
        left.sort_unstable();
        assert_eq!(scene.show("").await.0, left[..2]);
        assert_eq!(scene.delete(&[tokens[order[1]]]).await, 200);
        assert_eq!(scene.pull("").await, [late]);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_dropped_by_one_call() {
    let Some(scene) = Scene::with_pages_of("2") else { return };
    let ids: Vec<String> = [1, 3, 5, 7].map(|second| scene.logged(second)).into();
    let (_, one) = scene.show("").await;
    let late = scene.logged(2);
    let (_, other) = scene.show(&format!("&after={}", ids[1])).await;
    assert_eq!(scene.delete(&[&other, &one]).await, 200);
    assert_eq!(scene.pull("").await, [late]);
}

/// All of one millisecond, which a page divides.
#[tokio::test(start_paused = true)]
async fn a_page_that_divides_a_millisecond_drops_its_own_part() {
    let Some(scene) = Scene::with_pages_of("2") else { return };
    let ids: Vec<String> = (0..5).map(|number| scene.inside.log("alice", "bob", scene.now, number)).collect();
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let (_, one) = scene.show("").await;
    let (_, two) = scene.show(&format!("&after={}", sorted[1])).await;
    let (ids, three) = scene.show(&format!("&after={}", sorted[3])).await;
    assert_eq!(ids, sorted[4..]);
    assert_eq!(scene.delete(&[&two]).await, 200);
    assert_eq!(scene.show("").await.0, sorted[..2]);
    assert_eq!(scene.delete(&[&three]).await, 200);
    assert_eq!(scene.pull("").await, sorted[..2]);
    assert_eq!(scene.delete(&[&one]).await, 200);
    assert!(scene.pull("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn devices_may_pull_different_types() {
    let Some(scene) = Scene::new() else { return };
    let to_group = scene.sent_to_group().await;
    let private = scene.inside.log("alice", "bob", scene.inside.world().now_ms(), 0);
    assert_eq!(scene.show("").await.0, [&to_group, &private].map(Clone::clone));
    let (ids, token) = scene.show("&type=unicast").await;
    assert_eq!(ids, [private.as_str()]);
    assert_eq!(scene.delete(&[&token]).await, 200);
    assert_eq!(scene.pull("").await, [to_group]);
}

#[tokio::test(start_paused = true)]
async fn a_page_is_dropped_by_its_own_user_for_an_hour() {
    let Some(scene) = Scene::new() else { return };
    let id = scene.logged(1);
    let (_, token) = scene.show("").await;
    for wrong in ["", "x", "a b", &"x".repeat(200), "00000000-0000-4000-8000-000000000000"] {
        let wrong = crate::inside::escaped(wrong);
        assert_eq!(scene.delete(&[&token, &wrong]).await, 403, "{wrong}");
    }
    assert_eq!(scene.delete_as("alice", &[&token]).await, 403);
    assert_eq!(scene.delete(&[]).await, 400);
    assert_eq!(scene.delete(&vec![token.as_str(); 21]).await, 400);
    assert_eq!(scene.show("").await.0, [id.as_str()], "none of these dropped anything");
    tokio::time::advance(std::time::Duration::from_secs(3_601)).await;
    assert_eq!(scene.delete(&[&token]).await, 403);
    let (ids, token) = scene.show("").await;
    assert_eq!((ids, scene.delete(&[&token]).await), (vec![id], 200));
    assert!(scene.pull("").await.is_empty());
}

/// Pages out of their order are remembered message by message, of which 10,000 have room.
#[tokio::test(start_paused = true)]
async fn a_page_out_of_order_that_has_no_room_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let mut ids: Vec<String> =
        (0..11_500).map(|number| scene.inside.log("alice", "bob", scene.now + number / 100, number)).collect();
    ids.sort_unstable();
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    let mut tokens = Vec::new();
    for page in 0..12 {
        let after = if page == 0 { String::new() } else { format!("&after={}", ids[1_000 * page - 1]) };
        tokens.push(scene.show(&after).await.1);
    }
    for token in &tokens[1..11] {
        assert_eq!(scene.delete(&[token]).await, 200);
    }
    assert_eq!(scene.delete(&[&tokens[11]]).await, 409);
    assert_eq!(scene.delete(&[&tokens[11], &tokens[0]]).await, 409, "the pages between them are not given");
    assert_eq!(scene.show("").await.0, ids[..1_000], "nothing was dropped");
    assert_eq!(scene.delete(&tokens.iter().map(String::as_str).collect::<Vec<_>>()).await, 200);
    assert!(scene.pull("").await.is_empty());
}

/// Once shown while it is young, and again when it is not.
#[tokio::test(start_paused = true)]
async fn an_old_page_is_dropped_with_its_time() {
    let Some(scene) = Scene::new() else { return };
    let (first, last) = (scene.logged(1), scene.logged(5));
    scene.show("").await;
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    let (ids, token) = scene.show("").await;
    assert_eq!(ids, [first, last]);
    assert_eq!(scene.delete(&[&token]).await, 200);
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
