//! Section 4: invitations.

use futures::future::join_all;
use serde_json::json;

use crate::world::User;
use crate::world::groups::Invitation;
use crate::world::scene::three_in_a_group;

/// Alice, bob, alice's group, and bob's invitation to it.
async fn bob_invited() -> (User, User, String, Invitation) {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = alice.create_group("walkers").await;
    alice.invite(&bob, &group).await.empty();
    let invitation = bob.invitation().await;
    (alice, bob, group, invitation)
}

#[tokio::test]
async fn an_invitation_has_its_group_invitee_and_inviter() {
    let (alice, bob, group, invitation) = bob_invited().await;
    let expected = Invitation {
        id: invitation.id.clone(),
        group_name: "walkers".to_owned(),
        group_id: group,
        user_id: bob.id().to_owned(),
        invited_by: alice.id().to_owned(),
    };
    assert_eq!(invitation, expected);
    assert!((1..=128).contains(&invitation.id.len()), "{invitation:?}");
    assert!(invitation.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b)), "{invitation:?}");
}

#[tokio::test]
async fn only_the_invitee_sees_an_invitation() {
    let (alice, ..) = bob_invited().await;
    assert_eq!(alice.get("/api/request", &[]).await.ok().body, "[]");
}

#[tokio::test]
async fn accepting_makes_a_member() {
    let (alice, bob, group, invitation) = bob_invited().await;
    bob.accept(&invitation.id).await.empty();
    let mut members = [alice.id(), bob.id()];
    members.sort_unstable();
    assert_eq!(bob.group(&group).await.members(), members);
    assert_eq!(bob.groups().await.len(), 1);
    assert!(bob.invitations().await.is_empty());
}

#[tokio::test]
async fn declining_makes_no_member() {
    let (alice, bob, group, invitation) = bob_invited().await;
    bob.decline(&invitation.id).await.empty();
    assert!(bob.invitations().await.is_empty());
    bob.see_group(&group).await.refused(403, "");
    assert_eq!(alice.group(&group).await.users_id, [alice.id()]);
}

#[tokio::test]
async fn an_invitation_is_answered_once() {
    let (alice, bob, group, invitation) = bob_invited().await;
    bob.decline(&invitation.id).await.empty();
    bob.decline(&invitation.id).await.refused(403, "");
    bob.accept(&invitation.id).await.refused(403, "");
    alice.bring(&bob, &group).await;
    bob.decline(&invitation.id).await.refused(403, "");
    assert_eq!(alice.group(&group).await.users_id.len(), 2);
}

#[tokio::test]
async fn a_user_who_declined_may_be_invited_again() {
    let (alice, bob, group, invitation) = bob_invited().await;
    bob.decline(&invitation.id).await.empty();
    alice.bring(&bob, &group).await;
    assert_eq!(bob.groups().await.len(), 1);
}

#[tokio::test]
async fn a_member_who_left_may_be_invited_again() {
    let (alice, bob, _, group) = three_in_a_group().await;
    bob.leave_group(&group).await.empty();
    alice.bring(&bob, &group).await;
    assert_eq!(alice.group(&group).await.users_id.len(), 3);
}

#[tokio::test]
async fn only_the_invitee_answers_an_invitation() {
    let (alice, bob, group, invitation) = bob_invited().await;
    let mallory = User::new("mallory");
    for other in [&alice, &mallory] {
        other.accept(&invitation.id).await.refused(403, "");
        other.decline(&invitation.id).await.refused(403, "");
    }
    mallory.see_group(&group).await.refused(403, "");
    assert_eq!(bob.invitation().await, invitation);
}

