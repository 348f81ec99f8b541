//! The token alone identifies the user. No other field of a call lets a user act as somebody else.

use reqwest::Method;
use serde_json::json;

use crate::world::device::new_request_id;
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, group_of};
use crate::world::{Claims, Handshake, Page, User};

/// Fields in which a call might name another user.
const CLAIMS: [&str; 10] =
    ["userId", "user", "user_id", "sub", "senderId", "from", "managerId", "invitedBy", "principalId", "X-User-Id"];

/// Alice, bob, who missed a message from alice, and mallory, a stranger to both.
async fn bob_who_missed_one() -> (User, User, User) {
    let (alice, bob) = friends().await;
    alice.connect().await.send(&bob, "for bob").await;
    (alice, bob, User::new("mallory"))
}

#[tokio::test]
async fn the_sender_is_the_user_of_the_token() {
    let (alice, bob) = friends().await;
    let carol = User::new("carol");
    carol.befriend(&bob).await;
    let mut carol_online = carol.connect().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    for claim in CLAIMS.into_iter().chain(["id", "timestamp", "requestContext", "authorizer"]) {
        let mut frame = json!({ "type": "unicast", "receiverId": bob.id(), "content": claim });
        frame[claim] = json!(carol.id());
        alice.send_text(&frame.to_string()).await;
        let got = bob.expect_private(&alice, claim).await;
        assert_eq!(got.fields(), ["content", "id", "receiverId", "senderId", "timestamp", "type"]);
    }
    carol_online.expect_nothing().await;
}

#[tokio::test]
async fn a_group_message_cannot_name_another_sender() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = group_of(&alice, &[&bob]).await;
    let mallory = User::new("mallory");
    let (mut online, mut outside) = (alice.connect().await, mallory.connect().await);
    let request_id = new_request_id();
    let frame = json!({
        "type": "multicast", "groupId": group, "content": "from outside", "requestId": request_id,
        "senderId": bob.id(), "userId": bob.id(),
    });
    outside.send_text(&frame.to_string()).await;
    outside.expect_ack(&request_id).await;
    online.expect_nothing().await;
    assert!(bob.since(BEGINNING).await.is_empty());
}

#[tokio::test]
async fn a_connection_belongs_to_the_user_of_the_token() {
    let (alice, bob) = friends().await;
    let mallory = User::new("mallory");
    let query = format!("access_token={}&userId={1}&sub={1}&principalId={1}", mallory.token(), bob.id());
    let mut impostor = Handshake::of(&mallory).query(&query).accepted().await;
    alice.connect().await.send(&bob, "for bob").await;
    impostor.expect_nothing().await;
    assert_eq!(bob.pull().await.contents(), ["for bob"]);
}

#[tokio::test]
async fn nobody_pulls_or_drops_messages_of_another_user() {
    let (_, bob, mallory) = bob_who_missed_one().await;
    let token = bob.pull_with(&[("drop", "false")]).await.token.expect("a token");
    for claim in CLAIMS {
        for more in [&[][..], &[("drop", "false")], &[("drop", "false"), ("since", BEGINNING)]] {
            let call = mallory.call(Method::GET, "/api/message").params(more).param(claim, bob.id());
            assert!(Page::read(call.header("x-user-id", bob.id()).send().await).is_empty());
        }
        let call = mallory.call(Method::DELETE, "/api/message").param("page", &token).param(claim, bob.id());
        call.header("x-amzn-oidc-identity", bob.id()).send().await.refused(403, "page");
    }
    assert_eq!(bob.pull().await.contents(), ["for bob"]);
}

#[tokio::test]
async fn the_manager_of_a_new_group_is_the_user_of_the_token() {
    let (alice, mallory) = (User::new("alice"), User::new("mallory"));
    for claim in CLAIMS {
        let call = mallory.call(Method::POST, "/api/group").param("name", "mine").param(claim, alice.id());
        let group: String = call.json(&json!({ claim: alice.id() })).send().await.json();
        let group = mallory.group(&group).await;
        assert_eq!((group.manager_id.as_str(), group.members()), (mallory.id(), vec![mallory.id()]));
    }
    assert!(alice.groups().await.is_empty());
}

