//! Section 2: rules for every frame and for several sockets of a user.

use futures::future::join_all;
use serde_json::json;

use crate::world::device::{Device, multicast, new_request_id, unicast};
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, friends_online, group_of};
use crate::world::{Claims, User, once};

/// The longest frame.
const MAX_FRAME_BYTES: usize = 32 * 1024;

/// The most sockets that a user may have open.
const MAX_SOCKETS: usize = 32;

/// Malformed frames, and the field that the error names.
fn malformed() -> Vec<(String, &'static str)> {
    let long = "x".repeat(129);
    let mut frames: Vec<(String, &'static str)> = [
        ("hello", ""),
        ("{", ""),
        (r#"{"type":"unicast","receiverId":"u","content":1"#, ""),
        (r#"{"type":"unicast","receiverId":"u","content":1} x"#, ""),
        (r#"{"type":"unicast","receiverId":"u","content":01}"#, ""),
        ("[]", "object"),
        (r#""unicast""#, "object"),
        ("7", "object"),
        ("null", "object"),
        ("{}", "type"),
        (r#"{"receiverId":"u","content":1}"#, "type"),
        (r#"{"type":"shout","receiverId":"u","content":1}"#, "type"),
        (r#"{"type":"UNICAST","receiverId":"u","content":1}"#, "type"),
        (r#"{"type":"ACK","receiverId":"u","content":1}"#, "type"),
        (r#"{"type":null,"receiverId":"u","content":1}"#, "type"),
        (r#"{"type":["unicast"],"receiverId":"u","content":1}"#, "type"),
        (r#"{"type":"unicast","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":null,"content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":7,"content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":["u"],"content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":"","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":"a b","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":"a/b","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":"é","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":".","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":"..","groupId":"g","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","groupId":"g","content":1}"#, ""),
        (r#"{"type":"multicast","content":1}"#, "groupId"),
        (r#"{"type":"multicast","groupId":null,"content":1}"#, "groupId"),
        (r#"{"type":"multicast","groupId":7,"content":1}"#, "groupId"),
        (r#"{"type":"multicast","groupId":"","content":1}"#, "groupId"),
        (r#"{"type":"multicast","groupId":"a#b","content":1}"#, "groupId"),
        (r#"{"type":"unicast","receiverId":"u"}"#, "content"),
        (r#"{"type":"unicast","receiverId":"u","content":null}"#, "content"),
        (r#"{"type":"multicast","groupId":"g","content":null}"#, "content"),
        (r#"{"type":"unicast","receiverId":"u","content":1,"content":2}"#, "content"),
        (r#"{"type":"unicast","receiverId":"u","receiverId":"v","content":1}"#, "receiverId"),
        (r#"{"type":"unicast","receiverId":"u","content":1,"requestId":""}"#, "requestId"),
        (r#"{"type":"unicast","receiverId":"u","content":1,"requestId":7}"#, "requestId"),
        (r#"{"type":"unicast","receiverId":"u","content":"\ud800"}"#, "content"),
        (r#"{"type":"unicast","receiverId":"u","content":{"\udfff":1}}"#, "content"),
    ]
    .map(|(frame, named)| (frame.to_owned(), named))
    .into();
    frames.push((unicast(&long, None, "1"), "receiverId"));
    frames
}

#[tokio::test]
async fn a_malformed_frame_gets_an_error_and_keeps_the_socket_open() {
    let (mut alice, mut bob) = friends_online().await;
    for (frame, named) in malformed() {
        alice.send_text(&frame).await;
        alice.expect_error("bad_request", named).await;
    }
    alice.send(&bob, "still here").await;
    bob.expect_private(&alice, "still here").await;
}

#[tokio::test]
async fn an_error_carries_the_request_id_of_its_frame() {
    let mut alice = User::new("alice").connect().await;
    for frame in [
        r#"{"type":"unicast","content":1,"requestId":"mine"}"#,
        r#"{"type":"unicast","receiverId":"a b","content":1,"requestId":"mine"}"#,
        r#"{"type":"multicast","groupId":"g","requestId":"mine"}"#,
        r#"{"type":"shout","requestId":"mine"}"#,
        r#"{"content":1,"content":2,"requestId":"mine"}"#,
        r#"{"requestId":"mine","type":"unicast","receiverId":"#,
    ] {
        alice.send_text(frame).await;
        assert_eq!(alice.expect_error("bad_request", "").await.text("requestId"), "mine", "{frame}");
    }
    alice.send_text("{}").await;
    assert_eq!(alice.expect_error("bad_request", "").await.fields(), ["code", "message", "type"]);
}

#[tokio::test]
async fn unneeded_fields_may_have_any_value() {
    let (mut alice, mut bob) = friends_online().await;
    let group = group_of(&alice, &[&bob]).await;
    for other in ["null", r#""""#, r#""a b""#, "7", "[]", r#""somebody""#] {
        let (bob_id, end) = (bob.id(), r#""content":1,"requestId":null"#);
        let frame = format!(r#"{{"type":"unicast","receiverId":"{bob_id}","groupId":{other},{end}}}"#);
        alice.send_text(&frame).await;
        bob.expect_private(&alice, 1).await;
        let frame = format!(r#"{{"type":"multicast","groupId":"{group}","receiverId":{other},{end}}}"#);
        alice.send_text(&frame).await;
        bob.expect_in_group(&group, &alice, 1).await;
    }
}

#[tokio::test]
async fn a_malformed_frame_is_not_stored() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    let good = unicast(bob.id(), Some("once"), "1");
    for bad in [
        good.replace(r#""content":1"#, r#""content":null"#),
        good.replace(r#""content":1"#, r#""content":1,"content":2"#),
        good.replacen('{', r#"{"type":"unicast","#, 1),
        good.replace(r#""content":1"#, r#""content":"\ud800""#),
        good.replacen('{', r#"{"receiverId":"bob","#, 1),
        format!("{good}}}"),
    ] {
        alice.send_text(&bad).await;
        alice.expect_error("bad_request", "").await;
    }
    assert!(bob.since(BEGINNING).await.is_empty());
    alice.send_text(&good).await;
    let accepted = alice.expect_ack("once").await;
    assert_eq!(bob.pull().await.ids(), [accepted.id]);
}

/// The field need not be given, so a client may give anything in it.
#[tokio::test]
async fn the_address_of_the_other_kind_is_not_read() {
    let (alice, bob) = friends().await;
    let group = group_of(&alice, &[&bob]).await;
    let (mut alice, mut bob_online) = (alice.connect().await, bob.connect().await);
    for other in ["null", "\"\"", "\"a b\"", "7", "{}"] {
        for (frame, field) in
            [(unicast(bob.id(), Some("r"), other), "groupId"), (multicast(&group, Some("r"), other), "receiverId")]
        {
            let request_id = new_request_id();
            let frame =
                frame.replacen('{', &format!("{{\"{field}\":{other},"), 1).replace("\"r\"", &format!("{request_id:?}"));
            let frame = frame.replace(&format!("\"content\":{other}"), "\"content\":1");
            alice.send_text(&frame).await;
            alice.expect_ack(&request_id).await;
            assert_eq!(bob_online.next("the message").await.raw("content"), "1");
        }
    }
    let frame = unicast(bob.id(), None, "2").replacen('{', "{\"requestId\":null,", 1);
    alice.send_text(&frame).await;
    assert_eq!(bob_online.next("the message").await.raw("content"), "2");
    alice.expect_nothing().await;
}

/// A private message of exactly this many bytes.
fn message_of(bytes: usize, receiver: &User, request_id: &str) -> String {
    let envelope = unicast(receiver.id(), Some(request_id), r#""""#).len();
    unicast(receiver.id(), Some(request_id), &format!("\"{}\"", "x".repeat(bytes - envelope)))
}

#[tokio::test]
async fn a_frame_of_32_kib_is_accepted() {
    let (mut alice, mut bob) = friends_online().await;
    let request_id = new_request_id();
    let text = message_of(MAX_FRAME_BYTES, &bob, &request_id);
    assert_eq!(text.len(), MAX_FRAME_BYTES);
    alice.send_text(&text).await;
    let accepted = alice.expect_ack(&request_id).await;
    assert_eq!(bob.next("the longest message").await.id(), accepted.id);
}

#[tokio::test]
async fn a_message_over_32_kib_is_refused_and_the_socket_stays_open() {
    let (mut alice, mut bob) = friends_online().await;
    for bytes in [MAX_FRAME_BYTES + 1, 40 * 1024, 100 * 1024] {
        let text = message_of(bytes, &bob, "too-long");
        let fragments: Vec<&str> = text.as_bytes().chunks(30_000).map(|c| std::str::from_utf8(c).unwrap()).collect();
        alice.send_fragments(&fragments).await;
        let refused = alice.expect_error("bad_request", &bytes.to_string()).await;
        assert_eq!(refused.text("requestId"), "too-long");
    }
    alice.send(&bob, "short").await;
    bob.expect_private(&alice, "short").await;
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message() {
    let (mut alice, mut bob) = friends_online().await;
    let text = unicast(bob.id(), None, r#"["in", "three", "parts"]"#);
    let (first, rest) = text.split_at(10);
    let (second, third) = rest.split_at(10);
    alice.send_fragments(&[first, second, third]).await;
    bob.expect_private(&alice, json!(["in", "three", "parts"])).await;
}

#[tokio::test]
async fn a_ping_is_not_answered() {
    let (mut alice, mut bob) = friends_online().await;
    for ping in [r#"{"type":"ping"}"#, r#"{ "type" : "ping" }"#, r#"{"type":"ping","requestId":"r"}"#] {
        alice.send_text(ping).await;
    }
    alice.send(&bob, "hi").await;
    alice.expect_nothing().await;
    bob.expect_private(&alice, "hi").await;
}

/// API Gateway may take the frame to the function of that event. The function must change nothing. Then the answer to the
/// frame is not sent. Otherwise it is an `ERROR`.
#[tokio::test]
async fn a_frame_with_the_type_of_an_event_neither_opens_nor_ends_a_connection() {
    let (mut alice, mut bob) = friends_online().await;
    for kind in ["$disconnect", "$connect", "$default"] {
        bob.send_text(&json!({ "type": kind }).to_string()).await;
        alice.send(&bob, kind).await;
        let mut frame = bob.next("the message").await;
        while frame.says("type", "ERROR") {
            frame = bob.next("the message").await;
        }
        assert_eq!(frame.content(), kind);
    }
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn each_socket_of_a_user_gets_every_message() {
    let (alice, bob) = friends().await;
    let (mut alice, mut phone) = (alice.connect().await, bob.connect().await);
    let (mut laptop, mut tab) = (bob.connect().await, bob.connect().await);
    for n in 0..3 {
        alice.send(&bob, n).await;
        for device in [&mut phone, &mut laptop, &mut tab] {
            device.expect_private(&alice, n).await;
        }
    }
}

#[tokio::test]
async fn a_message_that_each_open_socket_received_is_not_missed() {
    let (alice, bob) = friends().await;
    let (mut alice, phone, mut laptop) = (alice.connect().await, bob.connect().await, bob.connect().await);
    phone.leave().await;
    // Until the server has recorded that the phone left, the phone's messages count as missed.
    once("nothing missed", async |number| {
        alice.send(&bob, number).await;
        laptop.expect_private(&alice, number).await;
        bob.pull().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn answers_go_only_to_the_socket_that_sent() {
    let (alice, bob) = friends().await;
    let (mut phone, mut laptop) = (alice.connect().await, alice.connect().await);
    phone.send(&bob, "hi").await;
    phone.send_text("{}").await;
    phone.expect_error("bad_request", "type").await;
    laptop.expect_nothing().await;
}

/// Opens as many sockets as a user may have, and returns them in order.
async fn all_sockets(user: &User) -> Vec<Device> {
    let mut devices = Vec::new();
    for _ in 0..MAX_SOCKETS {
        devices.push(user.connect().await);
    }
    devices
}

#[tokio::test]
async fn a_user_may_have_32_sockets() {
    let (alice, bob) = friends().await;
    let mut devices = all_sockets(&bob).await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "to all").await;
    join_all(devices.iter_mut().map(|device| device.expect_private(&alice, "to all"))).await;
}

#[tokio::test]
async fn the_33rd_socket_closes_the_oldest() {
    let (alice, bob) = friends().await;
    let mut devices = all_sockets(&bob).await;
    devices.push(bob.connect().await);
    let mut oldest = devices.remove(0);
    oldest.expect_error("too_many_connections", "32").await;
    oldest.expect_close().await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "to all").await;
    join_all(devices.iter_mut().map(|device| device.expect_private(&alice, "to all"))).await;
}

#[tokio::test]
async fn closing_a_socket_makes_room_for_another() {
    let (alice, bob) = friends().await;
    let mut devices = all_sockets(&bob).await;
    devices.remove(0).leave().await;
    let mut again = bob.connect().await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "to all").await;
    again.expect_private(&alice, "to all").await;
    join_all(devices.iter_mut().map(|device| device.expect_private(&alice, "to all"))).await;
}

#[tokio::test]
async fn sockets_of_one_user_may_have_different_tokens() {
    let (alice, bob) = friends().await;
    let other = Claims::of(bob.id()).with("jti", "another").signed(&bob.deployment().secret);
    let (mut phone, mut laptop) = (bob.connect().await, bob.with_token(other).connect().await);
    let mut alice = alice.connect().await;
    alice.send(&bob, "hi").await;
    phone.expect_private(&alice, "hi").await;
    laptop.expect_private(&alice, "hi").await;
}
