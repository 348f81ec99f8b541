//! Section 6: the host application sets friendships and blocks.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::back_end::Ties;
use crate::world::scene::friends;
use crate::world::{BackEnd, Deployment, User};

fn ties(friends: &[&User], blocks: &[&User]) -> Ties {
    let ids = |users: &[&User]| {
        let mut ids: Vec<String> = users.iter().map(|user| user.id().to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    Ties { friends: ids(friends), blocks: ids(blocks) }
}

async fn of(user: &User) -> Ties {
    BackEnd::new().ties(user.id()).await
}

#[tokio::test]
async fn a_new_user_has_no_friends_and_no_blocks() {
    assert_eq!(of(&User::new("alice")).await, ties(&[], &[]));
}

#[tokio::test]
async fn friendship_is_mutual() {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    alice.befriend(&bob).await;
    carol.befriend(&alice).await;
    assert_eq!(of(&alice).await, ties(&[&bob, &carol], &[]));
    assert_eq!(of(&bob).await, ties(&[&alice], &[]));
    assert_eq!(of(&carol).await, ties(&[&alice], &[]));
}

#[tokio::test]
async fn either_user_can_end_a_friendship() {
    let (alice, bob) = friends().await;
    bob.unfriend(&alice).await;
    assert_eq!((of(&alice).await, of(&bob).await), (ties(&[], &[]), ties(&[], &[])));
}

#[tokio::test]
async fn a_block_has_one_direction() {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    alice.block(&bob).await;
    alice.block(&carol).await;
    assert_eq!(of(&alice).await, ties(&[], &[&bob, &carol]));
    assert_eq!(of(&bob).await, ties(&[], &[]));
    bob.unblock(&alice).await;
    assert_eq!(of(&alice).await, ties(&[], &[&bob, &carol]));
    alice.unblock(&bob).await;
    assert_eq!(of(&alice).await, ties(&[], &[&carol]));
}

#[tokio::test]
async fn blocking_keeps_the_friendship() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    assert_eq!(of(&alice).await, ties(&[&bob], &[&bob]));
    assert_eq!(of(&bob).await, ties(&[&alice], &[]));
    alice.unblock(&bob).await;
    assert_eq!(of(&alice).await, ties(&[&bob], &[]));
}

#[tokio::test]
async fn ending_a_friendship_keeps_the_blocks() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    alice.unfriend(&bob).await;
    assert_eq!(of(&alice).await, ties(&[], &[&bob]));
}

#[tokio::test]
async fn repeating_a_change_changes_nothing() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    for _ in 0..2 {
        alice.befriend(&bob).await;
        bob.befriend(&alice).await;
        alice.block(&bob).await;
        assert_eq!(of(&alice).await, ties(&[&bob], &[&bob]));
    }
    for _ in 0..2 {
        alice.unfriend(&bob).await;
        alice.unblock(&bob).await;
        assert_eq!((of(&alice).await, of(&bob).await), (ties(&[], &[]), ties(&[], &[])));
    }
}

#[tokio::test]
async fn one_unblock_undoes_repeated_blocks() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    alice.block(&bob).await;
    alice.unblock(&bob).await;
    let mut online = alice.connect().await;
    bob.connect().await.send(&alice, "hi").await;
    online.expect_private(&bob, "hi").await;
}

#[tokio::test]
async fn an_ill_formed_user_id_is_refused() {
    let long = "x".repeat(129);
    // A gateway may unescape the slash and find no route.
    let is_routed = |id: &&str| !(Deployment::is_elsewhere() && id.contains("%2F"));
    for id in ["a%20b", "%C3%A9", "a%2Fb", "a%2Ffriends%2Fb", &long].into_iter().filter(is_routed) {
        for (user, other, named) in [(id, "bob", "userId"), ("alice", id, "")] {
            for tie in ["friends", "blocks"] {
                BackEnd::new().relate("PUT", user, tie, other).await.refused(400, named);
                BackEnd::new().relate("DELETE", user, tie, other).await.refused(400, named);
            }
        }
        BackEnd::new().call(Method::GET, &format!("/relationship/{id}")).send().await.refused(400, "userId");
    }
}

