//! Section 3: more missed messages than a page holds.

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::inside::{self, Inside, Rest, socket_event};
use crate::world::fill::fill;
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, group_of};
use crate::world::{Deployment, Page, User};

/// The number of messages of a page.
const PAGE: usize = 1000;

/// The number of bytes of a page.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The number of messages in total. More than a page of them go to the group.
const COUNT: usize = 1150;

/// One in this many messages is private.
const PRIVATE: usize = 12;

/// Many messages to a group whose members are away. One member also gets private messages.
#[derive(Debug, Clone)]
struct Flood {
    /// Gets all messages and drops none, for tests that only read.
    onlooker: String,
    /// A member whose messages one test drops.
    dropper: String,
    /// A member whose messages another test drops.
    confirmer: String,
    /// All message ids, in order.
    ids: Vec<String>,
    /// The ids of the group messages.
    to_all: Vec<String>,
}

/// Sending them takes a while, so all tests share one flood.
async fn flood() -> Flood {
    static FLOOD: OnceCell<Flood> = OnceCell::const_new();
    FLOOD.get_or_init(|| Box::pin(send_flood())).await.clone()
}

async fn send_flood() -> Flood {
    let (alice, onlooker) = friends().await;
    let (dropper, confirmer) = (User::new("dropper"), User::new("confirmer"));
    let group = group_of(&alice, &[&onlooker, &dropper, &confirmer]).await;
    let sent = fill(&alice, COUNT, async |device, n| match n % PRIVATE {
        0 => device.send(&onlooker, n).await,
        _ => device.send_group(&group, n).await,
    });
    let sent = sent.await;
    let of_the_group = sent.iter().filter(|(_, n)| n % PRIVATE != 0);
    Flood {
        to_all: of_the_group.map(|(id, _)| id.clone()).collect(),
        ids: sent.iter().map(|(id, _)| id.clone()).collect(),
        onlooker: onlooker.id().to_owned(),
        dropper: dropper.id().to_owned(),
        confirmer: confirmer.id().to_owned(),
    }
}

/// The user with this id, with an HTTP client of the test's own.
fn user(id: &str) -> User {
    User::with_id(&Deployment::shared(), id)
}

