//! Section 1, on a local stack: forged tokens. The attacker knows the public keys and has another private key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::keys::{KEY_SET, assert_accepted, assert_refused, ec, ed, rsa, trusting};
use crate::stack::Local;
use crate::world::clock::now_s;
use crate::world::deployment::free_ports;
use crate::world::token::signed_as_is;
use crate::world::{Claims, Handshake, User};

/// The public keys by id, which anybody may know.
const PUBLIC_KEYS: [(&str, &str); 3] = [
    ("rsa", include_str!("../keys/rsa.pub.pem")),
    ("ec", include_str!("../keys/ec.pub.pem")),
    ("ed", include_str!("../keys/ed.pub.pem")),
];

fn claims(user: &User) -> String {
    json!({ "sub": user.id(), "exp": now_s() + 3600 }).to_string()
}

/// A token of a user with this header, correctly signed with this key.
fn signed(user: &User, header: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    signed_as_is(&header.to_string(), &claims(user), algorithm, key)
}

/// The forms in which a public key could be mistaken for a secret.
fn forms(pem: &str) -> Vec<Vec<u8>> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(&base64).expect("a PEM is base64");
    let mut forms: Vec<Vec<u8>> = vec![pem.into(), pem.trim_end().into(), pem.replace('\n', "\r\n").into()];
    forms.extend([base64.into_bytes(), pem.replace('\n', "").into()]);
    // The key without its algorithm identifier: RSA's own form, or the point of a curve.
    for header in [0, 24, 26, 27, 12].into_iter().filter(|header| *header < der.len()) {
        forms.push(der[header..].to_vec());
    }
    let body = STANDARD.encode(&der[24.min(der.len())..]);
    forms.push(format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n").into_bytes());
    forms
}

#[tokio::test]
async fn a_public_key_in_any_form_is_not_a_shared_secret() {
    let secret = "a secret of the deployment's own, long enough";
    for more in [&[][..], &[("JWT_SECRET", secret)]] {
        let Some(local) = trusting(more).await else { return };
        let alice = local.user("alice");
        for (id, pem) in PUBLIC_KEYS {
            for form in forms(pem) {
                let key = EncodingKey::from_secret(&form);
                for header in [json!({ "alg": "HS256", "kid": id }), json!({ "alg": "HS256" })] {
                    let forged = alice.with_token(signed(&alice, &header, Algorithm::HS256, &key));
                    forged.get("/api/group", &[]).await.refused(401, "");
                }
            }
            let key = EncodingKey::from_secret(pem.as_bytes());
            let header = json!({ "alg": "HS256", "kid": id });
            assert_refused(&alice, signed(&alice, &header, Algorithm::HS256, &key)).await;
        }
        local.stop().await;
    }
}

#[tokio::test]
async fn the_algorithm_none_is_refused_in_any_spelling() {
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let key = EncodingKey::from_secret(b"");
    let mut names: Vec<String> = (0..16)
        .map(|bits| {
            let spell = |(n, c): (usize, char)| if bits >> n & 1 == 1 { c.to_ascii_uppercase() } else { c };
            "none".chars().enumerate().map(spell).collect()
        })
        .collect();
    names.extend(["", " none", "none ", "n\u{0}one", "nonе", "HS256,none", "hs256", "Rs256"].map(str::to_owned));
    for name in names {
        let token = signed(&alice, &json!({ "alg": name, "kid": "rsa" }), Algorithm::HS256, &key);
        let (unsigned, _) = token.rsplit_once('.').expect("three parts");
        for token in [format!("{unsigned}."), unsigned.to_owned(), format!("{unsigned}.AA"), token.clone()] {
            alice.with_token(token).get("/api/group", &[]).await.refused(401, "");
        }
        Handshake::of(&alice.with_token(format!("{unsigned}."))).refused().await;
    }
    for alg in [json!(null), json!(["none"]), json!({}), json!(0), json!(false)] {
        let token = signed(&alice, &json!({ "alg": alg }), Algorithm::HS256, &key);
        alice.with_token(token).get("/api/group", &[]).await.refused(401, "");
    }
    local.stop().await;
}

/// Key ids that have a meaning for a file system, a database or a URL, or no meaning.
fn injected() -> Vec<Value> {
    let texts = [
        "",
        " ",
        "RSA",
        "rsa ",
        " rsa",
        "rsa\0",
        "rsa\n",
        "\u{7f}",
        "/dev/null",
        "../../../../../../dev/null",
        "keys/rsa.der",
        "file:///dev/null",
        "' OR '1'='1",
        "x' UNION SELECT 'secret",
        "rsa; DROP TABLE chat",
        "$(id)",
        "`id`",
        "|id",
        "${jndi:ldap://127.0.0.1/a}",
        "http://127.0.0.1/keys",
        "{{7*7}}",
        "*",
        "rsa\",\"kid\":\"ec",
        "__proto__",
        "é",
    ];
    let mut ids: Vec<Value> = texts.map(|text| json!(text)).into();
    ids.extend([json!("k".repeat(3_000)), json!(7), json!(null), json!(["rsa"]), json!({ "rsa": "rsa" }), json!(true)]);
    ids
}