#[tokio::test]
async fn a_403_does_not_tell_whether_an_invitation_exists() {
    let (.., invitation) = bob_invited().await;
    let mallory = User::new("mallory");
    let unreal = "00000000-0000-0000-0000-000000000000";
    let (seen, unseen) = (mallory.accept(&invitation.id).await, mallory.accept(unreal).await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
    let (seen, unseen) = (mallory.decline(&invitation.id).await, mallory.decline(unreal).await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
}

#[tokio::test]
async fn an_ill_formed_invitation_id_is_refused() {
    let alice = User::new("alice");
    for id in ["a%20b", "%C3%A9", &"x".repeat(129)] {
        alice.accept(id).await.refused(400, "requestId");
        alice.decline(id).await.refused(400, "requestId");
    }
}

#[tokio::test]
async fn any_member_may_invite() {
    let (_, bob, _, group) = three_in_a_group().await;
    let dave = User::new("dave");
    bob.invite(&dave, &group).await.empty();
    assert_eq!(dave.invitation().await.invited_by, bob.id());
}

#[tokio::test]
async fn an_outsider_may_not_invite() {
    let (_, bob, group, _) = bob_invited().await;
    let (mallory, dave) = (User::new("mallory"), User::new("dave"));
    mallory.invite(&dave, &group).await.refused(403, "");
    bob.invite(&dave, &group).await.refused(403, "");
    mallory.invite(&dave, "no-such-group").await.refused(403, "");
    assert!(dave.invitations().await.is_empty());
}

#[tokio::test]
async fn inviting_a_member_is_refused() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.invite(&bob, &group).await.refused(403, "");
    bob.invite(&alice, &group).await.refused(403, "");
    bob.invite(&bob, &group).await.refused(403, "");
    assert!(bob.invitations().await.is_empty() && carol.invitations().await.is_empty());
}

#[tokio::test]
async fn a_wrong_invitation_body_is_refused() {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    let long = "x".repeat(129);
    for (body, named) in [
        (json!({"userId": "bob"}), "groupId"),
        (json!({"groupId": group}), "userId"),
        (json!({"groupId": 7, "userId": "bob"}), "groupId"),
        (json!({"groupId": group, "userId": null}), "userId"),
        (json!({"groupId": group, "userId": ["bob"]}), "userId"),
        (json!({"groupId": group, "userId": ""}), "userId"),
        (json!({"groupId": group, "userId": "a b"}), "userId"),
        (json!({"groupId": group, "userId": long}), "userId"),
        (json!({"groupId": "a/b", "userId": "bob"}), "groupId"),
        (json!([group, "bob"]), ""),
        (json!("bob"), ""),
        (json!(null), ""),
    ] {
        alice.post_json("/api/request", &body).await.refused(400, named);
    }
}

#[tokio::test]
async fn an_invitation_body_that_is_not_json_is_refused() {
    let alice = User::new("alice");
    for body in ["", "{", "groupId=g&userId=u", "{} {}"] {
        let call = alice.call(reqwest::Method::POST, "/api/request").body("application/json", body);
        call.send().await.refused(400, "");
    }
    alice.post("/api/request", &[("groupId", "g"), ("userId", "u")]).await.refused(400, "");
}

#[tokio::test]
async fn inviting_twice_leaves_one_invitation_with_one_id() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let dave = User::new("dave");
    alice.invite(&dave, &group).await.empty();
    let first = dave.invitation().await;
    alice.invite(&dave, &group).await.empty();
    assert_eq!(dave.invitation().await.id, first.id);
    bob.invite(&dave, &group).await.empty();
    carol.invite(&dave, &group).await.empty();
    assert_eq!(dave.invitation().await.id, first.id);
    dave.accept(&first.id).await.empty();
    assert!(dave.invitations().await.is_empty());
}

#[tokio::test]
async fn concurrent_invitations_leave_one() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let dave = User::new("dave");
    for answer in join_all([&alice, &bob, &carol].map(|member| member.invite(&dave, &group))).await {
        answer.empty();
    }
    dave.accept(&dave.invitation().await.id).await.empty();
    assert_eq!(alice.group(&group).await.users_id.len(), 4);
}

#[tokio::test]
async fn a_user_may_have_invitations_to_several_groups() {
    let (alice, bob, ..) = bob_invited().await;
    let other = alice.create_group("runners").await;
    alice.invite(&bob, &other).await.empty();
    let names: Vec<String> = bob.invitations().await.into_iter().map(|invitation| invitation.group_name).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"walkers".to_owned()) && names.contains(&"runners".to_owned()), "{names:?}");
}

#[tokio::test]
async fn an_invitation_from_a_blocked_member_is_not_stored() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = alice.create_group("walkers").await;
    bob.block(&alice).await;
    alice.invite(&bob, &group).await.empty();
    assert!(bob.invitations().await.is_empty());
    bob.unblock(&alice).await;
    assert!(bob.invitations().await.is_empty());
    alice.invite(&bob, &group).await.empty();
    assert_eq!(bob.invitation().await.invited_by, alice.id());
}