/// Asserts that messages are sorted by timestamp, then by id. All are from one sender.
fn assert_sorted(page: &Page, descending: bool) {
    let mut places: Vec<(u64, String)> =
        page.messages().map(|message| (message.number("timestamp"), message.id())).collect();
    if descending {
        places.reverse();
    }
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn a_page_holds_the_oldest_thousand() {
    let flood = flood().await;
    let page = user(&flood.onlooker).pull_with(&[("drop", "false")]).await;
    assert_eq!(page.sorted_ids(), flood.ids[..PAGE]);
    assert_sorted(&page, false);
    assert!(page.has_more);
}

#[tokio::test]
async fn sort_orders_within_the_page() {
    let flood = flood().await;
    let page = user(&flood.onlooker).pull_with(&[("drop", "false"), ("sort", "desc")]).await;
    assert_eq!(page.sorted_ids(), flood.ids[..PAGE]);
    assert_sorted(&page, true);
    assert!(page.has_more);
}

#[tokio::test]
async fn after_x_next_a_pull_without_a_drop_goes_on() {
    let flood = flood().await;
    let onlooker = user(&flood.onlooker);
    for kind in ["all", "multicast"] {
        let first = onlooker.pull_with(&[("drop", "false"), ("type", kind)]).await;
        let next = first.next.as_deref().expect("X-Next, where there is more");
        assert!(first.ids().iter().all(|id| id.as_str() <= next), "nothing on the page lies behind {next}");
        let rest = onlooker.pull_with(&[("drop", "false"), ("type", kind), ("after", next)]).await;
        let all = if kind == "all" { &flood.ids } else { &flood.to_all };
        assert_eq!([first.sorted_ids(), rest.sorted_ids()].concat(), *all);
        assert_eq!(rest.next, None);
    }
}

#[tokio::test]
async fn after_continues_behind_an_id() {
    let flood = flood().await;
    let (onlooker, ids) = (user(&flood.onlooker), &flood.ids);
    let rest = onlooker.pull_with(&[("drop", "false"), ("after", &ids[PAGE - 1])]).await;
    assert_eq!(rest.sorted_ids(), ids[PAGE..]);
    assert!(!rest.has_more);
    let middle = onlooker.pull_with(&[("drop", "false"), ("after", &ids[9])]).await;
    assert_eq!(middle.sorted_ids(), ids[10..PAGE + 10]);
    assert!(middle.has_more);
    let nothing = onlooker.pull_with(&[("drop", "false"), ("after", &ids[COUNT - 1])]).await;
    assert!(nothing.is_empty() && !nothing.has_more);
}

#[tokio::test]
async fn a_page_that_ends_with_the_last_message_has_no_more() {
    let flood = flood().await;
    let before_the_last_page = &flood.ids[COUNT - PAGE - 1];
    let page = user(&flood.onlooker).pull_with(&[("drop", "false"), ("after", before_the_last_page)]).await;
    assert_eq!(page.sorted_ids(), flood.ids[COUNT - PAGE..]);
    assert!(!page.has_more);
}

#[tokio::test]
async fn since_comes_in_pages_too() {
    let flood = flood().await;
    let onlooker = user(&flood.onlooker);
    let first = onlooker.since(BEGINNING).await;
    assert_eq!(first.sorted_ids(), flood.ids[..PAGE]);
    assert!(first.has_more);
    let rest = onlooker.since(&flood.ids[PAGE - 1]).await;
    assert_eq!(rest.sorted_ids(), flood.ids[PAGE..]);
    assert!(!rest.has_more);
}

#[tokio::test]
async fn a_page_of_one_type_counts_that_type_alone() {
    let flood = flood().await;
    let onlooker = user(&flood.onlooker);
    let to_all = onlooker.pull_with(&[("drop", "false"), ("type", "multicast")]).await;
    assert_eq!(to_all.sorted_ids(), flood.to_all[..PAGE]);
    assert!(to_all.has_more);
    let private = onlooker.pull_with(&[("drop", "false"), ("type", "unicast")]).await;
    assert_eq!(private.ids().len(), COUNT - flood.to_all.len());
    assert!(!private.has_more);
}

#[tokio::test]
async fn dropping_page_by_page_returns_each_message_once() {
    let flood = flood().await;
    let dropper = user(&flood.dropper);
    let first = dropper.pull_with(&[("sort", "desc")]).await;
    assert_eq!(first.sorted_ids(), flood.to_all[..PAGE]);
    assert!(first.has_more);
    let second = dropper.pull().await;
    assert_eq!(second.sorted_ids(), flood.to_all[PAGE..]);
    assert!(!second.has_more);
    assert!(dropper.pull().await.is_empty());
}

#[tokio::test]
async fn a_client_that_confirms_each_page_gets_each_message_once() {
    let flood = flood().await;
    let confirmer = user(&flood.confirmer);
    let mut got = Vec::new();
    loop {
        let page = confirmer.pull_with(&[("drop", "false")]).await;
        let ids = page.sorted_ids();
        let Some(token) = &page.token else { break };
        confirmer.delete("/api/message", &[("page", token)]).await.empty();
        got.extend(ids.iter().cloned());
        assert!(got.len() <= flood.to_all.len(), "what was dropped comes again: {ids:?}");
        assert_eq!(page.has_more, got.len() < flood.to_all.len());
    }
    assert_eq!(got, flood.to_all);
}

#[tokio::test]
async fn a_page_holds_four_mebibytes_at_most() {
    let (alice, bob) = friends().await;
    let long = "x".repeat(30 * 1024);
    let sent = fill(&alice, 145, async |device, _| device.send(&bob, long.clone()).await).await;
    let ids: Vec<String> = sent.into_iter().map(|(id, _)| id).collect();
    let first = bob.pull().await;
    assert!(first.bytes <= PAGE_BYTES, "{} bytes", first.bytes);
    assert!(first.bytes > PAGE_BYTES * 3 / 4, "{} bytes are no full page", first.bytes);
    assert!(first.has_more);
    let second = bob.pull().await;
    assert!(!second.has_more);
    assert_eq!([first.sorted_ids(), second.sorted_ids()].concat(), ids);
    assert!(bob.pull().await.is_empty());
}

/// Pages of three messages and many concurrent pulls. Each time, only one pull can drop its page.
#[tokio::test(start_paused = true)]
async fn many_concurrent_pulls_are_all_answered() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(7);
    inside.tie("alice", "friendId", "bob").await;
    let connection = inside.connect("bob").await;
    for number in 0..36 {
        let frame = json!({ "type": "unicast", "receiverId": "alice", "content": number }).to_string();
        let event = socket_event("unicast", "bob", &connection, Some(&frame)).to_string();
        inside.invoke(&functions::message::FUNCTION, &event).await.expect("a message is taken");
    }
    let query = format!("access_token={}", inside::token("alice"));
    let pull = Rest { method: "GET".to_owned(), path: "/api/message".to_owned(), query, ..Rest::default() };
    let answers = join_all((0..12).map(|_| inside.rest(&functions::pull_messages::FUNCTION, &pull))).await;
    let mut contents = Vec::new();
    for answer in &answers {
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let senders: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        for sender in senders.as_array().unwrap() {
            contents.extend(sender["messages"].as_array().unwrap().iter().map(|m| m["content"].as_u64().unwrap()));
        }
    }
    contents.sort_unstable();
    assert_eq!(contents, (0..36).collect::<Vec<_>>());
}
