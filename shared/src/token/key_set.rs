//! The public keys of an identity provider, fetched from its key set (JWKS) and kept.

use std::collections::HashMap;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::clock::Ms;
use crate::error::{Cause, Error, Result};

/// How long keys are used without asking again.
const FRESH_MS: Ms = 60 * 60 * 1000;

/// How long keys are used while the provider cannot be reached.
const USABLE_MS: Ms = 24 * 60 * 60 * 1000;

/// How often the provider is asked at most, so that forged key ids do not make us flood it.
const PAUSE_MS: Ms = 30 * 1000;

/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The largest key set that is read, in bytes, and the most keys that are kept of it.
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;

/// A key set and what is known of it.
#[derive(Debug)]
pub struct KeySet {
    url: String,
    connector: SharedHttpConnector,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    fetched: Option<Ms>,
    asked: Option<Ms>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("keys", &self.keys.len()).field("fetched", &self.fetched).finish()
    }
}

impl Known {
    fn younger_than(&self, age: Ms, now: Ms) -> bool {
        self.fetched.is_some_and(|at| now.saturating_sub(at) < age)
    }

    fn may_ask(&self, now: Ms) -> bool {
        self.asked.is_none_or(|at| now.saturating_sub(at) >= PAUSE_MS)
    }

    fn find(&self, id: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        self.keys.get(id).filter(|(known, _)| *known == algorithm).map(|(_, key)| key.clone())
    }
}

impl KeySet {
    /// The key set at that address. Nothing is fetched yet.
    pub fn new(url: &str) -> Self {
        let connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build();
        Self { url: url.to_owned(), connector: SharedHttpConnector::new(connector), known: Mutex::default() }
    }

    /// The key of that id, if it is one for that algorithm. An unknown id makes us ask the provider again, at most
    /// every 30 seconds: it may have rotated its keys.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the provider has no such key, [`Error::Unavailable`] if no keys could be had at all.
    pub async fn key(&self, id: &str, algorithm: Algorithm, now: Ms) -> Result<DecodingKey> {
        let mut known = self.known.lock().await;
        let key = known.find(id, algorithm);
        if let (Some(key), true) = (&key, known.younger_than(FRESH_MS, now)) {
            return Ok(key.clone());
        }
        if known.may_ask(now) {
            known.asked = Some(now);
            match self.fetch().await {
                Ok(keys) => (known.keys, known.fetched) = (keys, Some(now)),
                Err(error) => tracing::warn!(error = %error.chain(), "the key set could not be fetched"),
            }
        }
        if !known.younger_than(USABLE_MS, now) {
            return Err(Error::unavailable("fetching the key set", "no usable keys"));
        }
        known.find(id, algorithm).ok_or_else(|| Error::Unauthorized("the token's key is not known".to_owned()))
    }

    /// Fetch the keys: no redirects, no more than so many bytes, no longer than so long.
    async fn fetch(&self) -> Result<HashMap<String, (Algorithm, DecodingKey)>> {
        let failed = |cause: Cause| Error::unavailable("fetching the key set", cause);
        let text = tokio::time::timeout(PATIENCE, self.download()).await.map_err(|late| failed(late.into()))?;
        parse(&text.map_err(failed)?).map_err(|error| failed(error.into()))
    }

    async fn download(&self) -> Result<Vec<u8>, Cause> {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(self.url.as_str())?;
        request.headers_mut().insert("accept", "application/json");
        let answer = self.connector.call(request).await?;
        if answer.status().as_u16() != 200 {
            return Err(format!("the provider answered {}", answer.status().as_u16()).into());
        }
        let mut body = ByteStream::new(answer.into_body());
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > MAX_BYTES {
                return Err("the key set is too large".into());
            }
        }
        Ok(bytes)
    }
}

/// The usable keys of a key set, by id. Keys of kinds that we do not know are passed over.
fn parse(text: &[u8]) -> serde_json::Result<HashMap<String, (Algorithm, DecodingKey)>> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<serde_json::Value>,
    }
    let document: Document = serde_json::from_slice(text)?;
    let keys = document.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(|jwk| usable(&jwk)).take(MAX_KEYS).collect())
}

fn usable(jwk: &Jwk) -> Option<(String, (Algorithm, DecodingKey))> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let is_for_signatures = common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let is_for_algorithm = common.key_algorithm.is_none_or(|algorithm| algorithm == named);
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (is_for_signatures && is_for_algorithm).then_some((common.key_id.clone()?, (algorithm, key)))
}