#[tokio::test]
async fn nobody_changes_a_group_as_its_manager() {
    let (alice, bob, mallory) = (User::new("alice"), User::new("bob"), User::new("mallory"));
    let group = group_of(&alice, &[&bob]).await;
    let before = alice.group(&group).await;
    let path = format!("/api/group/{group}");
    for other in [&bob, &mallory] {
        // `managerId` is a parameter of this call: it hands the group over, and does not go with a name.
        let hand_over = other.call(Method::PUT, &path).param("managerId", other.id());
        hand_over.header("x-user-id", alice.id()).send().await.refused(403, "");
        for claim in CLAIMS.into_iter().filter(|claim| !["userId", "managerId"].contains(claim)) {
            let rename = other.call(Method::PUT, &path).param("name", "mine").param(claim, alice.id());
            rename.header("x-user-id", alice.id()).send().await.refused(403, "");
            // An unknown parameter is refused here.
            let remove = other.call(Method::DELETE, &path).param("userId", alice.id()).param(claim, alice.id());
            remove.header("x-user-id", alice.id()).send().await.refused(400, "");
        }
        let remove = other.call(Method::DELETE, &path).param("userId", alice.id());
        remove.header("x-user-id", alice.id()).send().await.refused(403, "");
    }
    let look = mallory.call(Method::GET, &path).param("userId", alice.id()).param("managerId", mallory.id());
    look.send().await.refused(403, "");
    // The caller's own group gives no access to another group.
    let own = mallory.create_group("mine").await;
    let look = mallory.call(Method::GET, &path).param("groupId", &own).send().await;
    look.refused(403, "");
    let look = mallory.call(Method::GET, &format!("/api/group/{own}")).param("groupId", &group).send().await.ok();
    assert!(look.body.contains(&own) && !look.body.contains(&group), "{look:?}");
    assert_eq!(alice.group(&group).await, before);
}

#[tokio::test]
async fn nobody_invites_accepts_or_declines_as_another_user() {
    let (alice, bob, mallory) = (User::new("alice"), User::new("bob"), User::new("mallory"));
    let group = alice.create_group("walkers").await;
    for claim in CLAIMS.into_iter().filter(|claim| *claim != "userId") {
        let body = json!({ "groupId": group, "userId": mallory.id(), claim: alice.id() });
        let call = mallory.call(Method::POST, "/api/request").param(claim, alice.id()).json(&body);
        call.send().await.refused(403, "");
    }
    assert!(mallory.invitations().await.is_empty());
    let body = json!({ "groupId": group, "userId": bob.id(), "invitedBy": mallory.id(), "id": "mine" });
    alice.post_json("/api/request", &body).await.empty();
    let invitation = bob.invitation().await;
    assert_eq!(invitation.invited_by, alice.id());
    let path = format!("/api/request/{}", invitation.id);
    for claim in CLAIMS {
        for method in [Method::PUT, Method::DELETE] {
            let call = mallory.call(method, &path).param(claim, bob.id()).header("x-user-id", bob.id());
            call.json(&json!({ claim: bob.id() })).send().await.refused(403, "");
        }
        let list = mallory.call(Method::GET, "/api/request").param(claim, bob.id()).send().await;
        assert_eq!(list.ok().body, "[]");
    }
    assert_eq!(bob.invitation().await, invitation);
    assert_eq!(alice.group(&group).await.members(), [alice.id()]);
}

#[tokio::test]
async fn only_the_claim_sub_names_the_user() {
    let alice = User::new("alice");
    let mallory = User::new("mallory");
    let group = alice.create_group("walkers").await;
    for claim in ["userId", "user", "username", "cognito:username", "client_id", "email", "azp", "Sub", "SUB"] {
        let token = Claims::of(mallory.id()).with(claim, alice.id()).signed(&mallory.deployment().secret);
        mallory.with_token(token).see_group(&group).await.refused(403, "");
        let token = Claims::of(alice.id()).without("sub").with(claim, alice.id()).signed(&alice.deployment().secret);
        alice.with_token(token).see_group(&group).await.refused(401, "");
    }
}
