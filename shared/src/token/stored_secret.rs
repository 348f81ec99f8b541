//! The secrets of HS256 tokens that Secrets Manager keeps: the current one, and the previous one as long as it has that label.
//! A new secret is picked up without a deployment, and tokens of the previous one stay valid.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use tokio::sync::Mutex;

use super::Secret;
use super::fetches::{Fetches, USABLE_MS};
use crate::clock::Ms;
use crate::config::{DEVELOPMENT_SECRET, MIN_SECRET_BYTES};
use crate::error::{Error, Result};

/// How long secrets are used without another read.
const FRESH_MS: Ms = 15 * 60 * 1000;

/// The labels of the versions that are read.
const STAGES: [&str; 2] = ["AWSCURRENT", "AWSPREVIOUS"];

/// A secret of Secrets Manager.
#[derive(Debug)]
pub(super) struct StoredSecret {
    client: Client,
    arn: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    secrets: Vec<Secret>,
    fetches: Fetches,
}

impl StoredSecret {
    /// Creates the secret with this ARN. Nothing is read yet.
    pub(super) fn new(client: Client, arn: String) -> Self {
        Self { client, arn, known: Mutex::default() }
    }

    /// Reads the secrets, before a token needs them.
    pub(super) async fn load(&self, now: Ms) {
        self.refresh(&mut *self.known.lock().await, now).await;
    }

    /// Returns the secrets, the current one first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if none could be read.
    pub(super) async fn secrets(&self, now: Ms) -> Result<Vec<Secret>> {
        let mut known = self.known.lock().await;
        if !known.fetches.is_younger_than(FRESH_MS, now) {
            self.refresh(&mut known, now).await;
        }
        match known.fetches.is_younger_than(USABLE_MS, now) {
            true => Ok(known.secrets.clone()),
            false => Err(Error::unavailable("reading the secret of the tokens", "it could not be read")),
        }
    }

    /// Reads the secrets again. Returns nothing if they have just been read, or cannot be read.
    pub(super) async fn newer_secrets(&self, now: Ms) -> Option<Vec<Secret>> {
        let mut known = self.known.lock().await;
        self.refresh(&mut known, now).await.then(|| known.secrets.clone())
    }

    /// Reads the secrets, unless it has just been tried. Returns whether it did.
    async fn refresh(&self, known: &mut Known, now: Ms) -> bool {
        if !known.fetches.begin(now) {
            return false;
        }
        match futures::try_join!(self.version(STAGES[0]), self.version(STAGES[1])) {
            Ok((None, _)) => {
                tracing::error!("there is no secret of the tokens with that ARN or name, or it has no current version");
            }
            Ok((current, previous)) => {
                known.secrets = current.into_iter().chain(previous).collect();
                known.fetches.succeed(now);
                return true;
            }
            Err(error) => tracing::error!(error = %error.chain(), "the secret of the tokens could not be read"),
        }
        false
    }

    /// Reads one version, if there is one.
    async fn version(&self, stage: &str) -> Result<Option<Secret>> {
        let call = self.client.get_secret_value().secret_id(&self.arn).version_stage(stage);
        let answer = match Box::pin(call.send()).await {
            Ok(answer) => answer,
            Err(error) => {
                return match error.as_service_error() {
                    Some(GetSecretValueError::ResourceNotFoundException(_)) => Ok(None),
                    _ => Err(Error::unavailable("GetSecretValue", error)),
                };
            }
        };
        let why = match answer.secret_string().map(str::trim) {
            Some(secret) if secret.len() < MIN_SECRET_BYTES => format!("is shorter than {MIN_SECRET_BYTES} bytes"),
            Some(DEVELOPMENT_SECRET) => "is a public secret".to_owned(),
            Some(secret) => return Ok(Some(Secret::of(secret))),
            None => "is not text".to_owned(),
        };
        let why = format!("{stage} {why}");
        if stage == STAGES[0] {
            return Err(Error::unavailable("GetSecretValue", why));
        }
        // It was never used, so nothing is lost without it. It must not keep the current one from being used.
        tracing::warn!(why, "the previous secret of the tokens is left out");
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex as Shared;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use crate::aws::{Clients, http_client};
    use crate::config::Config;
    use crate::error::Error;
    use crate::id::UserId;
    use crate::token::{Verifier, sign};

    use super::super::fetches::{FIRST_PAUSE_MS, PAUSE_MS};
    use super::*;

    const OLD: &str = "the secret of the last year, which is long";
    const NEW: &str = "the secret of this year, which is also long";
    const NEXT: &str = "the secret of the next year, as long as those";

    /// What a service answers: the current and the previous secret, or nothing at all while it is down.
    #[derive(Default)]
    struct Stored {
        versions: [Option<&'static str>; 2],
        is_down: bool,
        reads: usize,
    }

    /// A service that speaks the protocol of Secrets Manager, and a verifier that reads from it.
    async fn service() -> (Verifier, Arc<Shared<Stored>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stored = Arc::new(Shared::new(Stored::default()));
        let served = stored.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        let config = config(&[("JWT_SECRET_ARN", "arn:chat-jwt"), ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &url)]);
        let clients = Clients { config: &config, http: http_client(), metrics: &Arc::default() };
        (Verifier::configured(&clients).unwrap(), stored)
    }

    async fn serve(mut stream: TcpStream, stored: Arc<Shared<Stored>>) {
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains("secretsmanager.GetSecretValue") && request.contains("arn:chat-jwt"), "{request}");
        let answer = {
            let mut stored = stored.lock().unwrap();
            let version = stored.versions[usize::from(request.contains("AWSPREVIOUS"))];
            stored.reads += 1;
            match (stored.is_down, version) {
                (true, _) => return,
                (false, Some(secret)) => ("200 OK", serde_json::json!({ "SecretString": secret })),
                (false, None) => ("400 Bad Request", serde_json::json!({ "__type": "ResourceNotFoundException" })),
            }
        };
        let (status, body) = (answer.0, answer.1.to_string());
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    }

