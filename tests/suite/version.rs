//! Sections 1, 7 and 8: version 2 of the protocol, and what version 1 never gets.

use serde_json::json;

use crate::world::scene::{friends, group_of, three_in_a_group};
use crate::world::{Handshake, User};

#[tokio::test]
async fn version_2_is_asked_for_by_subprotocol_or_query() {
    let (alice, bob) = friends().await;
    let mut by_subprotocol = alice.connect_2().await;
    let query = format!("access_token={}&version=2", alice.token());
    let mut by_query = Handshake::of(&alice).query(&query).accepted().await;
    assert_eq!(by_query.protocol(), None);
    let both = Handshake::of(&alice).query("version=2").protocols(&["chat", alice.token()]);
    let mut by_both = both.accepted().await;
    assert_eq!(by_both.protocol(), Some("chat"));
    alice.send_by_rest(&bob, "hi").await;
    for device in [&mut by_subprotocol, &mut by_query, &mut by_both] {
        device.expect_private_to(&bob, "hi").await;
    }
}

#[tokio::test]
async fn other_versions_are_version_1() {
    let (alice, bob) = friends().await;
    for version in ["1", "3", "02", "", "2&version=2"] {
        let query = format!("access_token={}&version={version}", alice.token());
        let mut device = Handshake::of(&alice).query(&query).accepted().await;
        alice.send_by_rest(&bob, "hi").await;
        device.expect_nothing().await;
    }
}

#[tokio::test]
async fn the_senders_other_devices_get_an_echo_once() {
    let (alice, bob) = friends().await;
    let (mut phone, mut laptop, mut old) = (alice.connect_2().await, alice.connect_2().await, alice.connect().await);
    let accepted = phone.send(&bob, "hi").await;
    let echo = laptop.expect_private_to(&bob, "hi").await;
    assert_eq!((echo.id(), echo.number("timestamp")), (accepted.id, accepted.timestamp));
    for device in [&mut phone, &mut laptop, &mut old] {
        device.expect_nothing().await;
    }
    old.send(&bob, "from the old one").await;
    phone.expect_private_to(&bob, "from the old one").await;
    laptop.expect_private_to(&bob, "from the old one").await;
    assert!(alice.pull().await.is_empty(), "an echo is not missed");
}

#[tokio::test]
async fn a_withheld_message_is_echoed_like_any_other() {
    let (alice, stranger) = (User::new("alice"), User::new("stranger"));
    let (mut phone, mut laptop) = (alice.connect_2().await, alice.connect_2().await);
    phone.send(&stranger, "hi").await;
    laptop.expect_private_to(&stranger, "hi").await;
    phone.send_group("nothing", "hi").await;
    laptop.expect_in_group("nothing", &alice, "hi").await;
}

#[tokio::test]
async fn group_messages_are_echoed_too() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut phone, mut laptop, mut member) = (alice.connect_2().await, alice.connect_2().await, bob.connect().await);
    phone.send_group(&group, "hi").await;
    laptop.expect_in_group(&group, &alice, "hi").await;
    member.expect_in_group(&group, &alice, "hi").await;
    phone.expect_nothing().await;
}

#[tokio::test]
async fn typing_reaches_friends_of_version_2() {
    let (alice, bob) = friends().await;
    let (mut sender, mut receiver, mut old) = (alice.connect_2().await, bob.connect_2().await, bob.connect().await);
    let typing = |to: &User| json!({ "type": "typing", "receiverId": to.id() }).to_string();
    sender.send_text(&typing(&bob)).await;
    receiver.expect_frame("TYPING", &json!({ "senderId": alice.id() })).await;
    old.expect_nothing().await;
    bob.block(&alice).await;
    sender.send_text(&typing(&bob)).await;
    sender.send_text(&typing(&User::new("nobody"))).await;
    sender.send(&bob, "later").await;
    receiver.expect_nothing().await;
    sender.expect_nothing().await;
}

#[tokio::test]
async fn malformed_typing_is_refused() {
    let mut alice = User::new("alice").connect_2().await;
    for (frame, named) in [
        (json!({ "type": "typing" }), "receiverId is missing"),
        (json!({ "type": "typing", "receiverId": "a b" }), "receiverId"),
        (json!({ "type": "typing", "receiverId": 7 }), "receiverId must be a string"),
    ] {
        alice.send_text(&frame.to_string()).await;
        alice.expect_error("bad_request", named).await;
    }
    let mut old = User::new("bob").connect().await;
    old.send_text(&json!({ "type": "typing", "receiverId": "alice" }).to_string()).await;
    old.expect_error("bad_request", "type must be").await;
}

