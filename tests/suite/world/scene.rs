//! The starting points that many tests share.

use super::{Deployment, Device, User};

/// Two new users who are friends.
pub(crate) async fn friends() -> (User, User) {
    friends_at(&Deployment::shared()).await
}

/// Two new users of a deployment who are friends.
pub(crate) async fn friends_at(deployment: &Deployment) -> (User, User) {
    let (alice, bob) = (User::of(deployment, "alice"), User::of(deployment, "bob"));
    alice.befriend(&bob).await;
    (alice, bob)
}

/// Two new friends, both with a socket open.
pub(crate) async fn friends_online() -> (Device, Device) {
    let (alice, bob) = friends().await;
    (alice.connect().await, bob.connect().await)
}

/// A group with this manager and these members.
pub(crate) async fn group_of(manager: &User, members: &[&User]) -> String {
    let group = manager.create_group("walkers").await;
    for member in members {
        manager.bring(member, &group).await;
    }
    group
}

/// Three new users in a group that alice manages: alice, bob and carol.
pub(crate) async fn three_in_a_group() -> (User, User, User, String) {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    let group = group_of(&alice, &[&bob, &carol]).await;
    (alice, bob, carol, group)
}
