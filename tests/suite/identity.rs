//! Section 1: tokens and the identity of the caller.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;

use crate::world::call::filled;
use crate::world::clock::now_s;
use crate::world::device::{new_request_id, unicast};
use crate::world::example::endpoints;
use crate::world::scene::friends;
use crate::world::{Api, Call, Claims, Device, Handshake, User, within};

/// Asserts that a token is refused at the handshake and at a call.
async fn assert_refused(user: &User, token: String) {
    let impostor = user.with_token(token);
    Handshake::of(&impostor).refused().await;
    impostor.get("/api/group", &[]).await.refused(401, "");
}

fn alice() -> User {
    User::new("alice")
}

#[tokio::test]
async fn a_token_in_the_query_opens_a_socket_and_a_call() {
    let alice = alice();
    alice.connect().await.expect_nothing().await;
    alice.get("/api/group", &[]).await.ok();
}

#[tokio::test]
async fn the_user_is_the_subject_of_the_token() {
    let alice = alice();
    let group = alice.create_group("walkers").await;
    assert_eq!(alice.group(&group).await.manager_id, alice.id());
}

#[tokio::test]
async fn rest_accepts_a_bearer_token() {
    let alice = alice();
    let bearer = format!("Bearer {}", alice.token());
    alice.anonymous_call(Method::GET, "/api/group").header("authorization", &bearer).send().await.ok();
    let forged = format!("Bearer {}x", alice.token());
    alice.anonymous_call(Method::GET, "/api/group").header("authorization", &forged).send().await.refused(401, "");
    let basic = format!("Basic {}", alice.token());
    alice.anonymous_call(Method::GET, "/api/group").header("authorization", &basic).send().await.refused(401, "");
}

#[tokio::test]
async fn a_token_in_the_subprotocols_opens_a_socket() {
    let alice = alice();
    let mut device = Handshake::of(&alice).query("").protocols(&["chat", alice.token()]).accepted().await;
    assert_eq!(device.protocol(), Some("chat"));
    device.expect_nothing().await;
}

#[tokio::test]
async fn a_forged_token_in_the_subprotocols_is_refused() {
    let alice = alice();
    let forged = Claims::of(alice.id()).signed("another secret");
    Handshake::of(&alice).query("").protocols(&["chat", &forged]).refused().await;
    Handshake::of(&alice).query("").protocols(&["chat"]).refused().await;
}

#[tokio::test]
async fn a_call_without_a_token_is_refused() {
    let alice = alice();
    Handshake::of(&alice).query("").refused().await;
    Handshake::of(&alice).query("access_token=").refused().await;
    alice.anonymous_call(Method::GET, "/api/group").send().await.refused(401, "");
    alice.anonymous_call(Method::GET, "/api/group").param("access_token", "").send().await.refused(401, "");
}

#[tokio::test]
async fn every_endpoint_needs_a_token() {
    let alice = alice();
    for (_, route) in endpoints() {
        let method = Method::from_bytes(route.method.as_bytes()).expect("a method");
        alice.anonymous_call(method, &filled(route.path)).send().await.refused(401, "");
    }
}

#[tokio::test]
async fn a_malformed_token_is_refused() {
    let alice = alice();
    for malformed in ["x", "a.b.c", "..", "eyJhbGciOiJIUzI1NiJ9.e30."] {
        assert_refused(&alice, malformed.to_owned()).await;
    }
    assert_refused(&alice, alice.token().rsplit_once('.').unwrap().0.to_owned()).await;
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let alice = alice();
    let expired = Claims::of(alice.id()).with("exp", now_s() - 120);
    assert_refused(&alice, expired.signed(&alice.deployment().secret)).await;
}

#[tokio::test]
async fn a_token_without_expiry_is_refused() {
    let alice = alice();
    assert_refused(&alice, Claims::of(alice.id()).without("exp").signed(&alice.deployment().secret)).await;
}

#[tokio::test]
async fn a_token_signed_with_another_secret_is_refused() {
    let alice = alice();
    assert_refused(&alice, Claims::of(alice.id()).signed("another secret")).await;
    assert_refused(&alice, Claims::of(alice.id()).signed("")).await;
}

#[tokio::test]
async fn a_token_with_the_signature_of_another_is_refused() {
    let (alice, mallory) = (alice(), User::new("mallory"));
    let (signed, _) = alice.token().rsplit_once('.').unwrap();
    let (_, signature) = mallory.token().rsplit_once('.').unwrap();
    assert_refused(&alice, format!("{signed}.{signature}")).await;
}

#[tokio::test]
async fn an_unsigned_token_is_refused() {
    // {"alg":"none","typ":"JWT"}, spelled in three ways.
    let alice = alice();
    let claims = alice.token().split('.').nth(1).unwrap();
    for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOb25lIn0", "eyJhbGciOiIifQ"] {
        assert_refused(&alice, format!("{header}.{claims}.")).await;
    }
}

#[tokio::test]
async fn a_token_with_an_unconfigured_algorithm_is_refused() {
    let alice = alice();
    let key = EncodingKey::from_secret(alice.deployment().secret.as_bytes());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert_refused(&alice, Claims::of(alice.id()).signed_by(&Header::new(algorithm), &key)).await;
    }
}

#[tokio::test]
async fn a_token_without_a_user_is_refused() {
    let alice = alice();
    let secret = &alice.deployment().secret;
    assert_refused(&alice, Claims::of(alice.id()).without("sub").signed(secret)).await;
    assert_refused(&alice, Claims::of(alice.id()).with("sub", 7).signed(secret)).await;
}

