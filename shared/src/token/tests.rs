//! Tests of tokens that are accepted, and of tokens that are refused.

use super::*;
use crate::clock::{Clock, SystemClock};
use serde_json::json;
use std::time::Duration;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> TokenConfig {
    TokenConfig {
        secret_arn: None,
        secret: Some(SECRET.to_owned()),
        key_set_url: None,
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(5),
    }
}

fn now_s() -> u64 {
    SystemClock.now_ms() / 1000
}

fn signed(algorithm: Algorithm, secret: &str, claims: &serde_json::Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

async fn verify(config: &TokenConfig, token: &str) -> Result<Identity> {
    Verifier::new(config).verify(token, SystemClock.now_ms()).await
}

async fn is_refused(config: &TokenConfig, token: &str) -> bool {
    matches!(verify(config, token).await, Err(Error::Unauthorized(_)))
}

#[tokio::test]
async fn a_signed_token_names_its_user_and_its_end() {
    let token = sign(&config(), &UserId::parse("ann").unwrap(), SystemClock.now_ms(), 60).unwrap();
    let identity = verify(&config(), &token).await.unwrap();
    assert_eq!(identity.user.as_str(), "ann");
    let left = identity.expires_at - SystemClock.now_ms();
    assert!((60_000..=65_000).contains(&left), "{left}");
}

#[tokio::test]
async fn forged_expired_and_incomplete_tokens_are_refused() {
    let good = json!({"sub": "ann", "exp": now_s() + 60});
    assert!(verify(&config(), &signed(Algorithm::HS256, SECRET, &good)).await.is_ok());
    for (algorithm, secret, claims) in [
        (Algorithm::HS256, "another secret of thirty-two bytes", good.clone()),
        (Algorithm::HS512, SECRET, good.clone()),
        (Algorithm::HS256, SECRET, json!({"sub": "ann"})),
        (Algorithm::HS256, SECRET, json!({"sub": "ann", "exp": now_s() - 6})),
        (Algorithm::HS256, SECRET, json!({"sub": "ann", "exp": "soon"})),
        (Algorithm::HS256, SECRET, json!({"sub": "ann", "exp": now_s() + 60, "nbf": now_s() + 30})),
        (Algorithm::HS256, SECRET, json!({"exp": now_s() + 60})),
        (Algorithm::HS256, SECRET, json!({"sub": "a b", "exp": now_s() + 60})),
        (Algorithm::HS256, SECRET, json!({"sub": 7, "exp": now_s() + 60})),
    ] {
        assert!(is_refused(&config(), &signed(algorithm, secret, &claims)).await, "{algorithm:?} {claims}");
    }
    for text in ["", "a", "a.b.c", "....", &"x".repeat(9_000)] {
        assert!(is_refused(&config(), text).await, "{text:?}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    // {"alg":"none","typ":"JWT"} . {"sub":"ann","exp":32503680000}
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4iLCJleHAiOjMyNTAzNjgwMDAwfQ.";
    assert!(is_refused(&config(), unsigned).await);
    let good = signed(Algorithm::HS256, SECRET, &json!({"sub": "ann", "exp": now_s() + 60}));
    let (signed_part, _) = good.rsplit_once('.').unwrap();
    assert!(is_refused(&config(), &format!("{signed_part}.")).await);
}

#[tokio::test]
async fn a_token_with_critical_extensions_is_refused() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for crit in [vec![], vec!["exp".to_owned()], vec!["b64".to_owned()], vec!["unheard-of".to_owned()]] {
        let header = Header { crit: Some(crit), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &json!({"sub": "ann", "exp": now_s() + 60}), &key).unwrap();
        assert!(is_refused(&config(), &token).await, "{header:?}");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_when_configured() {
    let strict = TokenConfig { issuer: Some("https://id".into()), audience: Some("chat".into()), ..config() };
    let token = |claims| signed(Algorithm::HS256, SECRET, &claims);
    let exp = now_s() + 60;
    assert!(verify(&strict, &token(json!({"sub":"a","exp":exp,"iss":"https://id","aud":["x","chat"]}))).await.is_ok());
    assert!(is_refused(&strict, &token(json!({"sub":"a","exp":exp,"iss":"https://id","aud":"x"}))).await);
    assert!(is_refused(&strict, &token(json!({"sub":"a","exp":exp,"iss":"https://other","aud":"chat"}))).await);
    assert!(is_refused(&strict, &token(json!({"sub":"a","exp":exp}))).await);
    assert!(verify(&config(), &token(json!({"sub":"a","exp":exp,"aud":"anything"}))).await.is_ok());
}

#[tokio::test]
async fn hs256_is_refused_without_a_secret() {
    let config = TokenConfig { secret: None, key_set_url: Some("http://127.0.0.1:1/keys".into()), ..config() };
    assert!(is_refused(&config, &signed(Algorithm::HS256, SECRET, &json!({"sub": "a", "exp": now_s() + 60}))).await);
}