    fn config(variables: &[(&str, &str)]) -> Config {
        let all = [("TABLE_NAME", "t"), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let find = |name: &str| variables.iter().chain(&all).find(|(key, _)| *key == name);
        Config::read(|name| find(name).map(|(_, value)| (*value).to_owned())).unwrap()
    }

    async fn accepts(verifier: &Verifier, secret: &str, now: Ms) -> Result<bool> {
        let signing = config(&[("JWT_SECRET", secret)]).tokens.unwrap();
        // The library compares `exp` with the true time.
        let token = sign(&signing, &UserId::parse("u").unwrap(), 4_000_000_000_000, 60).unwrap();
        match verifier.verify(&token, now).await {
            Ok(_) => Ok(true),
            Err(Error::Unauthorized(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[tokio::test]
    async fn tokens_of_the_current_and_the_previous_secret_are_accepted() {
        let (verifier, stored) = service().await;
        stored.lock().unwrap().versions = [Some(NEW), Some(OLD)];
        verifier.load(0).await;
        for (secret, is_accepted) in [(NEW, true), (OLD, true), (NEXT, false)] {
            assert_eq!(accepts(&verifier, secret, 1).await.unwrap(), is_accepted, "{secret}");
        }
        assert_eq!(stored.lock().unwrap().reads, 2, "both were read once");
    }

    #[tokio::test]
    async fn a_new_secret_is_picked_up_by_its_first_token() {
        let (verifier, stored) = service().await;
        stored.lock().unwrap().versions = [Some(OLD), None];
        assert!(accepts(&verifier, OLD, 0).await.unwrap());
        stored.lock().unwrap().versions = [Some(NEW), Some(OLD)];
        assert!(!accepts(&verifier, NEW, PAUSE_MS - 1).await.unwrap(), "not read again so soon");
        assert!(accepts(&verifier, NEW, PAUSE_MS).await.unwrap());
        assert!(accepts(&verifier, OLD, PAUSE_MS).await.unwrap());
        let reads = stored.lock().unwrap().reads;
        for _ in 0..3 {
            assert!(!accepts(&verifier, NEXT, 2 * PAUSE_MS - 1).await.unwrap());
        }
        assert_eq!(stored.lock().unwrap().reads, reads, "forged tokens do not flood the service");
    }

    #[tokio::test]
    async fn an_old_secret_is_refused_once_it_is_withdrawn() {
        let (verifier, stored) = service().await;
        stored.lock().unwrap().versions = [Some(NEW), Some(OLD)];
        assert!(accepts(&verifier, OLD, 0).await.unwrap());
        stored.lock().unwrap().versions = [Some(NEXT), Some(NEW)];
        assert!(!accepts(&verifier, OLD, FRESH_MS).await.unwrap());
    }

    #[tokio::test]
    async fn secrets_stay_usable_for_a_day_while_the_service_is_down() {
        let (verifier, stored) = service().await;
        *stored.lock().unwrap() = Stored { is_down: true, ..Stored::default() };
        assert!(accepts(&verifier, NEW, 0).await.unwrap_err().is_ours());
        *stored.lock().unwrap() = Stored { versions: [Some(NEW), None], ..Stored::default() };
        assert!(accepts(&verifier, NEW, FIRST_PAUSE_MS - 1).await.unwrap_err().is_ours(), "not read again so soon");
        assert!(accepts(&verifier, NEW, FIRST_PAUSE_MS).await.unwrap());
        stored.lock().unwrap().is_down = true;
        assert!(accepts(&verifier, NEW, FIRST_PAUSE_MS + FRESH_MS).await.unwrap());
        assert!(accepts(&verifier, NEW, FIRST_PAUSE_MS + USABLE_MS).await.unwrap_err().is_ours());
    }

    #[tokio::test]
    async fn a_short_or_public_secret_is_never_used() {
        for secret in ["short", DEVELOPMENT_SECRET] {
            let (verifier, stored) = service().await;
            stored.lock().unwrap().versions = [Some(secret), None];
            assert!(accepts(&verifier, DEVELOPMENT_SECRET, 0).await.unwrap_err().is_ours(), "{secret}");
            // A good one in its place is used, and the bad one still is not.
            stored.lock().unwrap().versions = [Some(NEW), Some(secret)];
            assert!(accepts(&verifier, NEW, PAUSE_MS).await.unwrap());
            assert!(!accepts(&verifier, DEVELOPMENT_SECRET, PAUSE_MS).await.unwrap(), "{secret}");
        }
    }
}