#[tokio::test]
async fn invitations_and_changes_of_a_group_come_as_frames() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = alice.create_group("walkers").await;
    let (mut a, mut b, mut old) = (alice.connect_2().await, bob.connect_2().await, bob.connect().await);
    alice.invite(&bob, &group).await.empty();
    let id = bob.invitation().await.id;
    let fields = json!({
        "id": id, "groupName": "walkers", "groupId": group, "userId": bob.id(), "invitedBy": alice.id(),
    });
    b.expect_frame("INVITATION", &fields).await;
    bob.accept(&id).await.empty();
    let joined = json!({ "groupId": group, "event": "joined", "userId": bob.id() });
    a.expect_frame("GROUP", &joined).await;
    b.expect_frame("GROUP", &joined).await;
    alice.rename(&group, "runners").await.empty();
    let renamed = json!({ "groupId": group, "event": "renamed", "name": "runners" });
    a.expect_frame("GROUP", &renamed).await;
    b.expect_frame("GROUP", &renamed).await;
    alice.put(&format!("/api/group/{group}"), &[("managerId", bob.id())]).await.empty();
    let manager = json!({ "groupId": group, "event": "manager", "userId": bob.id() });
    a.expect_frame("GROUP", &manager).await;
    b.expect_frame("GROUP", &manager).await;
    bob.remove(&alice, &group).await.empty();
    let removed = json!({ "groupId": group, "event": "removed", "userId": alice.id() });
    a.expect_frame("GROUP", &removed).await;
    b.expect_frame("GROUP", &removed).await;
    bob.leave_group(&group).await.empty();
    b.expect_frame("GROUP", &json!({ "groupId": group, "event": "dissolved" })).await;
    a.expect_nothing().await;
    old.expect_nothing().await;
}

#[tokio::test]
async fn a_member_who_leaves_is_told_on_all_devices() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut leaver, mut stays) = (bob.connect_2().await, carol.connect_2().await);
    bob.leave_group(&group).await.empty();
    let left = json!({ "groupId": group, "event": "left", "userId": bob.id() });
    leaver.expect_frame("GROUP", &left).await;
    stays.expect_frame("GROUP", &left).await;
    alice.leave_group(&group).await.empty();
    stays.expect_frame("GROUP", &json!({ "groupId": group, "event": "dissolved" })).await;
    leaver.expect_nothing().await;
}

#[tokio::test]
async fn a_repeated_invitation_is_pushed_once() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = group_of(&alice, &[]).await;
    let mut device = bob.connect_2().await;
    for _ in 0..3 {
        alice.invite(&bob, &group).await.empty();
    }
    device.next("the invitation").await;
    device.expect_nothing().await;
}

#[tokio::test]
async fn a_withheld_invitation_is_not_pushed() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    bob.block(&alice).await;
    let group = group_of(&alice, &[]).await;
    let mut device = bob.connect_2().await;
    alice.invite(&bob, &group).await.empty();
    device.expect_nothing().await;
}

#[tokio::test]
async fn a_message_sent_by_rest_is_a_message_like_any_other() {
    let (alice, bob) = friends().await;
    let mut receiver = bob.connect().await;
    let frame = json!({ "type": "unicast", "receiverId": bob.id(), "content": "hi", "requestId": "r" });
    let first: serde_json::Value = alice.post_json("/api/message", &frame).await.json();
    let message = receiver.expect_private(&alice, "hi").await;
    assert_eq!(
        (json!(message.id()), json!(message.number("timestamp"))),
        (first["id"].clone(), first["timestamp"].clone())
    );
    let again: serde_json::Value = alice.post_json("/api/message", &frame).await.json();
    assert_eq!(first, again);
    receiver.expect_nothing().await;
    let other = json!({ "type": "unicast", "receiverId": bob.id(), "content": "other", "requestId": "r" });
    let refused = alice.post_json("/api/message", &other).await.refused(409, "requestId was used for another message");
    assert_eq!(refused.code.as_deref(), Some("request_id_reused"));
}

#[tokio::test]
async fn a_malformed_message_by_rest_is_refused_by_name() {
    let alice = User::new("alice");
    for (body, named) in [
        (json!({}), "type is missing"),
        (json!({ "type": "typing", "receiverId": "b" }), "type must be \"unicast\" or \"multicast\""),
        (json!({ "type": "unicast", "content": 1 }), "receiverId is missing"),
        (json!({ "type": "multicast", "groupId": "g" }), "content is missing"),
        (json!({ "type": "unicast", "receiverId": "b", "content": null }), "content must not be null"),
        (json!({ "type": "unicast", "receiverId": "b", "content": 1, "requestId": "" }), "requestId"),
    ] {
        let problem = alice.post_json("/api/message", &body).await.refused(400, named);
        assert_eq!(problem.code.as_deref(), Some("bad_request"));
    }
    let call = alice.call(reqwest::Method::POST, "/api/message");
    call.body("application/json", "hello").send().await.refused(400, "the body");
    let long = json!({ "type": "unicast", "receiverId": "b", "content": "x".repeat(32 * 1024) });
    alice.post_json("/api/message", &long).await.refused(400, "bytes long; the limit is 32768");
    let longer = json!({ "type": "unicast", "receiverId": "b", "content": "x".repeat(34 * 1024) });
    alice.post_json("/api/message", &longer).await.refused(413, "33792");
}