#[tokio::test]
async fn key_ids_outside_the_key_set_are_refused() {
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let known_to_all = EncodingKey::from_secret(b"");
    for id in injected() {
        for (name, algorithm, key) in [
            ("RS256", Algorithm::RS256, rsa()),
            ("EdDSA", Algorithm::EdDSA, ed()),
            ("HS256", Algorithm::HS256, known_to_all.clone()),
        ] {
            let token = signed(&alice, &json!({ "alg": name, "kid": id }), algorithm, &key);
            alice.with_token(token).get("/api/group", &[]).await.refused(401, "");
        }
    }
    assert_accepted(&alice, signed(&alice, &json!({ "alg": "RS256", "kid": "rsa" }), Algorithm::RS256, &rsa())).await;
    local.stop().await;
}

#[tokio::test]
async fn keys_in_a_token_are_ignored() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let theirs = format!("http://{}/keys", listener.local_addr().expect("a bound listener has an address"));
    let Some(local) = trusting(&[]).await else { return };
    let alice = local.user("alice");
    let keys: Value = serde_json::from_str(KEY_SET).expect("the key set is JSON");
    let certificate = STANDARD.encode("a certificate");
    // The attacker's key is in our key set, but under another id.
    for (id, attackers, algorithm, key) in [("rsa", "ed", Algorithm::EdDSA, ed()), ("ed", "ec", Algorithm::ES256, ec())]
    {
        let name = format!("{algorithm:?}");
        let jwk = keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == attackers);
        let mut jwk = jwk.expect("the key").clone();
        jwk["kid"] = json!(id);
        for header in [
            json!({ "alg": name, "kid": id, "jwk": jwk }),
            json!({ "alg": name, "kid": id, "jku": theirs }),
            json!({ "alg": name, "kid": id, "x5u": theirs }),
            json!({ "alg": name, "kid": id, "x5c": [certificate] }),
            json!({ "alg": name, "kid": theirs, "jku": theirs, "x5u": theirs, "jwk": jwk }),
            json!({ "alg": name, "jwk": jwk }),
        ] {
            assert_refused(&alice, signed(&alice, &header, algorithm, &key)).await;
        }
    }
    // With the right key, the other header fields are ignored.
    let header = json!({ "alg": "EdDSA", "kid": "ed", "jku": theirs, "x5u": theirs });
    assert_accepted(&alice, signed(&alice, &header, Algorithm::EdDSA, &ed())).await;
    local.stop().await;
    // A request to the address would wait in the listener's queue.
    let asked = futures::FutureExt::now_or_never(listener.accept());
    assert!(asked.is_none(), "an address in a token was requested: {asked:?}");
}

#[tokio::test]
async fn a_token_with_critical_extensions_is_refused() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let key = EncodingKey::from_secret(alice.deployment().secret.as_bytes());
    for crit in [json!(["exp"]), json!(["b64"]), json!(["http://example.com/unheard-of"]), json!([])] {
        let header = json!({ "alg": "HS256", "crit": crit, "b64": true });
        assert_refused(&alice, signed(&alice, &header, Algorithm::HS256, &key)).await;
    }
    local.stop().await;
}

#[tokio::test]
async fn altered_tokens_are_refused() {
    let alice = User::new("alice");
    let good = alice.token();
    let parts: Vec<&str> = good.split('.').collect();
    for spoilt in [
        format!("{good}="),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{}", parts[2]),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\0"),
        format!("{good}\n"),
        good.replace('.', "%2E"),
        format!("\"{good}\""),
        format!("Bearer {good}"),
        format!("{}.{}.{}", parts[0], parts[1], parts[2].to_uppercase()),
        format!("{}.{}.{}", parts[1], parts[0], parts[2]),
        format!("{}=.{}=.{}=", parts[0], parts[1], parts[2]),
        format!("{}..{}", parts[0], parts[2]),
    ] {
        alice.with_token(spoilt).get("/api/group", &[]).await.refused(401, "");
    }
    // A token that is too long is refused even if it is genuine.
    let padded = |bytes| Claims::of(alice.id()).with("padding", "x".repeat(bytes)).signed(&alice.deployment().secret);
    let (longest, too_long) = (padded(5_900), padded(6_100));
    assert!(longest.len() <= 8 * 1024 && too_long.len() > 8 * 1024, "{} {}", longest.len(), too_long.len());
    alice.with_token(longest).get("/api/group", &[]).await.ok();
    alice.with_token(too_long).get("/api/group", &[]).await.refused(401, "");
}

#[tokio::test]
async fn a_token_with_an_invalid_expiry_is_refused() {
    let alice = User::new("alice");
    let secret = &alice.deployment().secret;
    for end in
        [json!(null), json!("4000000000"), json!(true), json!([4_000_000_000_u64]), json!({}), json!(-1), json!(0)]
    {
        let token = Claims::of(alice.id()).with("exp", end).signed(secret);
        alice.with_token(token).get("/api/group", &[]).await.refused(401, "");
    }
    let early = Claims::of(alice.id()).with("nbf", now_s() + 600).signed(secret);
    alice.with_token(early).get("/api/group", &[]).await.refused(401, "");
}
