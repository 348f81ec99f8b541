//! Section 5: notifications from the business back end.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::page::BEGINNING;
use crate::world::scene::{friends, group_of, three_in_a_group};
use crate::world::{Api, BackEnd, Call, User};

/// The notification that most tests send.
fn like() -> Value {
    json!({"notificationType": "like", "content": {"post": 7}})
}

#[tokio::test]
async fn a_notification_reaches_one_user() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    BackEnd::new().notify(&[("to", alice.id())], &like()).await.empty();
    alice.expect_notification(&like()).await;
    BackEnd::new().notify(&[("type", "unicast"), ("to", alice.id())], &like()).await.empty();
    alice.expect_notification(&like()).await;
    bob.expect_nothing().await;
}

#[tokio::test]
async fn a_notification_reaches_every_socket_of_a_user() {
    let alice = User::new("alice");
    let (mut phone, mut laptop) = (alice.connect().await, alice.connect().await);
    BackEnd::new().notify(&[("to", alice.id())], &like()).await.empty();
    phone.expect_notification(&like()).await;
    laptop.expect_notification(&like()).await;
}

#[tokio::test]
async fn a_notification_keeps_its_fields_and_gains_a_type() {
    let mut alice = User::new("alice").connect().await;
    for body in [
        json!({"notificationType": "like", "content": "text"}),
        json!({"notificationType": "like", "content": null}),
        json!({"notificationType": "", "content": [1, {"a": []}], "count": 3, "from": "the body's own", "x": {"y": []}}),
    ] {
        BackEnd::new().notify(&[("to", alice.id())], &body).await.empty();
        alice.expect_notification(&body).await;
    }
}

#[tokio::test]
async fn the_body_cannot_set_the_type_of_a_notification() {
    let mut alice = User::new("alice").connect().await;
    let posing = json!({"notificationType": "like", "content": 1, "type": "unicast", "senderId": "bob"});
    BackEnd::new().notify(&[("to", alice.id())], &posing).await.empty();
    let frame = alice.expect_notification(&posing).await;
    assert_eq!(frame.text("type"), "NOTIFICATION");
}

#[tokio::test]
async fn a_notification_is_kept_byte_for_byte() {
    let mut alice = User::new("alice").connect().await;
    for spelling in crate::private::ODD_SPELLINGS {
        let body = format!(r#"{{"notificationType":"odd","content":{spelling},"extra":{spelling}}}"#);
        let call = BackEnd::new().call(Method::POST, "/notification").param("to", alice.id());
        call.body("application/json", &body).send().await.empty();
        let frame = alice.next("the odd notification").await;
        assert_eq!((frame.raw("content"), frame.raw("extra")), (spelling, spelling));
    }
}

#[tokio::test]
async fn friendship_is_not_required() {
    let (mut alice, bob) = (User::new("alice").connect().await, User::new("bob"));
    BackEnd::new().notify(&[("to", alice.id()), ("from", bob.id())], &like()).await.empty();
    alice.expect_notification(&like()).await;
}

#[tokio::test]
async fn a_user_who_blocks_from_gets_no_notification() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    let mut alice = alice.connect().await;
    BackEnd::new().notify(&[("to", alice.id()), ("from", bob.id())], &like()).await.empty();
    alice.expect_nothing().await;
}

#[tokio::test]
async fn without_from_everyone_gets_it() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    let mut alice = alice.connect().await;
    BackEnd::new().notify(&[("to", alice.id())], &like()).await.empty();
    alice.expect_notification(&like()).await;
}

#[tokio::test]
async fn a_user_whom_from_blocks_gets_the_notification() {
    let (alice, bob) = friends().await;
    bob.block(&alice).await;
    let mut alice = alice.connect().await;
    BackEnd::new().notify(&[("to", alice.id()), ("from", bob.id())], &like()).await.empty();
    alice.expect_notification(&like()).await;
}

#[tokio::test]
async fn a_multicast_notification_reaches_all_members() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut outsider = User::new("outsider").connect().await;
    let (mut alice, mut bob, mut carol) = (alice.connect().await, bob.connect().await, carol.connect().await);
    BackEnd::new().notify(&[("type", "multicast"), ("to", &group)], &like()).await.empty();
    for member in [&mut alice, &mut bob, &mut carol] {
        member.expect_notification(&like()).await;
    }
    outsider.expect_nothing().await;
}

