//! Section 2: private messages.

use futures::future::join;
use serde_json::{Value, json};

use crate::world::clock::now_ms;
use crate::world::device::{new_request_id, unicast};
use crate::world::frame::is_ulid;
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, friends_online};
use crate::world::{Device, User};

/// The largest difference between the clocks of the suite and the server.
const CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;

/// JSON texts that parsing and writing would spell differently.
pub(crate) const ODD_SPELLINGS: [&str; 13] = [
    r#"{ "a" :1 ,	"b":[ ] }"#,
    "1e400",
    "1.0",
    "-0",
    "123456789012345678901234567890.123456789",
    r#""\u00e9\u0065\ud83d\ude00é😀""#,
    r#""\/ \b \f \n \r \t \" \\ \u0000""#,
    r#""\\ud800 \uD83D\uDE00 \uFFFF""#,
    r#"{"z":1,"a":2,"M":3}"#,
    r#"{"k":1,"k":2,"k":{"k":3,"k":4}}"#,
    r#"[[],{},"",0,false,null,[null]]"#,
    "\" \u{7f}\u{2028}\u{feff}\"",
    r#"{"type":"NOTIFICATION","id":"x","senderId":"y","content":null}"#,
];

#[tokio::test]
async fn a_private_message_reaches_a_friend() {
    let (mut alice, mut bob) = friends_online().await;
    alice.send_text(&unicast(bob.id(), None, r#""hi""#)).await;
    bob.expect_private(&alice, "hi").await;
}

#[tokio::test]
async fn friendship_goes_both_ways() {
    let (mut alice, mut bob) = friends_online().await;
    alice.send(&bob, "hi").await;
    bob.expect_private(&alice, "hi").await;
    bob.send(&alice, "hello").await;
    alice.expect_private(&bob, "hello").await;
}

#[tokio::test]
async fn an_acknowledgement_names_the_message_that_arrives() {
    let (mut alice, mut bob) = friends_online().await;
    let accepted = alice.send(&bob, "hi").await;
    let frame = bob.expect_private(&alice, "hi").await;
    assert_eq!((frame.id(), frame.number("timestamp")), (accepted.id, accepted.timestamp));
}

#[tokio::test]
async fn a_message_without_a_request_id_is_not_acknowledged() {
    let (mut alice, mut bob) = friends_online().await;
    alice.send_text(&unicast(bob.id(), None, "1")).await;
    bob.expect_private(&alice, 1).await;
    alice.expect_nothing().await;
}

#[tokio::test]
async fn the_timestamp_is_the_time_in_milliseconds() {
    let (mut alice, bob) = friends_online().await;
    let before = now_ms();
    let accepted = alice.send(&bob, "hi").await;
    assert!(before < accepted.timestamp + CLOCK_SKEW_MS, "{accepted:?}");
    assert!(accepted.timestamp < now_ms() + CLOCK_SKEW_MS, "{accepted:?}");
}

#[tokio::test]
async fn each_message_has_its_own_ulid() {
    let (mut alice, bob) = friends_online().await;
    let (first, second) = (alice.send(&bob, "hi").await.id, alice.send(&bob, "hi").await.id);
    assert!(is_ulid(&first) && is_ulid(&second), "{first} {second}");
    assert!(first < second, "{first} {second}");
}

#[tokio::test]
async fn a_content_may_be_any_json_value_but_null() {
    let (mut alice, mut bob) = friends_online().await;
    for content in [json!("text"), json!(""), json!(0), json!(-1.5), json!(true), json!(false), json!([]), json!({})] {
        alice.send(&bob, content.clone()).await;
        bob.expect_private(&alice, content).await;
    }
    let nested = json!({"text": "你好", "files": [{"name": "a.png", "size": 7, "none": null}], "deep": [[[[[1]]]]]});
    alice.send(&bob, nested.clone()).await;
    bob.expect_private(&alice, nested).await;
}

#[tokio::test]
async fn a_content_is_kept_byte_for_byte_on_a_socket() {
    let (mut alice, mut bob) = friends_online().await;
    for spelling in ODD_SPELLINGS {
        alice.send_text(&unicast(bob.id(), None, spelling)).await;
        assert_eq!(bob.next("the odd content").await.raw("content"), spelling);
    }
}

#[tokio::test]
async fn a_content_is_kept_byte_for_byte_in_a_pull() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    for spelling in ODD_SPELLINGS {
        let request_id = new_request_id();
        alice.send_text(&unicast(bob.id(), Some(&request_id), spelling)).await;
        alice.expect_ack(&request_id).await;
    }
    let since: Vec<_> = bob.since(BEGINNING).await.messages().map(|m| m.raw("content").to_owned()).collect();
    assert_eq!(since, ODD_SPELLINGS);
    let missed: Vec<_> = bob.pull().await.messages().map(|m| m.raw("content").to_owned()).collect();
    assert_eq!(missed, ODD_SPELLINGS);
}

#[tokio::test]
async fn a_content_nested_48_deep_is_kept() {
    let (mut alice, mut bob) = friends_online().await;
    let deep = format!("{}{}", "[".repeat(48), "]".repeat(48));
    alice.send_text(&unicast(bob.id(), None, &deep)).await;
    assert_eq!(bob.next("the deep content").await.raw("content"), deep);
}

#[tokio::test]
async fn fields_that_the_protocol_does_not_know_are_ignored() {
    let (mut alice, mut bob) = friends_online().await;
    let text = unicast(bob.id(), None, "1");
    alice.send_text(&text.replacen('{', r#"{"id":"mine","senderId":"carol","timestamp":0,"x":{},"#, 1)).await;
    bob.expect_private(&alice, 1).await;
}

/// Asserts that a message is accepted like any other, and that no call of the receiver ever returns it.
async fn assert_withheld(sender: &mut Device, receiver: &mut Device) {
    let accepted = sender.send(receiver, "withheld").await;
    assert!(is_ulid(&accepted.id) && accepted.timestamp > 0, "{accepted:?}");
    sender.send_text(&unicast(receiver.id(), None, r#""withheld too""#)).await;
    sender.expect_nothing().await;
    receiver.expect_nothing().await;
    assert!(receiver.pull().await.is_empty());
    assert!(receiver.since(BEGINNING).await.is_empty());
}

#[tokio::test]
async fn a_message_from_a_stranger_is_withheld() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    assert_withheld(&mut alice.connect().await, &mut bob.connect().await).await;
}

#[tokio::test]
async fn messages_between_former_friends_are_withheld() {
    let (mut alice, mut bob) = friends_online().await;
    bob.unfriend(&alice).await;
    assert_withheld(&mut alice, &mut bob).await;
    assert_withheld(&mut bob, &mut alice).await;
}

#[tokio::test]
async fn a_message_from_a_blocked_sender_is_withheld() {
    let (mut alice, mut bob) = friends_online().await;
    bob.block(&alice).await;
    assert_withheld(&mut alice, &mut bob).await;
}

#[tokio::test]
async fn a_message_from_a_blocked_stranger_is_withheld() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    bob.block(&alice).await;
    assert_withheld(&mut alice.connect().await, &mut bob.connect().await).await;
}

#[tokio::test]
async fn the_user_who_blocks_can_still_send() {
    let (mut alice, mut bob) = friends_online().await;
    bob.block(&alice).await;
    bob.send(&alice, "I do not listen").await;
    alice.expect_private(&bob, "I do not listen").await;
}

#[tokio::test]
async fn after_unblocking_messages_are_delivered() {
    let (mut alice, mut bob) = friends_online().await;
    bob.block(&alice).await;
    alice.send(&bob, "unheard").await;
    bob.unblock(&alice).await;
    alice.send(&bob, "heard").await;
    bob.expect_private(&alice, "heard").await;
}

#[tokio::test]
async fn a_withheld_message_is_not_stored() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    bob.block(&alice).await;
    alice.send(&bob, "blocked").await;
    bob.unblock(&alice).await;
    bob.unfriend(&alice).await;
    alice.send(&bob, "not a friend").await;
    bob.befriend(&alice).await;
    assert!(bob.since(BEGINNING).await.is_empty());
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn acks_of_delivered_and_withheld_messages_look_the_same() {
    let (mut alice, bob) = friends_online().await;
    let (stranger, nobody) = (User::new("stranger"), User::new("nobody"));
    let blocker = User::new("blocker");
    alice.befriend(&blocker).await;
    blocker.block(&alice).await;
    let mut last = alice.send(&bob, "delivered").await;
    for receiver in [&blocker, &stranger, &nobody] {
        let accepted = alice.send(receiver, "withheld").await;
        assert!(is_ulid(&accepted.id) && accepted.id > last.id, "{accepted:?} after {last:?}");
        assert!(accepted.timestamp >= last.timestamp, "{accepted:?} after {last:?}");
        last = accepted;
    }
    alice.expect_nothing().await;
}

#[tokio::test]
async fn a_withheld_send_is_idempotent() {
    let (alice, nobody) = (User::new("alice"), User::new("nobody"));
    let mut alice = alice.connect().await;
    let first = send_as(&mut alice, &nobody, "once", 1).await;
    assert_eq!(send_as(&mut alice, &nobody, "once", 1).await, first);
}

/// Sends under a request id and waits for the acknowledgement.
async fn send_as(
    sender: &mut Device,
    to: &User,
    request_id: &str,
    content: impl Into<Value>,
) -> crate::world::device::Accepted {
    sender.send_text(&unicast(to.id(), Some(request_id), &content.into().to_string())).await;
    sender.expect_ack(request_id).await
}

#[tokio::test]
async fn a_repeated_request_id_stores_and_delivers_one_message() {
    let (mut alice, mut bob) = friends_online().await;
    let first = send_as(&mut alice, &bob, "once", "hi").await;
    for _ in 0..3 {
        assert_eq!(send_as(&mut alice, &bob, "once", "hi").await, first);
    }
    bob.expect_private(&alice, "hi").await;
    bob.expect_nothing().await;
    assert_eq!(bob.since(BEGINNING).await.ids(), [first.id]);
}

#[tokio::test]
async fn a_request_id_of_another_message_is_refused() {
    let (mut alice, mut bob) = friends_online().await;
    let carol = User::new("carol");
    alice.befriend(&carol).await;
    let first = send_as(&mut alice, &bob, "once", "hi").await;
    bob.expect_private(&alice, "hi").await;
    for (receiver, content) in [(bob.id(), "\"something else\""), (carol.id(), "\"hi\"")] {
        alice.send_text(&unicast(receiver, Some("once"), content)).await;
        assert_eq!(alice.expect_error("request_id_reused", "requestId").await.text("requestId"), "once");
    }
    assert_eq!(send_as(&mut alice, &bob, "once", "hi").await, first);
    bob.expect_nothing().await;
    assert_eq!(bob.since(BEGINNING).await.ids(), [first.id]);
    assert!(carol.since(BEGINNING).await.is_empty());
}

#[tokio::test]
async fn a_repeat_on_another_socket_is_the_same_send() {
    let (alice, bob) = friends().await;
    let mut phone = alice.connect().await;
    let first = send_as(&mut phone, &bob, "once", "hi").await;
    phone.vanish();
    let mut laptop = alice.connect().await;
    assert_eq!(send_as(&mut laptop, &bob, "once", "hi").await, first);
    assert_eq!(bob.pull().await.ids(), [first.id]);
}

#[tokio::test]
async fn concurrent_repeats_are_one_message() {
    let (alice, bob) = friends().await;
    let (mut phone, mut laptop) = (alice.connect().await, alice.connect().await);
    let (one, other) = join(send_as(&mut phone, &bob, "once", "hi"), send_as(&mut laptop, &bob, "once", "hi")).await;
    assert_eq!(one, other);
    assert_eq!(bob.since(BEGINNING).await.ids(), [one.id]);
}

#[tokio::test]
async fn a_request_id_belongs_to_its_sender() {
    let (mut alice, mut bob) = friends_online().await;
    let carol = User::new("carol");
    carol.befriend(&bob).await;
    let by_alice = send_as(&mut alice, &bob, "once", "by alice").await;
    bob.expect_private(&alice, "by alice").await;
    let by_carol = send_as(&mut carol.connect().await, &bob, "once", "by carol").await;
    bob.expect_private(&carol, "by carol").await;
    assert_ne!(by_alice.id, by_carol.id);
}

#[tokio::test]
async fn a_request_id_is_1_to_64_bytes() {
    let (mut alice, bob) = friends_online().await;
    for good in ["r".to_owned(), "r".repeat(64), "é".repeat(32), r#"a "quoted" one"#.to_owned()] {
        send_as(&mut alice, &bob, &good, 1).await;
    }
    for bad in [String::new(), "r".repeat(65), "é".repeat(33)] {
        alice.send_text(&unicast(bob.id(), Some(&bad), "1")).await;
        alice.expect_error("bad_request", "requestId").await;
    }
}

#[tokio::test]
async fn sequential_sends_are_accepted_in_order() {
    let (mut alice, mut bob) = friends_online().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(alice.send(&bob, n).await.id);
    }
    assert!(ids.is_sorted(), "{ids:?}");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(bob.expect_private(&alice, n).await.id(), *id);
    }
}

#[tokio::test]
async fn ids_follow_the_order_of_acceptance_across_senders() {
    let (mut alice, mut bob) = friends_online().await;
    let carol = User::new("carol");
    carol.befriend(&bob).await;
    let mut carol = carol.connect().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(alice.send(&bob, n).await.id);
        bob.expect_private(&alice, n).await;
        ids.push(carol.send(&bob, n).await.id);
        bob.expect_private(&carol, n).await;
    }
    assert!(ids.is_sorted(), "{ids:?}");
}

#[tokio::test]
async fn concurrent_sends_are_each_accepted_once() {
    let (mut alice, mut bob) = friends_online().await;
    let request_ids: Vec<String> = (0..20).map(|_| new_request_id()).collect();
    for (n, request_id) in request_ids.iter().enumerate() {
        alice.send_text(&unicast(bob.id(), Some(request_id), &n.to_string())).await;
    }
    let mut accepted = Vec::new();
    for request_id in &request_ids {
        accepted.push(alice.expect_ack(request_id).await.id);
    }
    let mut arrived = Vec::new();
    for _ in &request_ids {
        arrived.push(bob.next("one of twenty").await.id());
    }
    bob.expect_nothing().await;
    accepted.sort_unstable();
    arrived.sort_unstable();
    assert_eq!(arrived, accepted);
}
