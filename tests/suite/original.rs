//! A front end that knows only the original API: its frames and calls, with no parameter or field besides. It works
//! unchanged while its friends use version 2.

use serde_json::{Value, json};

use crate::world::scene::friends;
use crate::world::{Device, User};

/// A frame of the original API for a private message.
fn to_user(user: &User, content: &str) -> String {
    json!({ "type": "unicast", "receiverId": user.id(), "content": content }).to_string()
}

/// A frame of the original API for a group message.
fn to_group(group: &str, content: &str) -> String {
    json!({ "type": "multicast", "groupId": group, "content": content }).to_string()
}

#[tokio::test]
async fn an_original_front_end_chats_while_its_friend_uses_version_2() {
    let (alice, bob) = friends().await;
    let (mut old, mut new) = (alice.connect().await, bob.connect_2().await);
    old.send_text(&to_user(&bob, "hi")).await;
    let id = new.expect_private(&alice, "hi").await.id();
    // Everything that version 2 adds: nothing of it reaches the old front end.
    new.send_text(&json!({ "type": "typing", "receiverId": alice.id() }).to_string()).await;
    bob.mark_read(("userId", alice.id()), &id).await.empty();
    let recalled = bob.send_by_rest(&alice, "oops").await;
    old.expect_private(&bob, "oops").await;
    bob.recall(&recalled.id, ("receiverId", alice.id())).await.empty();
    old.expect_nothing().await;
    new.frames_until_sentinel().await;
    new.send(&alice, "hello").await;
    old.expect_private(&bob, "hello").await;
    assert!(old.leave().await.is_empty());
}

#[tokio::test]
async fn an_original_front_end_reads_what_it_missed() {
    let (alice, bob) = friends().await;
    for content in ["one", "two"] {
        bob.send_by_rest(&alice, content).await;
    }
    for (parameters, contents) in [
        (&[("drop", "false")][..], &["one", "two"][..]),
        (&[("sort", "desc"), ("drop", "false"), ("type", "all")], &["two", "one"]),
        (&[("sort", "asc"), ("drop", "false"), ("type", "multicast")], &[]),
        (&[("type", "unicast")], &["one", "two"]),
        (&[], &[]),
    ] {
        let page: Value = alice.get("/api/message", parameters).await.json();
        let senders = page.as_array().expect("an array");
        let messages = senders.iter().flat_map(|sender| {
            assert_eq!(sender["id"], bob.id());
            sender["messages"].as_array().expect("messages").clone()
        });
        let read: Vec<Value> = messages.map(|message| message["content"].clone()).collect();
        assert_eq!(read, contents, "{parameters:?}");
    }
    alice.get("/api/message", &[("sort", "up")]).await.refused(400, "sort");
}

#[tokio::test]
async fn an_original_front_end_manages_groups() {
    let (alice, bob) = friends().await;
    let group: String = alice.post("/api/group", &[("name", "team")]).await.json();
    alice.put(&format!("/api/group/{group}"), &[("name", "the team")]).await.empty();
    alice.post_json("/api/request", &json!({ "groupId": group, "userId": bob.id() })).await.empty();
    let invitations: Value = bob.get("/api/request", &[]).await.json();
    let invitation = &invitations[0];
    assert_eq!(invitation["groupName"], "the team");
    assert_eq!((&invitation["groupId"], &invitation["userId"]), (&json!(group), &json!(bob.id())));
    assert_eq!(invitation["invitedBy"], alice.id());
    let request = invitation["id"].as_str().expect("an id");
    bob.put(&format!("/api/request/{request}"), &[]).await.empty();
    let shown: Value = bob.get(&format!("/api/group/{group}"), &[]).await.json();
    assert_eq!((&shown["name"], &shown["managerId"]), (&json!("the team"), &json!(alice.id())));
    assert_eq!(shown["usersId"].as_array().expect("members").len(), 2);
    let ids: Value = bob.get("/api/group", &[("detailed", "false")]).await.json();
    assert_eq!(ids, json!([group]));
    assert_eq!(bob.get("/api/group", &[]).await.json::<Value>(), json!([shown]));

    let (mut a, mut b): (Device, Device) = (alice.connect().await, bob.connect().await);
    a.send_text(&to_group(&group, "hi, team")).await;
    b.expect_in_group(&group, &alice, "hi, team").await;
    bob.delete(&format!("/api/group/{group}"), &[("userId", alice.id())]).await.refused(403, "");
    alice.delete(&format!("/api/group/{group}"), &[("userId", bob.id())]).await.empty();
    bob.get(&format!("/api/group/{group}"), &[]).await.refused(403, "");
    alice.delete(&format!("/api/group/{group}"), &[]).await.empty();
    assert_eq!(alice.get("/api/group", &[]).await.json::<Value>(), json!([]));
    a.expect_nothing().await;
    b.expect_nothing().await;
}

#[tokio::test]
async fn an_original_front_end_shows_notifications() {
    let alice = User::new("alice");
    let mut old = alice.connect().await;
    let body = json!({ "notificationType": "like", "content": { "by": "bob" } });
    alice.back_end().notify(&[("to", alice.id())], &body).await.empty();
    old.expect_notification(&body).await;
}