#[tokio::test]
async fn an_inviter_may_block_the_invitee() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = alice.create_group("walkers").await;
    alice.block(&bob).await;
    alice.invite(&bob, &group).await.empty();
    assert_eq!(bob.invitation().await.group_id, group);
}

#[tokio::test]
async fn an_invitation_has_the_current_group_name() {
    let (alice, bob, group, _) = bob_invited().await;
    alice.rename(&group, "runners").await.empty();
    assert_eq!(bob.invitation().await.group_name, "runners");
}

#[tokio::test]
async fn an_invitation_to_a_dissolved_group_is_not_listed() {
    let (alice, bob, group, _) = bob_invited().await;
    alice.leave_group(&group).await.empty();
    assert!(bob.invitations().await.is_empty());
}

#[tokio::test]
async fn accepting_an_invitation_to_a_dissolved_group_is_refused() {
    let (alice, bob, group, invitation) = bob_invited().await;
    alice.leave_group(&group).await.empty();
    bob.accept(&invitation.id).await.refused(403, "");
    bob.accept(&invitation.id).await.refused(403, "");
    bob.decline(&invitation.id).await.refused(403, "");
    assert!(bob.groups().await.is_empty());
}

#[tokio::test]
async fn an_invitation_is_void_once_its_inviter_is_no_member() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (dave, erin) = (User::new("dave"), User::new("erin"));
    bob.invite(&dave, &group).await.empty();
    carol.invite(&erin, &group).await.empty();
    bob.leave_group(&group).await.empty();
    alice.remove(&carol, &group).await.empty();
    for invitee in [&dave, &erin] {
        let invitation = invitee.invitation().await;
        invitee.accept(&invitation.id).await.refused(403, "inviter");
        invitee.accept(&invitation.id).await.refused(403, "no such invitation");
        assert!(invitee.invitations().await.is_empty());
        invitee.see_group(&group).await.refused(403, "");
    }
    alice.bring(&dave, &group).await;
}

#[tokio::test]
async fn the_last_inviter_owns_the_invitation() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let dave = User::new("dave");
    bob.invite(&dave, &group).await.empty();
    let first = dave.invitation().await;
    alice.invite(&dave, &group).await.empty();
    bob.leave_group(&group).await.empty();
    let last = dave.invitation().await;
    assert_eq!((last.id, last.invited_by.as_str()), (first.id.clone(), alice.id()));
    dave.accept(&first.id).await.empty();
    assert_eq!(alice.group(&group).await.users_id.len(), 3);
}

#[tokio::test]
async fn an_invitation_is_valid_again_when_its_inviter_rejoins() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let dave = User::new("dave");
    bob.invite(&dave, &group).await.empty();
    bob.leave_group(&group).await.empty();
    alice.bring(&bob, &group).await;
    dave.accept(&dave.invitation().await.id).await.empty();
}

#[tokio::test]
async fn an_invitation_is_not_listed_while_its_inviter_is_blocked() {
    let (alice, bob, group, invitation) = bob_invited().await;
    bob.block(&alice).await;
    alice.rename(&group, "I see you blocked me").await.empty();
    assert!(bob.invitations().await.is_empty());
    // Another invitation by the same member stays hidden.
    alice.invite(&bob, &group).await.empty();
    assert!(bob.invitations().await.is_empty());
    bob.unblock(&alice).await;
    assert_eq!(bob.invitation().await.id, invitation.id);
}

#[tokio::test]
async fn a_blocked_inviter_does_not_hide_the_invitation_of_another() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let dave = User::new("dave");
    dave.block(&bob).await;
    alice.invite(&dave, &group).await.empty();
    bob.invite(&dave, &group).await.empty();
    assert_eq!(dave.invitation().await.invited_by, alice.id());
    // A member who is not blocked replaces the hidden invitation.
    dave.unblock(&bob).await;
    bob.invite(&dave, &group).await.empty();
    dave.block(&bob).await;
    assert!(dave.invitations().await.is_empty());
    alice.invite(&dave, &group).await.empty();
    assert_eq!(dave.invitation().await.invited_by, alice.id());
}