#[tokio::test]
async fn a_user_id_has_1_to_128_allowed_characters() {
    let alice = alice();
    for subject in ["", "with space", "a/b", "a#b", "émile", "a\nb", &"x".repeat(129)] {
        assert_refused(&alice, Claims::of(subject).signed(&alice.deployment().secret)).await;
    }
    let longest = format!("{:.<128}", format!("AZaz09._:@-{}", alice.id()));
    let longest = User::with_id(alice.deployment(), &longest);
    let group = longest.create_group("walkers").await;
    assert_eq!(longest.group(&group).await.users_id, [longest.id()]);
    longest.connect().await.expect_nothing().await;
}

#[tokio::test]
async fn two_tokens_in_the_query_are_refused() {
    let alice = alice();
    alice.call(Method::GET, "/api/group").param("access_token", alice.token()).send().await.refused(401, "twice");
    let twice = format!("access_token={0}&access_token={0}", alice.token());
    Handshake::of(&alice).query(&twice).refused().await;
}

#[tokio::test]
async fn tokens_in_the_query_and_the_subprotocols_are_refused() {
    let alice = alice();
    Handshake::of(&alice).protocols(&["chat", alice.token()]).refused().await;
}

#[tokio::test]
async fn with_a_token_in_the_query_the_authorization_header_is_ignored() {
    let alice = alice();
    for header in ["Bearer x", "Basic x", "", &format!("Bearer {}", alice.token())] {
        alice.call(Method::GET, "/api/group").header("authorization", header).send().await.ok();
        Handshake::of(&alice).header("Authorization", header).accepted().await.expect_nothing().await;
    }
    let impostor = alice.with_token(Claims::of(alice.id()).signed("another secret"));
    let bearer = format!("Bearer {}", alice.token());
    impostor.call(Method::GET, "/api/group").header("authorization", &bearer).send().await.refused(401, "");
    Handshake::of(&impostor).header("Authorization", &bearer).refused().await;
}

#[tokio::test]
async fn a_refused_call_changes_nothing() {
    let alice = alice();
    let group = alice.create_group("walkers").await;
    let impostor = alice.with_token(Claims::of(alice.id()).signed("another secret"));
    impostor.post("/api/group", &[("name", "more")]).await.refused(401, "");
    impostor.rename(&group, "runners").await.refused(401, "");
    impostor.leave_group(&group).await.refused(401, "");
    let groups = alice.groups().await;
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].name, "walkers");
}

#[tokio::test]
async fn a_refused_pull_drops_nothing() {
    let (alice, bob) = friends().await;
    alice.connect().await.send(&bob, "hi").await;
    bob.with_token(Claims::of(bob.id()).signed("another secret")).get("/api/message", &[]).await.refused(401, "");
    assert_eq!(bob.pull().await.contents(), ["hi"]);
}

/// The same user with a token that expires in a second.
pub(crate) fn about_to_expire(user: &User) -> User {
    let claims = Claims::of(user.id()).with("exp", now_s() + 1);
    user.with_token(claims.signed(&user.deployment().secret))
}

/// Sends malformed frames until the server finds the token expired. The socket is then closing.
pub(crate) async fn until_expired(device: &mut Device) {
    until_expired_by(device, r#"{"type":"bogus"}"#).await;
}

/// Sends this malformed frame until the server finds the token expired. The socket is then closing.
pub(crate) async fn until_expired_by(device: &mut Device, malformed: &str) {
    loop {
        device.send_text(malformed).await;
        let frame = device.next("an ERROR").await;
        if frame.says("code", "token_expired") {
            return;
        }
        assert!(frame.says("code", "bad_request"), "{frame:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_expired_token_ends_its_connection() {
    let mut device = about_to_expire(&alice()).connect().await;
    within("the token to expire", until_expired(&mut device)).await;
    device.expect_close().await;
}

#[tokio::test]
async fn a_message_with_an_expired_token_is_refused() {
    let (alice, bob) = friends().await;
    let alice = about_to_expire(&alice);
    let (mut first, mut second) = (alice.connect().await, alice.connect().await);
    within("the token to expire", until_expired(&mut first)).await;
    second.send_text(&unicast(bob.id(), Some(&new_request_id()), "1")).await;
    second.expect_error("token_expired", "").await;
    second.expect_close().await;
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn a_ping_runs_no_function_even_when_the_token_has_expired() {
    let alice = alice();
    let alice = about_to_expire(&alice);
    let (mut first, mut second) = (alice.connect().await, alice.connect().await);
    within("the token to expire", until_expired(&mut first)).await;
    second.send_text(r#"{"type":"ping"}"#).await;
    second.expect_nothing().await;
    second.send_text(r#"{"type":"bogus"}"#).await;
    second.expect_error("token_expired", "").await;
    second.expect_close().await;
}

#[tokio::test]
async fn a_valid_token_keeps_its_connection_open() {
    let mut device = alice().connect().await;
    for _ in 0..3 {
        device.send_text("{}").await;
        device.expect_error("bad_request", "type").await;
    }
    assert_eq!(device.leave().await.len(), 0);
}

#[tokio::test]
async fn the_internal_address_has_no_public_endpoints() {
    let alice = alice();
    let http = reqwest::Client::new();
    let answer =
        Call::new(&http, Method::GET, (Api::Internal, &alice.deployment().internal), "/api/group").send().await;
    assert!(matches!(answer.status, 403 | 404), "{answer:?}");
}