#[tokio::test]
async fn members_who_block_from_do_not_get_a_multicast_notification() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let outsider = User::new("outsider");
    bob.block(&outsider).await;
    let (mut alice, mut bob, mut carol) = (alice.connect().await, bob.connect().await, carol.connect().await);
    let params = [("type", "multicast"), ("to", &group), ("from", outsider.id())];
    BackEnd::new().notify(&params, &like()).await.empty();
    alice.expect_notification(&like()).await;
    carol.expect_notification(&like()).await;
    bob.expect_nothing().await;
}

/// A deployment with a low limit for large groups sends this notification through its queue.
#[tokio::test]
async fn a_multicast_notification_reaches_each_of_a_dozen_members() {
    let (alice, others, stranger) = (User::new("alice"), [(); 11].map(|()| User::new("member")), User::new("stranger"));
    let group = group_of(&alice, &others.each_ref()).await;
    let [blocker, first, second, ..] = &others;
    blocker.block(&stranger).await;
    let mut devices = [alice.connect().await, first.connect().await, first.connect().await, second.connect().await];
    let mut unmoved = blocker.connect().await;
    let params = [("type", "multicast"), ("to", &group), ("from", stranger.id())];
    BackEnd::new().notify(&params, &like()).await.empty();
    for device in &mut devices {
        device.expect_notification(&like()).await;
    }
    unmoved.expect_nothing().await;
}

#[tokio::test]
async fn a_broadcast_reaches_all_friends() {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    alice.befriend(&bob).await;
    carol.befriend(&alice).await;
    let mut stranger = User::new("stranger").connect().await;
    let (mut sender, mut bob, mut carol) = (alice.connect().await, bob.connect().await, carol.connect().await);
    BackEnd::new().notify(&[("type", "broadcast"), ("from", alice.id())], &like()).await.empty();
    bob.expect_notification(&like()).await;
    carol.expect_notification(&like()).await;
    stranger.expect_nothing().await;
    sender.expect_nothing().await;
}

#[tokio::test]
async fn friends_who_block_from_do_not_get_a_broadcast() {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    alice.befriend(&bob).await;
    alice.befriend(&carol).await;
    bob.block(&alice).await;
    let (mut bob, mut carol) = (bob.connect().await, carol.connect().await);
    BackEnd::new().notify(&[("type", "broadcast"), ("from", alice.id())], &like()).await.empty();
    carol.expect_notification(&like()).await;
    bob.expect_nothing().await;
}

#[tokio::test]
async fn a_notification_is_never_stored() {
    let (alice, bob, _, group) = three_in_a_group().await;
    alice.befriend(&bob).await;
    let back_end = BackEnd::new();
    back_end.notify(&[("to", bob.id())], &like()).await.empty();
    back_end.notify(&[("type", "multicast"), ("to", &group)], &like()).await.empty();
    back_end.notify(&[("type", "broadcast"), ("from", alice.id())], &like()).await.empty();
    assert!(bob.pull().await.is_empty());
    assert!(bob.since(BEGINNING).await.is_empty());
    bob.connect().await.expect_nothing().await;
}

#[tokio::test]
async fn notifying_an_unknown_user_succeeds() {
    BackEnd::new().notify(&[("to", User::new("nobody").id())], &like()).await.empty();
    BackEnd::new().notify(&[("type", "broadcast"), ("from", User::new("nobody").id())], &like()).await.empty();
}

#[tokio::test]
async fn a_wrong_parameter_is_a_403_that_names_it() {
    let mut alice = User::new("alice").connect().await;
    let id = alice.id().to_owned();
    let long = "x".repeat(129);
    for (params, named) in [
        (&[][..], "to"),
        (&[("type", "unicast")], "to"),
        (&[("type", "multicast")], "to"),
        (&[("to", "")], "to"),
        (&[("to", "a b")], "to"),
        (&[("to", &long)], "to"),
        (&[("type", "multicast"), ("to", "a/b")], "to"),
        (&[("type", "shout"), ("to", &id)], "type"),
        (&[("type", ""), ("to", &id)], "type"),
        (&[("type", "broadcast")], "from"),
        (&[("type", "broadcast"), ("from", "")], "from"),
        (&[("type", "broadcast"), ("from", "a b")], "from"),
        (&[("to", &id), ("from", "a b")], "from"),
        (&[("type", "broadcast"), ("from", &id), ("to", &id)], "to"),
    ] {
        BackEnd::new().notify(params, &like()).await.refused(403, named);
    }
    alice.expect_nothing().await;
}

