//! Access tokens, which identify the caller.
//!
//! They are JSON Web Tokens, signed with HS256 by a shared secret, or with RS256, ES256 or EdDSA by a key of a key set
//! (JWKS). The algorithm alone decides between secret and key set, and only these four are accepted. So a public key is
//! never used as a secret, and `none` is refused. HS256 signatures are compared in constant time.

mod fetches;
mod key_set;
mod stored_secret;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::aws::Clients;
use crate::clock::Ms;
use crate::config::TokenConfig;
use crate::error::{Error, Result};
use crate::id::UserId;

use key_set::KeySet;
use stored_secret::StoredSecret;

/// The longest token that is accepted, in bytes. It fits into a URL.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The user of a token, and the end of its validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub user: UserId,
    /// The token's `exp` plus the leeway.
    pub expires_at: Ms,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Verifier {
    secret: Option<Secrets>,
    key_set: Option<KeySet>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway_seconds: u64,
}

/// The secrets of HS256 tokens.
#[derive(Debug)]
enum Secrets {
    /// One from the environment.
    Given(Secret),
    /// Those that Secrets Manager has.
    Stored(StoredSecret),
}

/// A key whose `Debug` hides it.
#[derive(Clone)]
struct Secret(DecodingKey);

impl Secret {
    fn of(secret: &str) -> Self {
        Self(DecodingKey::from_secret(secret.as_bytes()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The claims that are read here. The library checks `exp`, `nbf`, `iss` and `aud`.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds. The specification allows a fraction.
    exp: f64,
}

impl Verifier {
    /// Creates the verifier of the configuration, if tokens are configured. Keys are fetched when they are first needed.
    pub fn configured(clients: &Clients<'_>) -> Option<Self> {
        let config = clients.config.tokens.as_ref()?;
        let mut verifier = Self::new(config);
        if let Some(arn) = &config.secret_arn {
            verifier.secret = Some(Secrets::Stored(StoredSecret::new(clients.secrets(), arn.clone())));
        }
        Some(verifier)
    }

    /// Creates a verifier of tokens with the given secret, or keys of a key set.
    pub fn new(config: &TokenConfig) -> Self {
        Self {
            secret: config.secret.as_deref().map(|secret| Secrets::Given(Secret::of(secret))),
            key_set: config.key_set_url.as_deref().map(KeySet::new),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway_seconds: config.leeway.as_secs(),
        }
    }

    /// Fetches the keys, before the first token needs them. What fails is logged.
    pub async fn load(&self, now: Ms) {
        let secrets = async {
            if let Some(Secrets::Stored(stored)) = &self.secret {
                stored.load(now).await;
            }
        };
        let keys = async {
            if let Some(key_set) = &self.key_set {
                key_set.load(now).await;
            }
        };
        futures::join!(secrets, keys);
    }

    /// Verifies a token and returns the caller's identity.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for a token that is malformed, forged, expired, or for another issuer or audience.
    /// [`Error::Unavailable`] if its key could not be fetched.
    pub async fn verify(&self, token: &str, now: Ms) -> Result<Identity> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::Unauthorized("the token is too long".to_owned()));
        }
        let header = jsonwebtoken::decode_header(token).map_err(refused)?;
        // RFC 7515 requires a refusal of unknown critical extensions. The library does not check this, and none are
        // known.
        if header.crit.is_some() {
            return Err(Error::Unauthorized("the token has critical extensions".to_owned()));
        }
        let claims = match (header.alg, &self.secret, &self.key_set) {
            (Algorithm::HS256, Some(Secrets::Given(secret)), _) => self.decode(token, &secret.0, header.alg),
            (Algorithm::HS256, Some(Secrets::Stored(stored)), _) => {
                let claims = self.decode_by_any(token, &stored.secrets(now).await?);
                // The secret may have been changed.
                match claims.as_ref().is_err_and(is_by_another_key) {
                    true => match stored.newer_secrets(now).await {
                        Some(secrets) => self.decode_by_any(token, &secrets),
                        None => claims,
                    },
                    false => claims,
                }
            }
            (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA, _, Some(key_set)) => {
                let id = header.kid.as_deref();
                let id = id.ok_or_else(|| Error::Unauthorized("the token names no key".to_owned()))?;
                self.decode(token, &key_set.key(id, header.alg, now).await?, header.alg)
            }
            (algorithm, _, _) => return Err(Error::Unauthorized(format!("{algorithm:?} is not accepted here"))),
        };
        let claims = claims.map_err(refused)?;
        self.identity(&claims)
    }

    /// Decodes a token that one of the secrets has signed.
    fn decode_by_any(&self, token: &str, secrets: &[Secret]) -> jsonwebtoken::errors::Result<Claims> {
        let mut outcome = Err(ErrorKind::InvalidSignature.into());
        for secret in secrets {
            outcome = self.decode(token, &secret.0, Algorithm::HS256);
            if !outcome.as_ref().is_err_and(is_by_another_key) {
                break;
            }
        }
        outcome
    }

    fn decode(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> jsonwebtoken::errors::Result<Claims> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway_seconds;
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        jsonwebtoken::decode::<Claims>(token, key, &validation).map(|decoded| decoded.claims)
    }

    fn identity(&self, claims: &Claims) -> Result<Identity> {
        let user = UserId::parse(&claims.sub).map_err(|why| Error::Unauthorized(format!("sub {why}")))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, as it should")]
        let expires_at = (claims.exp * 1000.0) as Ms;
        Ok(Identity { user, expires_at: expires_at.saturating_add(self.leeway_seconds * 1000) })
    }
}

/// Returns whether another key may have signed the token.
fn is_by_another_key(error: &jsonwebtoken::errors::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidSignature)
}

/// Says for the log why a token is refused.
fn refused(error: jsonwebtoken::errors::Error) -> Error {
    Error::Unauthorized(match error.kind() {
        ErrorKind::InvalidSignature => "the token was signed with another secret or key".to_owned(),
        ErrorKind::ExpiredSignature => "the token has expired (exp)".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no {claim}"),
        ErrorKind::InvalidIssuer => "the token is of another issuer (iss)".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience (aud)".to_owned(),
        _ => format!("the token cannot be read: {error}"),
    })
}

/// Signs a token for `user` with the configured secret, valid for `lifetime_seconds`. The local stack uses it.
///
/// # Errors
/// [`Error::BadRequest`] without a secret.
pub fn sign(config: &TokenConfig, user: &UserId, now: Ms, lifetime_seconds: u64) -> Result<String> {
    #[derive(Serialize)]
    struct Issued<'a> {
        sub: &'a UserId,
        iat: u64,
        exp: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        iss: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aud: Option<&'a str>,
    }
    let secret =
        config.secret.as_ref().ok_or_else(|| Error::field("JWT_SECRET", "is not set, so no token can be signed"))?;
    let iat = now / 1000;
    let issued = Issued {
        sub: user,
        iat,
        exp: iat.saturating_add(lifetime_seconds),
        iss: config.issuer.as_deref(),
        aud: config.audience.as_deref(),
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &issued, &EncodingKey::from_secret(secret.as_bytes()))
        .map_err(|error| Error::unavailable("signing a token", error))
}

#[cfg(test)]
mod tests;
