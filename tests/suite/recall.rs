//! Section 7: recalls.

use serde_json::{Value, json};

use crate::world::User;
use crate::world::device::{new_request_id, unicast};
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, three_in_a_group};

/// Why a recall is refused.
const REFUSED: &str = "you may not recall this message";

#[tokio::test]
async fn a_recalled_message_is_gone_for_everybody() {
    let (alice, bob) = friends().await;
    let (mut phone, mut laptop) = (alice.connect_2().await, alice.connect_2().await);
    let (mut receiver, mut old) = (bob.connect_2().await, bob.connect().await);
    let id = phone.send(&bob, "oops").await.id;
    laptop.expect_private_to(&bob, "oops").await;
    receiver.expect_private(&alice, "oops").await;
    old.expect_private(&alice, "oops").await;
    let to = ("receiverId", bob.id());
    alice.recall(&id, to).await.empty();
    phone.expect_recall(&id, &alice, to).await;
    laptop.expect_recall(&id, &alice, to).await;
    receiver.expect_recall(&id, &alice, to).await;
    old.expect_nothing().await;
    for (reader, other) in [(&alice, &bob), (&bob, &alice)] {
        let history = reader
            .history_that(("userId", other.id()), |history| {
                history.messages.iter().any(|message| message.fields().contains(&"recalledAt"))
            })
            .await;
        assert_eq!(history.ids(), std::slice::from_ref(&id));
        let message = &history.messages[0];
        assert_eq!(
            message.fields(),
            ["id", "recalledAt", "receiverId", "senderId", "timestamp", "type"],
            "it has no content"
        );
    }
}

#[tokio::test]
async fn a_recalled_message_is_not_pulled() {
    let (alice, bob) = friends().await;
    let (oops, _) = (alice.send_by_rest(&bob, "oops").await, alice.send_by_rest(&bob, "hi").await);
    alice.recall(&oops.id, ("receiverId", bob.id())).await.empty();
    assert_eq!(bob.since(BEGINNING).await.contents(), [json!("hi")]);
    assert_eq!(bob.pull().await.contents(), [json!("hi")]);
}

#[tokio::test]
async fn a_client_that_was_away_learns_of_a_recall() {
    let (alice, bob) = friends().await;
    let first = alice.send_by_rest(&bob, "first").await;
    let oops = alice.send_by_rest(&bob, "oops").await;
    alice.recall(&oops.id, ("receiverId", bob.id())).await.empty();
    let since = [("drop", "false"), ("since", first.id.as_str()), ("version", "2")];
    let page = bob.pull_with(&since).await;
    let frames: Vec<Value> = page.messages().map(crate::world::Frame::as_json).collect();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0]["type"], "RECALLED");
    assert_eq!((&frames[0]["id"], &frames[0]["senderId"]), (&json!(oops.id), &json!(alice.id())));
    assert_eq!(frames[0]["receiverId"], bob.id());
    assert!(bob.since(&first.id).await.is_empty(), "version 1 gets no recall");
}

#[tokio::test]
async fn recalling_again_succeeds_and_changes_nothing() {
    let (alice, bob) = friends().await;
    let oops = alice.send_by_rest(&bob, "oops").await;
    let to = ("receiverId", bob.id());
    let (one, two) = futures::join!(alice.recall(&oops.id, to), alice.recall(&oops.id, to));
    one.empty();
    two.empty();
    alice.recall(&oops.id, to).await.empty();
    let history = alice.history_that(("userId", bob.id()), |history| history.contents().is_empty()).await;
    assert_eq!(history.ids(), [oops.id]);
}

