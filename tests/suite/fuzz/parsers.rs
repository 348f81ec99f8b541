//! Frames and tokens, given to their parsers directly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shared::config::TokenConfig;
use shared::frame::{Body, MAX_FRAME_BYTES, Message, Submission, encode};
use shared::id::{MessageId, RequestId, UserId};
use shared::token::{Identity, Verifier};

use super::mutate::Mutator;
use super::{Findings, INPUTS};
use crate::inside::{SECRET, token};
use crate::world::token::signed_as_is;

pub(super) async fn fuzz(seed: u64) -> Findings {
    let (mut mutator, mut findings) = (Mutator::new(seed), Findings::default());
    let config = TokenConfig {
        secret_arn: None,
        secret: Some(SECRET.to_owned()),
        key_set_url: None,
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(60),
    };
    let verifier = Verifier::new(&config);
    for _ in 0..INPUTS {
        match mutator.below(4) {
            0 | 1 => read_frame(&mut findings, &frame(&mut mutator)),
            2 => spoilt_token(&mut findings, &verifier, &mut mutator).await,
            _ => odd_token(&mut findings, &verifier, &mut mutator).await,
        }
    }
    findings
}

/// A frame, valid or mutated.
pub(super) fn frame(mutator: &mut Mutator) -> String {
    if mutator.in_a_hundred(10) {
        let found = mutator.corpus();
        return if mutator.in_a_hundred(50) { found.to_owned() } else { mutator.text(found) };
    }
    let (kind, to) = *mutator.pick(&[("unicast", "receiverId"), ("multicast", "groupId")]);
    let mut frame = json!({ "type": kind, to: mutator.word(), "content": mutator.value() });
    if mutator.in_a_hundred(60) {
        frame["requestId"] = json!(mutator.word());
    }
    if mutator.in_a_hundred(30) {
        mutator.json(&mut frame);
    }
    let mut text = frame.to_string();
    if mutator.in_a_hundred(10) {
        let hard = mutator.hard_to_read();
        text = text.replacen("\"content\":", &format!("\"content\":{hard},\"more\":"), 1);
    }
    if mutator.in_a_hundred(30) { mutator.text(&text) } else { text }
}

/// Reads a frame. An accepted frame must keep its content unchanged.
fn read_frame(findings: &mut Findings, text: &str) {
    let read = || match Submission::parse(text) {
        Err(refused) if refused.message.is_empty() => Err("refused without a message".to_owned()),
        Err(refused) => named(text, refused.request_id.as_ref().map(RequestId::as_str)).map(|()| "refused"),
        Ok(submission) => carried(text, submission).map(|()| "read"),
    };
    match catch_unwind(read) {
        Ok(Ok(outcome)) => findings.count("frame", outcome),
        Ok(Err(why)) => findings.fault("frame", text, &why),
        Err(_panic) => findings.fault("frame", text, "it panicked"),
    }
}

/// Checks that the error for a JSON frame names its request id.
fn named(text: &str, request_id: Option<&str>) -> Result<(), String> {
    let frame: Value = serde_json::from_str(text).unwrap_or_default();
    // If the name occurs twice or is escaped, the expected id is not clear.
    let plain = frame["requestId"].as_str().filter(|_| text.matches("requestId").count() == 1);
    match plain.filter(|id| (1..=64).contains(&id.len())) {
        Some(expected) if request_id != Some(expected) => Err(format!("refused for {request_id:?}")),
        _ => Ok(()),
    }
}

fn carried(text: &str, submission: Submission<'_>) -> Result<(), String> {
    let content = submission.content.get();
    if text.len() > MAX_FRAME_BYTES || !text.contains(content) || content == "null" {
        return Err(format!("the content was made to be {content}"));
    }
    match serde_json::from_str::<Value>(content) {
        Err(why) if !why.to_string().starts_with("number out of range") => {
            return Err(format!("others cannot read it: {why}"));
        }
        _ => {}
    }
    let message = Message {
        id: MessageId::first_at(0),
        sender: UserId::parse("alice").expect("an id"),
        to: submission.to,
        body: Body::Content(submission.content.to_owned()),
        timestamp: 0,
    };
    // A content cannot break out of its field in the frame.
    let sent = encode(&message);
    let fields: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(&sent).map_err(|why| format!("{why} in {sent}"))?;
    let same = fields.len() == 6 && fields["content"].get() == content && fields["senderId"].get() == r#""alice""#;
    if same { Ok(()) } else { Err(format!("it was sent as {sent}")) }
}

/// The verdict of the verifier, or nothing if it panics.
async fn identify(findings: &mut Findings, verifier: &Verifier, token: &str) -> Option<Option<Identity>> {
    match AssertUnwindSafe(verifier.verify(token, 0)).catch_unwind().await {
        Ok(Ok(identity)) => {
            findings.count("token", "accepted");
            Some(Some(identity))
        }
        Ok(Err(refused)) if refused.is_ours() => {
            findings.fault("token", token, &format!("{refused:?}"));
            None
        }
        Ok(Err(_)) => {
            findings.count("token", "refused");
            Some(None)
        }
        Err(_panic) => {
            findings.fault("token", token, "it panicked");
            None
        }
    }
}

/// A mutated valid token. Only the unchanged text is accepted.
async fn spoilt_token(findings: &mut Findings, verifier: &Verifier, mutator: &mut Mutator) {
    let good = token("alice");
    let spoilt = mutator.text(&good);
    if let Some(Some(identity)) = identify(findings, verifier, &spoilt).await
        && spoilt != good
    {
        findings.fault("token", &spoilt, &format!("{identity:?} by a token that nobody signed"));
    }
}

/// Odd headers and claims, signed with the secret. An accepted token must mean what it says.
async fn odd_token(findings: &mut Findings, verifier: &Verifier, mutator: &mut Mutator) {
    let mut header = json!({ "alg": "HS256", "typ": "JWT" });
    let mut claims = json!({ "sub": mutator.word(), "exp": 4_000_000_000_u64 });
    for document in [&mut header, &mut claims] {
        if mutator.in_a_hundred(50) {
            mutator.json(document);
        }
    }
    if mutator.in_a_hundred(20) && header.is_object() {
        header[mutator.word()] = mutator.value();
    }
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let odd = signed_as_is(&header.to_string(), &claims.to_string(), Algorithm::HS256, &key);
    let Some(Some(identity)) = identify(findings, verifier, &odd).await else { return };
    let is_right = header["alg"] == "HS256"
        && header["crit"] == Value::Null
        && claims["sub"] == identity.user.as_str()
        && claims["exp"].is_number();
    if !is_right {
        findings.fault("token", &format!("{header} {claims}"), &format!("{identity:?}"));
    }
}