#[tokio::test]
async fn a_tie_to_oneself_is_refused() {
    for (method, tie) in [("PUT", "friends"), ("DELETE", "blocks")] {
        let answer = BackEnd::new().relate(method, "alice", tie, "alice").await;
        answer.refused(400, "otherId must be another user");
    }
}

#[tokio::test]
async fn other_ties_and_methods_are_unknown() {
    let answer = BackEnd::new().relate("PUT", "alice", "enemies", "bob").await;
    assert_eq!(answer.status, 404, "{answer:?}");
    for (method, path) in [(Method::POST, "/relationship/alice/friends/bob"), (Method::DELETE, "/relationship/alice")] {
        let answer = BackEnd::new().call(method, path).send().await;
        assert!(matches!(answer.status, 404 | 405), "{answer:?}");
    }
}

#[tokio::test]
async fn the_public_address_has_no_relationships() {
    let (alice, bob) = friends().await;
    for prefix in ["", "/api", "/ws"] {
        for (method, path) in [
            (Method::PUT, format!("{prefix}/relationship/{}/blocks/{}", alice.id(), bob.id())),
            (Method::DELETE, format!("{prefix}/relationship/{}/friends/{}", alice.id(), bob.id())),
            (Method::GET, format!("{prefix}/relationship/{}", alice.id())),
        ] {
            let answer = alice.call(method, &path).send().await;
            assert!(matches!(answer.status, 403..=405), "{answer:?}");
        }
    }
    assert_eq!(of(&alice).await, ties(&[&bob], &[]));
}

/// Invokes the function directly, and asserts that it succeeds.
async fn invoke(payload: Value) -> Value {
    BackEnd::new().invoke("relationship", &payload).await.unwrap_or_else(|why| panic!("{payload}: {why:?}"))
}

#[tokio::test]
async fn a_direct_invocation_changes_relationships() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let friends = |method| json!({"method": method, "userId": alice.id(), "friendId": bob.id()});
    let blocks = |method| json!({"method": method, "userId": alice.id(), "blockedId": bob.id()});
    assert_eq!(invoke(friends("PUT")).await, Value::Null);
    assert_eq!(invoke(blocks("PUT")).await, Value::Null);
    assert_eq!(of(&alice).await, ties(&[&bob], &[&bob]));
    let seen = invoke(json!({"method": "GET", "userId": alice.id()})).await;
    assert_eq!(seen, json!({"friends": [bob.id()], "blocks": [bob.id()]}));
    assert_eq!(invoke(friends("DELETE")).await, Value::Null);
    assert_eq!(invoke(blocks("DELETE")).await, Value::Null);
    assert_eq!(of(&alice).await, ties(&[], &[]));
}

#[tokio::test]
async fn a_mistake_in_a_direct_invocation_is_named() {
    for (payload, named) in [
        (json!({}), ""),
        (json!({"method": "PUT", "friendId": "bob"}), "userId"),
        (json!({"method": "PUT", "userId": "a b", "friendId": "bob"}), "userId"),
        (json!({"method": "PUT", "userId": "alice", "friendId": "a b"}), "friendId"),
        (json!({"method": "DELETE", "userId": "alice", "blockedId": 7}), "blockedId"),
        (json!({"method": "PATCH", "userId": "alice", "friendId": "bob"}), "method"),
        (json!({"method": "PUT", "userId": "alice", "friendId": "alice"}), "friendId must be another user"),
        (json!({"method": "PUT", "userId": "alice", "blockedId": "alice"}), "blockedId must be another user"),
        (json!({"method": "POST", "userId": "alice", "friendId": "bob"}), "changes is missing"),
        (json!({"method": "POST", "changes": {}}), "changes must be an array"),
        (json!({"method": "GET"}), "userId"),
    ] {
        let refusal = BackEnd::new().invoke("relationship", &payload).await.expect_err("a mistake is refused");
        assert_eq!(refusal.error_type, "BadRequest", "{payload}");
        assert!(refusal.error_message.contains(named), "{payload}: {refusal:?}");
    }
}
