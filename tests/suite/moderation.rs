//! Section 4: handing over a group, and muting its members.

use serde_json::json;

use crate::world::User;
use crate::world::device::multicast;
use crate::world::scene::{group_of, three_in_a_group};

#[tokio::test]
async fn a_manager_hands_the_group_to_a_member() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let path = format!("/api/group/{group}");
    let to_bob = [("managerId", bob.id())];
    bob.put(&path, &to_bob).await.refused(403, "only the manager of a group may hand it over");
    alice.put(&path, &to_bob).await.empty();
    assert_eq!(alice.group(&group).await.manager_id, bob.id());
    alice.rename(&group, "mine").await.refused(403, "only the manager");
    bob.rename(&group, "ours").await.empty();
    alice.leave_group(&group).await.empty();
    assert_eq!(bob.group(&group).await.members().len(), 2, "the former manager leaves like any member");
}

#[tokio::test]
async fn a_group_is_handed_to_members_only() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let path = format!("/api/group/{group}");
    let stranger = User::new("stranger");
    alice.put(&path, &[("managerId", stranger.id())]).await.refused(403, "managerId");
    alice.put(&path, &[("managerId", "a b")]).await.refused(400, "managerId");
    let both = [("managerId", bob.id()), ("name", "x")];
    alice.put(&path, &both).await.refused(400, "managerId does not go with name");
    alice.put(&path, &[]).await.refused(400, "name or managerId is missing");
    alice.put(&path, &[("managerId", alice.id())]).await.empty();
    assert_eq!(bob.group(&group).await.manager_id, alice.id());
}

#[tokio::test]
async fn a_muted_member_is_told_and_nothing_is_stored() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut member, mut other) = (bob.connect().await, carol.connect().await);
    let path = format!("/api/group/{group}/mute");
    alice.put(&path, &[("userId", bob.id()), ("minutes", "5")]).await.empty();
    member.send_text(&multicast(&group, Some("r"), "1")).await;
    let error = member.next("an ERROR").await;
    assert!(error.says("code", "muted") && error.says("requestId", "r"), "{error:?}");
    assert!(error.number("until") > 0);
    let frame = json!({ "type": "multicast", "groupId": group, "content": 2 });
    let problem = bob.post_json("/api/message", &frame).await.refused(403, "muted");
    assert_eq!((problem.code.as_deref(), problem.until), (Some("muted"), Some(error.number("until"))));
    other.expect_nothing().await;
    alice.delete(&path, &[("userId", bob.id())]).await.empty();
    member.send_text(&multicast(&group, Some("r"), "1")).await;
    member.expect_ack("r").await;
    other.expect_in_group(&group, &bob, 1).await;
    assert!(bob.group(&group).await.members().contains(&bob.id()), "a muted member stays a member");
}

#[tokio::test]
async fn leaving_and_coming_back_does_not_end_a_mute() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let path = format!("/api/group/{group}/mute");
    alice.put(&path, &[("userId", bob.id()), ("minutes", "5")]).await.empty();
    bob.leave_group(&group).await.empty();
    carol.bring(&bob, &group).await;
    let frame = json!({ "type": "multicast", "groupId": group, "content": 2 });
    bob.post_json("/api/message", &frame).await.refused(403, "muted");
}

#[tokio::test]
async fn only_the_manager_mutes_and_only_members() {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    let group = group_of(&alice, &[&bob]).await;
    let path = format!("/api/group/{group}/mute");
    let bob_5 = [("userId", bob.id()), ("minutes", "5")];
    bob.put(&path, &bob_5).await.refused(403, "only the manager");
    carol.put(&path, &bob_5).await.refused(403, "only the manager");
    bob.delete(&path, &bob_5[..1]).await.refused(403, "only the manager");
    alice.put(&path, &[("userId", carol.id()), ("minutes", "5")]).await.refused(403, "not a member");
    alice.delete(&path, &[("userId", carol.id())]).await.refused(403, "not a member");
    for minutes in ["0", "43201", "-1", "1.5", ""] {
        alice.put(&path, &[("userId", bob.id()), ("minutes", minutes)]).await.refused(400, "minutes");
    }
    alice.put(&path, &bob_5[..1]).await.refused(400, "minutes is missing");
    alice.put(&path, &bob_5[1..]).await.refused(400, "userId is missing");
    alice.delete(&path, &[]).await.refused(400, "userId is missing");
}
