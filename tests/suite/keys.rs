//! Section 1, on a local stack: tokens by key id from a key set (JWKS), with issuers and audiences.
//!
//! The private keys in `tests/keys` are public knowledge and used for nothing else.

use std::net::SocketAddr;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stack::{Local, with};
use crate::world::deployment::free_ports;
use crate::world::{Claims, Handshake, User};

/// The public keys as an identity provider serves them.
pub(crate) const KEY_SET: &str = include_str!("../keys/jwks.json");

pub(crate) fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_der(include_bytes!("../keys/rsa.der"))
}

pub(crate) fn ec() -> EncodingKey {
    EncodingKey::from_ec_der(include_bytes!("../keys/ec.der"))
}

pub(crate) fn ed() -> EncodingKey {
    EncodingKey::from_ed_der(include_bytes!("../keys/ed.der"))
}

/// An identity provider that serves the key set to every request.
async fn identity_provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_key_set(stream));
        }
    });
    address
}

async fn serve_key_set(mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        KEY_SET.len()
    );
    // The client may have gone.
    let _ = stream.write_all(format!("{head}{KEY_SET}").as_bytes()).await;
}

/// A local stack that trusts the identity provider. It has no shared secret unless one is set.
pub(crate) async fn trusting(more: &[(&str, &str)]) -> Option<Local> {
    let url = format!("http://{}/keys", identity_provider().await);
    let variables: Vec<(&str, &str)> = [("JWKS_URL", url.as_str())].into_iter().chain(more.iter().copied()).collect();
    Local::start(with(&variables)).await
}

/// Asserts that a token is accepted at the handshake and at a call.
pub(crate) async fn assert_accepted(user: &User, token: String) {
    let user = user.with_token(token);
    user.connect().await.expect_nothing().await;
    user.get("/api/group", &[]).await.ok();
}

pub(crate) async fn assert_refused(user: &User, token: String) {
    let user = user.with_token(token);
    Handshake::of(&user).refused().await;
    user.get("/api/group", &[]).await.refused(401, "");
}

#[tokio::test]
async fn tokens_by_key_id_are_accepted() {
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let claims = Claims::of(alice.id());
    assert_accepted(&alice, claims.signed_with_key(Algorithm::RS256, "rsa", &rsa())).await;
    assert_accepted(&alice, claims.signed_with_key(Algorithm::ES256, "ec", &ec())).await;
    assert_accepted(&alice, claims.signed_with_key(Algorithm::EdDSA, "ed", &ed())).await;
    local.stop().await;
}

#[tokio::test]
async fn tokens_with_a_wrong_key_id_are_refused() {
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let claims = Claims::of(alice.id());
    for (algorithm, key_id, key) in [
        (Algorithm::RS256, "unknown", rsa()),
        (Algorithm::RS256, "ec", rsa()),
        (Algorithm::ES256, "rsa", ec()),
        (Algorithm::EdDSA, "ec", ed()),
        (Algorithm::RS384, "rsa", rsa()),
        (Algorithm::RS512, "rsa", rsa()),
        (Algorithm::PS256, "rsa", rsa()),
    ] {
        assert_refused(&alice, claims.signed_with_key(algorithm, key_id, &key)).await;
    }
    assert_refused(&alice, claims.signed_by(&Header::new(Algorithm::RS256), &rsa())).await;
    local.stop().await;
}

#[tokio::test]
async fn a_public_key_is_not_a_shared_secret() {
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let modulus = KEY_SET.split('"').find(|text| text.len() > 300).expect("the key set holds a modulus");
    for secret in [modulus, KEY_SET] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        assert_refused(&alice, Claims::of(alice.id()).signed_with_key(Algorithm::HS256, "rsa", &key)).await;
    }
    local.stop().await;
}

#[tokio::test]
async fn tokens_by_key_id_expire() {
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let expired = Claims::of(alice.id()).with("exp", 1_000_000_000);
    assert_refused(&alice, expired.signed_with_key(Algorithm::EdDSA, "ed", &ed())).await;
    assert_refused(&alice, Claims::of(alice.id()).without("exp").signed_with_key(Algorithm::EdDSA, "ed", &ed())).await;
    local.stop().await;
}

#[tokio::test]
async fn a_secret_and_a_key_set_may_be_combined() {
    let secret = "a secret of the deployment's own, long enough";
    let Some(local) = trusting(&[("JWT_SECRET", secret)]).await else { return };
    let alice = local.user("alice");
    let claims = Claims::of(alice.id());
    assert_accepted(&alice, claims.signed(secret)).await;
    assert_accepted(&alice, claims.signed_with_key(Algorithm::ES256, "ec", &ec())).await;
    assert_refused(&alice, claims.signed(shared::config::DEVELOPMENT_SECRET)).await;
    local.stop().await;
}

#[tokio::test]
async fn without_a_key_set_tokens_by_key_id_are_refused() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    assert_refused(&alice, Claims::of(alice.id()).signed_with_key(Algorithm::RS256, "rsa", &rsa())).await;
    local.stop().await;
}

#[tokio::test]
async fn issuer_and_audience_are_checked_when_configured() {
    let Some(local) = Local::start(with(&[("JWT_ISSUER", "https://id.example"), ("JWT_AUDIENCE", "chat")])).await
    else {
        return;
    };
    let alice = local.user("alice");
    let secret = shared::config::DEVELOPMENT_SECRET;
    let good = || Claims::of(alice.id()).with("iss", "https://id.example").with("aud", "chat");
    assert_accepted(&alice, good().signed(secret)).await;
    assert_accepted(&alice, good().with("aud", vec!["shop", "chat"]).signed(secret)).await;
    for bad in [
        good().with("iss", "https://other.example"),
        good().without("iss"),
        good().with("aud", "shop"),
        good().with("aud", vec!["shop"]),
        good().without("aud"),
    ] {
        assert_refused(&alice, bad.signed(secret)).await;
    }
    local.stop().await;
}