#[tokio::test]
async fn a_wrong_body_is_a_403_that_names_the_field() {
    let mut alice = User::new("alice").connect().await;
    for (body, named) in [
        ("", ""),
        ("{", ""),
        ("hello", ""),
        ("[]", ""),
        ("null", ""),
        (r#""like""#, ""),
        ("{}", "notificationType"),
        (r#"{"content":1}"#, "notificationType"),
        (r#"{"notificationType":null,"content":1}"#, "notificationType"),
        (r#"{"notificationType":7,"content":1}"#, "notificationType"),
        (r#"{"notificationType":"like"}"#, "content"),
    ] {
        let call = BackEnd::new().call(Method::POST, "/notification").param("to", alice.id());
        call.body("application/json", body).send().await.refused(403, named);
    }
    alice.expect_nothing().await;
}

#[tokio::test]
async fn only_post_sends_a_notification() {
    let answer = BackEnd::new().call(Method::GET, "/notification").param("to", "alice").send().await;
    assert!(matches!(answer.status, 404 | 405), "{answer:?}");
}

#[tokio::test]
async fn the_public_address_has_no_notifications() {
    let mut alice = User::new("alice").connect().await;
    let target = alice.id().to_owned();
    for path in ["/notification", "/api/notification", "/ws/notification"] {
        let answer = alice.call(Method::POST, path).param("to", &target).json(&like()).send().await;
        assert!(matches!(answer.status, 403..=405), "{answer:?}");
    }
    alice
        .send_text(&format!(r#"{{"type":"NOTIFICATION","notificationType":"like","content":1,"to":"{target}"}}"#))
        .await;
    alice.expect_error("bad_request", "type").await;
    alice.expect_nothing().await;
}

#[tokio::test]
async fn the_public_address_has_no_management_of_connections() {
    let alice = User::new("alice");
    for path in ["/@connections/x", "/ws/@connections/x", "/2015-03-31/functions/notification/invocations"] {
        let http = reqwest::Client::new();
        let answer =
            Call::new(&http, Method::POST, (Api::Public, &alice.deployment().public), path).json(&like()).send().await;
        assert!(matches!(answer.status, 403..=405), "{answer:?}");
    }
}

#[tokio::test]
async fn a_direct_invocation_sends_a_notification() {
    let (alice, bob, _, group) = three_in_a_group().await;
    alice.befriend(&bob).await;
    let mut bob = bob.connect().await;
    for address in [
        json!({"to": bob.id()}),
        json!({"to": bob.id(), "type": "unicast", "from": alice.id()}),
        json!({"to": group, "type": "multicast"}),
        json!({"from": alice.id(), "type": "broadcast"}),
    ] {
        let mut payload = address;
        payload["notificationType"] = json!("like");
        payload["content"] = json!({"post": 7});
        assert_eq!(BackEnd::new().invoke("notification", &payload).await.unwrap(), Value::Null);
        bob.expect_notification(&like()).await;
    }
}

#[tokio::test]
async fn a_direct_invocation_keeps_additional_fields() {
    let mut alice = User::new("alice").connect().await;
    let payload = json!({"to": alice.id(), "notificationType": "like", "content": 1, "count": 3});
    BackEnd::new().invoke("notification", &payload).await.unwrap();
    alice.expect_notification(&json!({"notificationType": "like", "content": 1, "count": 3})).await;
}

#[tokio::test]
async fn a_user_who_blocks_from_gets_no_direct_notification() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    let mut alice = alice.connect().await;
    let payload = json!({"to": alice.id(), "from": bob.id(), "notificationType": "like", "content": 1});
    BackEnd::new().invoke("notification", &payload).await.unwrap();
    alice.expect_nothing().await;
}

#[tokio::test]
async fn a_mistake_in_a_direct_invocation_is_named() {
    for (payload, named) in [
        (json!({"notificationType": "like", "content": 1}), "to"),
        (json!({"to": "a b", "notificationType": "like", "content": 1}), "to"),
        (json!({"to": "alice", "type": "shout", "notificationType": "like", "content": 1}), "type"),
        (json!({"type": "broadcast", "notificationType": "like", "content": 1}), "from"),
        (json!({"to": "alice", "content": 1}), "notificationType"),
        (json!({"to": "alice", "notificationType": "like"}), "content"),
    ] {
        let refusal = BackEnd::new().invoke("notification", &payload).await.expect_err("a mistake is refused");
        assert_eq!(refusal.error_type, "Forbidden", "{payload}");
        assert!(refusal.error_message.contains(named), "{payload}: {refusal:?}");
    }
}