#[tokio::test]
async fn accepting_while_the_inviter_leaves_succeeds_or_fails_cleanly() {
    for _ in 0..5 {
        let (alice, bob, _, group) = three_in_a_group().await;
        let dave = User::new("dave");
        bob.invite(&dave, &group).await.empty();
        let invitation = dave.invitation().await;
        let (accepted, left) = futures::future::join(dave.accept(&invitation.id), bob.leave_group(&group)).await;
        left.empty();
        assert!(dave.invitations().await.is_empty());
        let expected = match accepted.status {
            200 => 3,
            status => {
                assert_eq!(status, 403, "{accepted:?}");
                2
            }
        };
        assert_eq!(alice.group(&group).await.users_id.len(), expected);
    }
}

#[tokio::test]
async fn a_concurrent_invitation_survives_a_failed_acceptance() {
    for _ in 0..5 {
        let (alice, bob, _, group) = three_in_a_group().await;
        let dave = User::new("dave");
        bob.invite(&dave, &group).await.empty();
        let invitation = dave.invitation().await;
        bob.leave_group(&group).await.empty();
        // The acceptance finds bob's invalid invitation or alice's valid one. It deletes only bob's.
        let (accepted, invited) = futures::future::join(dave.accept(&invitation.id), alice.invite(&dave, &group)).await;
        if accepted.status == 200 {
            assert!(matches!(invited.status, 200 | 403), "{invited:?}");
        } else {
            accepted.refused(403, "");
            invited.empty();
            dave.accept(&dave.invitation().await.id).await.empty();
        }
        assert_eq!(alice.group(&group).await.users_id.len(), 3);
    }
}

/// Alice, her group, and `count` invited users.
async fn invited(count: usize) -> (User, String, Vec<(User, Invitation)>) {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    let mut invited = Vec::new();
    for n in 0..count {
        let user = User::new(&format!("invitee-{n}"));
        alice.invite(&user, &group).await.empty();
        let invitation = user.invitation().await;
        invited.push((user, invitation));
    }
    (alice, group, invited)
}

#[tokio::test]
async fn twenty_concurrent_acceptances_all_succeed() {
    let (alice, group, invited) = invited(20).await;
    for answer in join_all(invited.iter().map(|(user, invitation)| user.accept(&invitation.id))).await {
        answer.empty();
    }
    let mut expected: Vec<&str> = invited.iter().map(|(user, _)| user.id()).chain([alice.id()]).collect();
    expected.sort_unstable();
    assert_eq!(alice.group(&group).await.members(), expected);
    for (user, _) in &invited {
        assert_eq!(user.groups().await.len(), 1);
        assert!(user.invitations().await.is_empty());
    }
}

#[tokio::test]
async fn concurrent_acceptances_by_one_user_make_one_member() {
    let (alice, bob, group, invitation) = bob_invited().await;
    let answers = join_all((0..4).map(|_| bob.accept(&invitation.id))).await;
    assert!(answers.iter().any(|answer| answer.status == 200), "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 403)), "{answers:?}");
    assert_eq!(alice.group(&group).await.users_id.len(), 2);
}

#[tokio::test]
async fn concurrent_joining_and_leaving_keeps_the_right_members() {
    let (alice, group, invited) = invited(12).await;
    join_all(invited.iter().enumerate().map(async |(n, (user, invitation))| {
        user.accept(&invitation.id).await.empty();
        if n % 2 == 0 {
            user.leave_group(&group).await.empty();
        }
    }))
    .await;
    let stayed = invited.iter().skip(1).step_by(2).map(|(user, _)| user.id());
    let mut expected: Vec<&str> = stayed.chain([alice.id()]).collect();
    expected.sort_unstable();
    assert_eq!(alice.group(&group).await.members(), expected);
}

#[tokio::test]
async fn accepting_while_the_group_dissolves_leaves_no_members() {
    let (alice, group, invited) = invited(6).await;
    let accepting = join_all(invited.iter().map(|(user, invitation)| user.accept(&invitation.id)));
    let (answers, left) = futures::future::join(accepting, alice.leave_group(&group)).await;
    left.empty();
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 403)), "{answers:?}");
    for (user, _) in &invited {
        user.see_group(&group).await.refused(403, "");
        assert!(user.groups().await.is_empty());
        assert!(user.invitations().await.is_empty());
    }
}
