//! Tokens, signed as an identity provider signs them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::clock::now_s;

/// The claims of a token, before it is signed.
pub(crate) struct Claims(Value);

impl Claims {
    /// The claims of a user, valid for an hour.
    pub(crate) fn of(user: &str) -> Self {
        Self(json!({"sub": user, "exp": now_s() + 3600}))
    }

    /// Sets the value of one claim.
    pub(crate) fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.0[claim] = value.into();
        self
    }

    /// Removes one claim.
    pub(crate) fn without(mut self, claim: &str) -> Self {
        self.0.as_object_mut().expect("claims are an object").remove(claim);
        self
    }

    /// Signs with a shared secret by HS256. Every deployment with that secret accepts the token.
    pub(crate) fn signed(&self, secret: &str) -> String {
        self.signed_by(&Header::new(Algorithm::HS256), &EncodingKey::from_secret(secret.as_bytes()))
    }

    /// Signs with any algorithm and key.
    pub(crate) fn signed_by(&self, header: &Header, key: &EncodingKey) -> String {
        jsonwebtoken::encode(header, &self.0, key).expect("claims are JSON and the key is of the algorithm")
    }

    /// Signs with a key of the set in `tests/keys`, under its id.
    pub(crate) fn signed_with_key(&self, algorithm: Algorithm, key_id: &str, key: &EncodingKey) -> String {
        let header = Header { kid: Some(key_id.to_owned()), ..Header::new(algorithm) };
        self.signed_by(&header, key)
    }
}

/// A correctly signed token whose header and claims are any text.
pub(crate) fn signed_as_is(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).expect("the key is of the algorithm");
    format!("{signed}.{signature}")
}
