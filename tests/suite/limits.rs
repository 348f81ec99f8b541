//! The limits of what one user can make grow, see docs/security.md. Each test starts a local stack with small limits.

use futures::future::join_all;

use crate::stack::{Local, with};
use crate::world::User;
use crate::world::scene::friends_at;

/// Creates groups with these names.
async fn groups<const N: usize>(manager: &User, names: [&str; N]) -> [String; N] {
    let mut groups = names.map(str::to_owned);
    for group in &mut groups {
        *group = manager.create_group(group).await;
    }
    groups
}

/// The names of the groups that a user is invited to, sorted.
async fn invited_to(user: &User) -> Vec<String> {
    let mut names: Vec<String> = user.invitations().await.into_iter().map(|one| one.group_name).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_connection_beyond_the_limit_closes_the_oldest() {
    let Some(local) = Local::start(with(&[("MAX_CONNECTIONS", "2")])).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let (mut oldest, mut second, mut third) = (bob.connect().await, bob.connect().await, bob.connect().await);
    oldest.expect_error("too_many_connections", "2").await;
    oldest.expect_close().await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "to both").await;
    second.expect_private(&alice, "to both").await;
    third.expect_private(&alice, "to both").await;
    local.stop().await;
}

#[tokio::test]
async fn at_the_limit_of_groups_creating_is_refused() {
    let Some(local) = Local::start(with(&[("MAX_GROUPS", "2")])).await else { return };
    let alice = local.user("alice");
    let [first, _] = groups(&alice, ["one", "two"]).await;
    let refusals = join_all((0..5).map(|_| alice.post("/api/group", &[("name", "three")]))).await;
    for refusal in refusals {
        refusal.refused(403, ": 2");
    }
    assert_eq!(alice.groups().await.len(), 2);
    alice.leave_group(&first).await.empty();
    alice.create_group("three").await;
    local.stop().await;
}

#[tokio::test]
async fn at_the_limit_of_groups_accepting_keeps_the_invitation() {
    let Some(local) = Local::start(with(&[("MAX_GROUPS", "1")])).await else { return };
    let (alice, bob) = (local.user("alice"), local.user("bob"));
    let [group] = groups(&alice, ["walkers"]).await;
    let [own] = groups(&bob, ["runners"]).await;
    alice.invite(&bob, &group).await.empty();
    let invitation = bob.invitation().await;
    bob.accept(&invitation.id).await.refused(403, ": 1");
    assert_eq!(bob.invitation().await, invitation);
    assert_eq!(alice.group(&group).await.users_id, [alice.id()]);
    bob.leave_group(&own).await.empty();
    bob.accept(&invitation.id).await.empty();
    assert_eq!(bob.groups().await.len(), 1);
    local.stop().await;
}

#[tokio::test]
async fn an_invitation_beyond_the_limit_succeeds_but_is_not_stored() {
    let Some(local) = Local::start(with(&[("MAX_INVITATIONS", "2")])).await else { return };
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| local.user(name));
    let ([walkers], [runners], [riders]) =
        (groups(&alice, ["walkers"]).await, groups(&carol, ["runners"]).await, groups(&dave, ["riders"]).await);
    alice.invite(&bob, &walkers).await.empty();
    carol.invite(&bob, &runners).await.empty();
    dave.invite(&bob, &riders).await.empty();
    assert_eq!(invited_to(&bob).await, ["runners", "walkers"]);

    // A repeated invitation keeps its place and its id.
    let before = bob.invitations().await;
    alice.invite(&bob, &walkers).await.empty();
    assert_eq!(bob.invitations().await, before);

    let declined = before.iter().find(|one| one.group_id == walkers).expect("the invitation is there");
    bob.decline(&declined.id).await.empty();
    dave.invite(&bob, &riders).await.empty();
    assert_eq!(invited_to(&bob).await, ["riders", "runners"]);
    local.stop().await;
}

#[tokio::test]
async fn one_inviter_cannot_use_up_the_limit_of_invitations() {
    let Some(local) = Local::start(with(&[("MAX_INVITATIONS", "20")])).await else { return };
    let [mallory, bob, carol] = ["mallory", "bob", "carol"].map(|name| local.user(name));
    for group in groups(&mallory, ["a", "b", "c", "d"]).await {
        mallory.invite(&bob, &group).await.empty();
    }
    let [runners] = groups(&carol, ["runners"]).await;
    carol.invite(&bob, &runners).await.empty();
    assert_eq!(invited_to(&bob).await, ["a", "b", "runners"]);
    local.stop().await;
}

#[tokio::test]
async fn one_inviter_cannot_replace_all_invitations_of_others() {
    let Some(local) = Local::start(with(&[("MAX_INVITATIONS", "20")])).await else { return };
    let [alice, mallory, bob] = ["alice", "mallory", "bob"].map(|name| local.user(name));
    let mut inviters = Vec::new();
    for group in groups(&alice, ["a", "b"]).await {
        alice.bring(&mallory, &group).await;
        alice.invite(&bob, &group).await.empty();
        inviters.push(group);
    }
    let [own] = groups(&mallory, ["own"]).await;
    mallory.invite(&bob, &own).await.empty();
    for group in &inviters {
        mallory.invite(&bob, group).await.empty();
    }
    let of_mallory = bob.invitations().await.into_iter().filter(|one| one.invited_by == mallory.id()).count();
    assert_eq!(of_mallory, 2, "a tenth of the limit");
    assert_eq!(invited_to(&bob).await, ["a", "b", "own"]);
    local.stop().await;
}

#[tokio::test]
async fn an_invitation_hidden_by_a_block_does_not_count() {
    let Some(local) = Local::start(with(&[("MAX_INVITATIONS", "1")])).await else { return };
    let [mallory, bob, carol] = ["mallory", "bob", "carol"].map(|name| local.user(name));
    let ([trap], [runners]) = (groups(&mallory, ["trap"]).await, groups(&carol, ["runners"]).await);
    mallory.invite(&bob, &trap).await.empty();
    bob.block(&mallory).await;
    carol.invite(&bob, &runners).await.empty();
    assert_eq!(invited_to(&bob).await, ["runners"]);
    local.stop().await;
}

#[tokio::test]
async fn a_listed_invitation_to_a_dissolved_group_no_longer_counts() {
    let Some(local) = Local::start(with(&[("MAX_INVITATIONS", "1")])).await else { return };
    let [mallory, bob, carol] = ["mallory", "bob", "carol"].map(|name| local.user(name));
    let ([trap], [runners]) = (groups(&mallory, ["trap"]).await, groups(&carol, ["runners"]).await);
    mallory.invite(&bob, &trap).await.empty();
    mallory.leave_group(&trap).await.empty();
    assert!(bob.invitations().await.is_empty());
    carol.invite(&bob, &runners).await.empty();
    assert_eq!(invited_to(&bob).await, ["runners"]);
    local.stop().await;
}