#[tokio::test]
async fn a_repeat_of_the_send_does_not_undo_a_recall() {
    let (alice, bob) = friends().await;
    let mut device = alice.connect().await;
    let (request, text) = (new_request_id(), |request: &str| unicast(bob.id(), Some(request), r#""oops""#));
    device.send_text(&text(&request)).await;
    let id = device.expect_ack(&request).await.id;
    alice.recall(&id, ("receiverId", bob.id())).await.empty();
    device.send_text(&text(&request)).await;
    assert_eq!(device.expect_ack(&request).await.id, id);
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn a_withheld_message_is_recalled_like_any_other() {
    let (alice, bob) = friends().await;
    bob.block(&alice).await;
    let (mut device, mut receiver) = (alice.connect_2().await, bob.connect_2().await);
    let oops = alice.send_by_rest(&bob, "oops").await;
    device.expect_private_to(&bob, "oops").await;
    let to = ("receiverId", bob.id());
    alice.recall(&oops.id, to).await.empty();
    device.expect_recall(&oops.id, &alice, to).await;
    receiver.expect_nothing().await;
    let history = alice.history_that(("userId", bob.id()), |history| history.contents().is_empty()).await;
    assert_eq!(history.ids(), [oops.id]);
    bob.unblock(&alice).await;
    assert!(bob.history(("userId", alice.id()), &[]).await.ids().is_empty());
    assert!(bob.pull_with(&[("drop", "false"), ("since", BEGINNING), ("version", "2")]).await.is_empty());
}

#[tokio::test]
async fn the_recall_of_a_withheld_message_tells_its_receiver_nothing_after_the_block() {
    let (alice, bob) = friends().await;
    bob.block(&alice).await;
    let withheld = alice.send_by_rest(&bob, "withheld").await;
    bob.unblock(&alice).await;
    let (mut sender, mut receiver) = (alice.connect_2().await, bob.connect_2().await);
    let to = ("receiverId", bob.id());
    alice.recall(&withheld.id, to).await.empty();
    sender.expect_recall(&withheld.id, &alice, to).await;
    receiver.expect_nothing().await;
    assert!(bob.pull_with(&[("drop", "false"), ("since", BEGINNING), ("version", "2")]).await.is_empty());
}

#[tokio::test]
async fn a_group_with_many_connections_learns_of_a_recall_on_each() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut sender = alice.connect_2().await;
    let mut devices = Vec::new();
    for user in [&bob, &carol] {
        for _ in 0..30 {
            devices.push(user.connect_2().await);
        }
    }
    let id = sender.send_group(&group, "oops").await.id;
    let to = ("groupId", group.as_str());
    alice.recall(&id, to).await.empty();
    for device in &mut devices {
        device.expect_in_group(&group, &alice, "oops").await;
        device.expect_recall(&id, &alice, to).await;
    }
}

#[tokio::test]
async fn a_member_recalls_own_messages_and_the_manager_all() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut manager, mut member) = (alice.connect_2().await, bob.connect_2().await);
    let id = member.send_group(&group, "oops").await.id;
    manager.expect_in_group(&group, &bob, "oops").await;
    let to = ("groupId", group.as_str());
    carol.recall(&id, to).await.refused(403, REFUSED);
    bob.recall(&id, to).await.empty();
    manager.expect_recall(&id, &bob, to).await;
    member.expect_recall(&id, &bob, to).await;
    let second = member.send_group(&group, "worse").await.id;
    manager.expect_in_group(&group, &bob, "worse").await;
    alice.recall(&second, to).await.empty();
    manager.expect_recall(&second, &bob, to).await;
    member.expect_recall(&second, &bob, to).await;
    let history = carol.history_that(to, |history| history.contents().is_empty()).await;
    assert_eq!(history.ids(), [id.clone(), second.clone()]);
    // The sender, who may have been away, learns what the manager has recalled.
    let since = [("drop", "false"), ("since", BEGINNING), ("version", "2")];
    assert_eq!(bob.pull_with(&since).await.sorted_ids(), [id, second]);
    assert!(carol.pull().await.is_empty());
}

#[tokio::test]
async fn what_may_not_be_recalled_is_refused_alike() {
    let (alice, bob) = friends().await;
    let message = alice.send_by_rest(&bob, "hi").await;
    let (to_bob, to_alice) = (("receiverId", bob.id()), ("receiverId", alice.id()));
    let refused = async |user: &User, id: &str, to| user.recall(id, to).await.refused(403, REFUSED);
    let of_another = refused(&bob, &message.id, to_alice).await;
    assert_eq!(refused(&bob, &message.id, to_bob).await, of_another);
    assert_eq!(refused(&alice, &message.id, to_alice).await, of_another);
    assert_eq!(refused(&alice, BEGINNING, to_bob).await, of_another);
    assert_eq!(refused(&alice, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", to_bob).await, of_another);
    assert_eq!(refused(&alice, &message.id, ("groupId", "nothing")).await, of_another);
    alice.recall("x", to_bob).await.refused(400, "id");
    alice.delete(&format!("/api/message/{}", message.id), &[]).await.refused(400, "receiverId or groupId is missing");
    let both = [to_bob, ("groupId", "g")];
    alice.delete(&format!("/api/message/{}", message.id), &both).await.refused(400, "groupId does not go with");
    bob.expect_history(("userId", alice.id()), &[json!("hi")]).await;
}

#[tokio::test]
async fn nothing_of_a_dissolved_group_is_recalled() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let id = bob.connect().await.send_group(&group, "hi").await.id;
    alice.leave_group(&group).await.empty();
    bob.recall(&id, ("groupId", &group)).await.refused(403, REFUSED);
}
