//! The public keys of an identity provider, fetched from its key set (JWKS) and cached.

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

use super::fetches::{Fetches, USABLE_MS};
use crate::clock::Ms;
use crate::error::{Cause, Error, Result};

/// How long keys are used without another fetch.
const FRESH_MS: Ms = 60 * 60 * 1000;

/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The largest key set that is read, in bytes, and the most keys of it that are kept.
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;

/// A key set, and the keys of it that are known.
#[derive(Debug)]
pub(super) struct KeySet {
    url: String,
    connector: SharedHttpConnector,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    fetches: Fetches,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("keys", &self.keys.len()).field("fetches", &self.fetches).finish()
    }
}

impl Known {
    fn find(&self, id: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        self.keys.get(id).filter(|(known, _)| *known == algorithm).map(|(_, key)| key.clone())
    }
}

impl KeySet {
    /// Creates the key set of an address. Nothing is fetched yet.
    pub(super) fn new(url: &str) -> Self {
        let connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build();
        Self { url: url.to_owned(), connector: SharedHttpConnector::new(connector), known: Mutex::default() }
    }

    /// Returns the key with this id and algorithm. For an unknown id the keys are fetched again, at most every 30
    /// seconds, because the provider may have rotated them.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the provider has no such key. [`Error::Unavailable`] if no usable keys could be
    /// fetched.
    pub(super) async fn key(&self, id: &str, algorithm: Algorithm, now: Ms) -> Result<DecodingKey> {
        let mut known = self.known.lock().await;
        let key = known.find(id, algorithm);
        if let (Some(key), true) = (&key, known.fetches.is_younger_than(FRESH_MS, now)) {
            return Ok(key.clone());
        }
        self.refresh(&mut known, now).await;
        if !known.fetches.is_younger_than(USABLE_MS, now) {
            return Err(Error::unavailable("fetching the key set", "no usable keys"));
        }
        known.find(id, algorithm).ok_or_else(|| Error::Unauthorized("the token's key is not known".to_owned()))
    }

    /// Fetches the keys, before a token needs them.
    pub(super) async fn load(&self, now: Ms) {
        self.refresh(&mut *self.known.lock().await, now).await;
    }

    /// Fetches the keys, unless it has just been tried.
    async fn refresh(&self, known: &mut Known, now: Ms) {
        if known.fetches.begin(now) {
            match self.fetch().await {
                Ok(keys) => {
                    known.keys = keys;
                    known.fetches.succeed(now);
                }
                Err(error) => tracing::warn!(error = %error.chain(), "the key set could not be fetched"),
            }
        }
    }

    /// Fetches the keys, without redirects, within limits of size and time.
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

/// Returns the usable keys of a key set, by id. Keys of unknown kinds are skipped.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::fetches::{FIRST_PAUSE_MS, PAUSE_MS};
    use super::*;

    /// Starts a provider that answers each request with the next of `answers`, and repeats the last. It counts
    /// requests.
    async fn provider(answers: &'static [&'static str]) -> (KeySet, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answers[counter.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)];
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (KeySet::new(&url), asked)
    }

    macro_rules! keys {
        ($($id:literal),*) => {
            concat!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\":[",
                $("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"sig\",\"kid\":\"", $id,
                  "\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},",)* "{\"kty\":\"unknown\"}]}")
        };
    }

    async fn has(keys: &KeySet, id: &str, now: Ms) -> bool {
        keys.key(id, Algorithm::EdDSA, now).await.is_ok()
    }

    #[tokio::test]
    async fn keys_are_fetched_once_and_again_when_they_rotate() {
        let (keys, asked) = provider(&[keys!("old"), keys!("old", "new")]).await;
        assert!(has(&keys, "old", 0).await && has(&keys, "old", PAUSE_MS).await);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(!has(&keys, "new", PAUSE_MS - 1).await, "the provider is not asked again so soon");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(has(&keys, "new", PAUSE_MS).await);
        assert!(!has(&keys, "forged", PAUSE_MS + 1).await);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "forged key ids do not flood the provider");
    }

    #[tokio::test]
    async fn a_key_is_for_its_own_algorithm() {
        let (keys, _) = provider(&[keys!("ed")]).await;
        assert!(keys.key("ed", Algorithm::RS256, 0).await.is_err());
        assert!(keys.key("ed", Algorithm::EdDSA, 0).await.is_ok());
    }

    #[tokio::test]
    async fn keys_stay_usable_for_a_day_while_the_provider_is_down() {
        let (keys, asked) = provider(&[keys!("key"), "HTTP/1.1 503 Down\r\nconnection: close\r\n\r\n"]).await;
        assert!(has(&keys, "key", 0).await);
        assert!(has(&keys, "key", FRESH_MS).await);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert!(matches!(keys.key("key", Algorithm::EdDSA, USABLE_MS).await, Err(Error::Unavailable { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_from_a_silent_provider_times_out() {
        // The answer begins, and never ends.
        let (keys, asked) = provider(&["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"]).await;
        let began = tokio::time::Instant::now();
        assert!(matches!(keys.key("key", Algorithm::EdDSA, 0).await, Err(Error::Unavailable { .. })));
        assert!(began.elapsed() <= PATIENCE);
        assert!(matches!(keys.key("key", Algorithm::EdDSA, FIRST_PAUSE_MS - 1).await, Err(Error::Unavailable { .. })));
        assert!(asked.load(Ordering::SeqCst) <= 1, "and not asked again so soon");
    }

    #[tokio::test]
    async fn a_shared_key_in_a_key_set_is_skipped() {
        // `k` is a secret, but a key set is public.
        let shared = r#"{"keys":[{"kty":"oct","kid":"key","alg":"HS256","use":"sig","k":"c2VjcmV0"}]}"#;
        assert!(parse(shared.as_bytes()).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_moved_huge_or_invalid_key_set_is_refused() {
        let huge: &'static str =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", " ".repeat(MAX_BYTES + 1)).leak();
        let moved = "HTTP/1.1 302 Found\r\nlocation: /other\r\nconnection: close\r\n\r\n";
        let wrong = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[]";
        for answer in [moved, huge, wrong] {
            let (keys, asked) = provider(vec![answer].leak()).await;
            assert!(matches!(keys.key("key", Algorithm::EdDSA, 0).await, Err(Error::Unavailable { .. })));
            assert_eq!(asked.load(Ordering::SeqCst), 1, "and redirects are not followed");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_key_set_makes_it_panic(
            edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0_u8..128), 0..4),
        ) {
            let mut text = include_bytes!("../../../tests/keys/jwks.json").to_vec();
            for (place, byte) in edits {
                let place = place.index(text.len());
                text[place] = byte;
            }
            let _ = parse(&text);
        }
    }
}
